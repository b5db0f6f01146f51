"""Conversations that programs write: well formed, true, of many wordings, and nothing held out is learned."""

import random
import re
from collections.abc import Callable
from fractions import Fraction

import box_calls
import box_data
import box_recalls
import box_rounds
import box_sums
import box_tools
import box_unknown
import box_words
import pytest
from box_turns import Talk, right, spelled

from twofold.environments._sums import evaluate

PROGRAMS = {name: program for name, (program, _) in box_data.PROGRAMS.items()}
PAGER = re.compile(r"\[(From|Said) earlier.*?\]\n\n", re.DOTALL)  # what it says may have brackets


def some(program: Callable[..., Talk], count: int = 120, side: str = "train", seed: int = 0) -> list[Talk]:
    rng = random.Random(seed)
    return [program(rng, side) for _ in range(count)]


@pytest.mark.parametrize("name", PROGRAMS)
@pytest.mark.parametrize("side", ["train", "test"])
def test_form(name: str, side: str) -> None:
    """A conversation file takes them; each answer is right by its own measure; no gap is left open."""
    for talk in some(PROGRAMS[name], side=side):
        conversation = talk.conversation()
        assert conversation.messages[-1]["role"] == "assistant"
        for message in talk.messages:
            said = PAGER.sub("", message["content"])
            assert not set("[|") & set(said) or "|---" in said or message["role"] == "tool"
            if message["role"] == "user":
                assert "{" not in message["content"], message
            if message["role"] == "assistant":
                assert "must" in message or message["tool_calls"]
                assert right(message, spelled(message)), message
                assert not right(message, "Bananas.") or not message.get("must", True)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_same_seed_gives_the_same(name: str) -> None:
    assert some(PROGRAMS[name], 20, seed=4) == some(PROGRAMS[name], 20, seed=4)
    assert some(PROGRAMS[name], 20, seed=4) != some(PROGRAMS[name], 20, seed=5)


def test_calls_name_tools_on_offer_with_their_arguments() -> None:
    kinds = set()
    for talk in some(box_calls.talk, 400) + some(box_rounds.talk, 60):
        offered = {tool.name: tool for tool in talk.tools.values()}
        for call in (call for message in talk.messages for call in message.get("tool_calls", ())):
            parameters = offered[call["name"]].schema["function"]["parameters"]
            assert set(call["arguments"]) == set(parameters["required"])
            types = {"string": str, "integer": int, "number": (int, float), "array": list, "boolean": bool}
            for key, given in call["arguments"].items():
                assert isinstance(given, types[parameters["properties"][key]["type"]])
            kinds.add(offered[call["name"]].kind)
    assert kinds == {*box_calls.KINDS, "plot", "calculator"}


def test_a_tool_has_many_names() -> None:
    rng = random.Random(0)
    for kind, described in box_tools.KINDS.items():
        names = {box_tools.tool(rng, kind).name for _ in range(100)}
        assert names == set(described.names)


def test_sums_come_out_right() -> None:
    asked = 0
    for talk in some(box_sums.talk, 400):
        for call, got, answer in zip(talk.messages, talk.messages[1:], talk.messages[2:], strict=False):
            if call.get("tool_calls"):
                (expression,) = call["tool_calls"][0]["arguments"].values()
                value = evaluate(expression)[0]
                assert abs(Fraction(got["content"]) - value) <= Fraction(1, 10**6)
                assert got["content"] in answer["content"]
                asked += 1
        if not talk.tools and "=" in talk.messages[-1]["content"]:
            left, result = talk.messages[-1]["content"].rstrip(".").split(" = ")
            assert evaluate(left)[0] == int(result)
    assert asked > 200


def test_every_story_means_what_its_sum_says() -> None:
    """The numbers of the sum stand in the story, and the result is not negative."""
    rng = random.Random(1)
    for side in ("train", "test"):
        for _ in range(300):
            text, inner, unit = box_sums.told(rng, side)
            value, numbers = evaluate(inner) if "/ 0" not in inner else (Fraction(0), [])
            if unit:
                assert value >= 0, (text, inner)
                words = box_words.re.findall(r"\d+", text)
                assert all(str(number) in words for number in numbers), (text, inner)


