"""Models by name: loaded when asked for, unloaded when others need the memory."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import serve
from tiny_models import random_model

from twofold import parameters, run
from twofold.base.errors import UsageError
from twofold.serve.models import Models
from twofold.serve.refusals import Refusal
from twofold.serve.settings import Settings


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the paths of three models of the same size."""
    paths = []
    for n, name in enumerate(("one", "two", "three")):
        path = tmp_path_factory.mktemp("models") / f"{name}.gguf"
        parameters.save_gguf(random_model("qwen3", seed=n, context=1024), path, "F32")
        paths.append(str(path))
    return paths


@pytest.fixture
def room_for_two(three: list[str]) -> Iterator[Models]:
    """Return models of which two fit into the memory."""
    alone = Models(three, Settings(threads=1, slots=2))
    asyncio.run(alone.load("one"))
    need = alone.loaded()[0].bytes
    asyncio.run(alone.close())
    models = Models(three, Settings(threads=1, slots=2, memory_gb=2.5 * need / 1e9))
    yield models
    asyncio.run(models.close())


def loaded(models: Models) -> list[str]:
    return sorted(served.name for served in models.loaded())


def test_who_was_not_used_for_longest_goes(room_for_two: Models) -> None:
    async def play() -> None:
        for name in ("one", "two"):
            await room_for_two.load(name)
        async with room_for_two.use("one"):
            pass
        await room_for_two.load("three")

    asyncio.run(play())
    assert loaded(room_for_two) == ["one", "three"]


def test_who_is_answering_stays(room_for_two: Models) -> None:
    async def play() -> None:
        async with room_for_two.use("one"):
            await room_for_two.load("two")
            await room_for_two.load("three")
            assert loaded(room_for_two) == ["one", "three"]
            async with room_for_two.use("three"):
                with pytest.raises(Refusal, match="no memory for two") as caught:
                    await room_for_two.load("two")
                assert caught.value.status == 503
            await room_for_two.load("two")

    asyncio.run(play())
    assert loaded(room_for_two) == ["one", "two"]


def test_many_ask_at_once_and_it_is_loaded_once(three: list[str]) -> None:
    models = Models(three, Settings(threads=1, slots=2))

    async def play() -> None:
        found = await asyncio.gather(*(models.open("two") for _ in range(8)))
        assert len({id(served) for served in found}) == 1
        assert found[0].users == 8
        for served in found:
            served.release()
        assert await models.unload("two")
        assert not await models.unload("two")

    asyncio.run(play())


def test_slots_and_then_the_context_shrink_with_the_memory(three: list[str]) -> None:
    def size(memory_gb: float) -> tuple[int, int]:
        models = Models(three, Settings(threads=1, slots=16, memory_gb=memory_gb))
        asyncio.run(models.load("one"))
        engine = models.loaded()[0].engine
        asyncio.run(models.close())
        return engine.sequences, engine.context

    weights = Path(three[0]).stat().st_size / 1e9
    assert size(1.0) == (16, 1024)
    fewer, context = size(weights + 0.002)
    assert 1 < fewer < 16
    assert context == 1024
    assert size(weights) == (1, 512)


def test_names(three: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    models = Models(three)
    assert models.names() == ["one", "two", "three"]
    assert models.resolve(None)[0] == "one"
    assert models.resolve("two:latest")[0] == "two"
    with pytest.raises(Refusal, match="Did you mean 'three'"):
        models.resolve("tree")
    with pytest.raises(UsageError, match="There is no model"):
        Models(["nothing"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "model.gguf").symlink_to(three[0])
    assert Models().names() == ["box", "mine"]
    assert Models(["mine"]).names() == ["mine"]


def test_a_model_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 64)
    models = Models([str(tmp_path / "broken.gguf")])
    with pytest.raises(Exception, match="broken"):
        asyncio.run(models.load("broken"))
    assert models.loaded() == []


def test_a_model_that_is_there_need_not_wait_for_one_that_is_loaded(
    three: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    models, release = Models(three, Settings(threads=1, slots=2)), threading.Event()

    async def play() -> None:
        await models.load("one")
        monkeypatch.setattr(run, "load", lambda *_, **__: release.wait(30) and None)
        loading = asyncio.create_task(models.load("two"))
        await asyncio.sleep(0.05)
        assert (await asyncio.wait_for(models.open("one"), 5)).name == "one"
        release.set()
        with pytest.raises(AttributeError):
            await loading
        await models.close()

    asyncio.run(play())


def test_a_model_that_stopped_by_itself_is_loaded_anew(three: list[str]) -> None:
    ask = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    with serve(three[0]) as running:
        assert running.post("/v1/chat/completions", ask).status_code == 200
        running.served("one").batcher.close()
        assert running.post("/v1/chat/completions", ask).status_code == 503
        assert running.post("/v1/chat/completions", ask).status_code == 200
