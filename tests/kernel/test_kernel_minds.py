"""Minds: a model here that calls under a grammar, goes on where it was preempted, and shares prefixes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kernel_parts import One, program

from twofold.base.errors import BadFileError, UsageError
from twofold.kernel.brief import Teller
from twofold.kernel.minds import Turn, find
from twofold.kernel.minds.local import Local
from twofold.kernel.policy import Rules
from twofold.kernel.running import fitting
from twofold.kernel.system import System
from twofold.run import load
from twofold.run.box import path as box

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds. " + "It does so with great care. " * 40,
        "parameters": {
            "type": "object",
            "properties": {"n": {"type": "integer"}},
            "required": ["n"],
            "additionalProperties": False,
        },
    },
}
ASKED = [{"role": "user", "content": "What is the capital of France?"}]


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    mind = Local(load(box(), sequences=4, context=512))
    yield mind
    mind.close()


def test_a_call_that_is_required_is_well_formed(local: Local) -> None:
    said = local.say(Turn(ASKED, fitting(local, [TOOL]), choice="required", max_tokens=40))
    assert [call.name for call in said.calls] == ["add"] * len(said.calls)
    assert all(isinstance(json.loads(call.arguments)["n"], int) for call in said.calls)
    assert said.calls


def test_what_was_preempted_is_gone_on_with_as_if_nothing_had_been(local: Local) -> None:
    whole = local.say(Turn(ASKED, max_tokens=12))
    steps = 0

    def third() -> bool:
        nonlocal steps
        steps += 1
        return steps == 3

    broken = local.say(Turn(ASKED, max_tokens=12, cancelled=third))
    assert (broken.finish, len(broken.begun)) == ("cancelled", 3)
    assert local.say(Turn(ASKED, max_tokens=12, begun=broken.begun)).text == whole.text


def test_forks_share_what_was_read_before_they_parted(local: Local, tmp_path: Path) -> None:
    shared = Local(local.engine, local.batcher)
    found = System(tmp_path, minds=lambda name: shared, devices={}, policy=Rules())
    pid = found.spawn(program("Tell me about rivers. " * 10, stays=True))
    found.run(seconds=60)

    def said(pid: int) -> list[dict[str, int]]:
        return [event.body["tokens"] for event in found.events(pid) if event.kind == "said"]

    (read,) = said(pid)
    assert read["prompt"] > 60
    forks = [found.fork(pid, said=word) for word in ("And lakes?", "And seas?")]
    found.run(seconds=60)
    for fork in forks:
        before, after = said(fork)
        assert before == read
        assert read["prompt"] <= after["cached"] < after["prompt"]
    found.close()


def test_to_a_small_window_functions_are_told_in_a_line(local: Local) -> None:
    tools = [TOOL, *({"function": {**TOOL["function"], "name": f"add_{n}"}} for n in range(90))]
    teller = Teller(local.engine.tokenizer, local.context)
    told, schemas = teller.told(ASKED, tools[:1])
    assert schemas is None
    assert "\nadd(n: integer): Adds.\n" in told[0]["content"]
    assert told[1:] == ASKED
    small = [{"function": {**TOOL["function"], "description": "Adds."}}]
    assert Teller(local.engine.tokenizer, 4096).told(ASKED, small) == (ASKED, small)
    brief = fitting(local, tools)
    assert 1 < len(brief) < len(tools)
    assert local.count(ASKED, brief) <= local.context // 2 + 20
    assert fitting(local, []) == []


def test_names_find_minds(tmp_path: Path) -> None:
    script = tmp_path / "replies.json"
    script.write_text('["Hello."]')
    mind = find(f"script:{script}")
    assert mind.say(Turn([])).text == "Hello."
    script.write_text("{}")
    with pytest.raises(BadFileError, match="must be a list"):
        find(f"script:{script}")
    with pytest.raises(UsageError):
        find("no-such-model-anywhere")


def test_a_mind_elsewhere_counts_money(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from twofold.kernel import kernels
    from twofold.kernel.elsewhere import End
    from twofold.kernel.minds import elsewhere
    from twofold.tokens.speech import Call, Piece

    folder = tmp_path / "twofold"
    folder.mkdir()
    (folder / "kernels.toml").write_text(
        '[gpt]\nfamily = "openai"\nmodel = "m"\nurl = "https://localhost/v1"\ncontext = 4096\n'
        "price_in = 2.0\nprice_out = 10.0\n"
    )
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))

    class Stream:
        def __init__(self, kernel: object, chat: object) -> None:
            pass

        async def begin(self) -> None:
            pass

        async def __aiter__(self):  # type: ignore[no-untyped-def]
            yield Piece("text", "Let me see.")
            yield Piece("call", call=Call("add", '{"n": 1}'))
            yield End(prompt_tokens=1000, tokens=100)

        def close(self) -> None:
            pass

    monkeypatch.setattr(kernels, "Stream", Stream)
    mind = find("gpt")
    assert isinstance(mind, elsewhere.Elsewhere)
    said = mind.say(Turn(ASKED, [TOOL]))
    assert (said.text, said.calls[0].name, said.money) == ("Let me see.", "add", 0.003)
    assert mind.say(Turn(ASKED, cancelled=lambda: True)).finish in ("stop", "cancelled")
    assert mind.context == 4096


def test_a_devices_name_alone_is_its_functions_name() -> None:
    from twofold.kernel.device import named

    assert list(named({"one": One("one", lambda *_: 1)})) == ["one"]