def test_the_demo_tells_what_the_page_says() -> None:
    rng = random.Random(2)
    for _ in range(40):
        talk = box_rounds.demo(rng, whole=True)
        contents = [message["content"] for message in talk.messages]
        assert sum(bool(m.get("tool_calls")) for m in talk.messages) >= 5
        table = contents[3]
        rows = [
            [cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line[:1] == "|"
        ]
        assert len(rows) >= 6
        page = contents[2].replace(".0", "")
        for row in rows[2:]:
            assert row[0] in page
            assert row[2].removesuffix(".0") in page
            assert row[3] == "?" or row[3] in page
        plot = next(c for m in talk.messages for c in m.get("tool_calls", ()) if len(c["arguments"]) == 4)
        lists = [given for given in plot["arguments"].values() if isinstance(given, list)]
        assert len(lists[0]) == len(lists[1]) == len(rows) - 2, "missing valuations were guessed before"
        assert lists[0] == sorted(lists[0])


def test_a_grammar_counts_and_draws() -> None:
    pattern = "[a|b[c|d|]] x[|, please]"
    assert box_words.count(pattern) == 8
    rng = random.Random(0)
    assert {box_words.expand(rng, pattern) for _ in range(300)} == {
        f"{start} x{end}" for start in ("a", "bc", "bd", "b") for end in ("", ", please")
    }
    assert box_words.expand(rng, "[{n}|{n}] {things}", n=3, things="[x]") == "3 [x]", (
        "fields are not patterns"
    )


def test_what_is_empty_leaves_no_gap_and_articles_fit() -> None:
    rng = random.Random(0)
    assert box_words.expand(rng, "[|] b [|] .") == "b."
    assert box_words.expand(rng, "{p}: {q}", p="One.  Two .", q="x") == "One.  Two .: x", "fields stay"
    mended = box_words.articles("A apple, a pear, a old man, a one, a uniform.")
    assert mended == "An apple, a pear, an old man, a one, a uniform."


def test_there_are_thousands_of_wordings_and_those_held_out_are_others() -> None:
    lists = [name for name in box_words._sections() if not name.startswith("list ")]
    total = 0
    for name in lists:
        found = box_words.wordings(name)
        assert not set(found.train) & set(found.test)
        total += sum(box_words.count(pattern) for pattern in found.train)
    assert total > 5000


def test_names_are_held_out_by_their_hash() -> None:
    rng = random.Random(3)
    for side in ("train", "test"):
        for _ in range(50):
            assert box_words.held_out(box_words.name(rng, box_words.company, side)) == (side == "test")
    assert box_words.held_out("Quartz AI") == box_words.held_out("quartz ai")


def test_rounding() -> None:
    assert box_sums.rounded("6.361667") == "6.4"
    assert box_sums.rounded("32") == "32"
    assert box_sums.rounded("0.05") == "0.1"
    assert box_sums.rounded("-2.25", 0) == "-2"


def test_what_was_said_long_ago_is_recalled_in_the_pagers_words() -> None:
    talks = some(box_recalls.talk, 200)
    asked = [talk.messages[-2]["content"] for talk in talks]
    answers = [talk.messages[-1] for talk in talks]
    known = [answer["must"] != [box_unknown.NOT_KNOWN] for answer in answers]
    back = [text.startswith("[From earlier:\n(p") for text in asked]
    assert 120 < sum(known) < 190
    assert sum(back) > 100
    for talk, knows, text, answer in zip(talks, known, asked, answers, strict=True):
        shown = " ".join(message["content"] for message in talk.messages[:-1])
        if knows:
            assert answer["must"][0] in shown
            assert answer["must"][0] not in PAGER.sub("", text), "the question does not tell"
        assert right(answer, answer["content"])
