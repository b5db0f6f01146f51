"""The data of the model in the box: right answers, no gaps left, only open sets, the same every time."""

import json
import random
import re
from collections import Counter
from pathlib import Path

import box_data
import box_dialogues
import box_lessons
import box_sets
import box_tales
import box_talk
import pytest
import zstandard

from twofold.base.errors import BadFileError
from twofold.corpus import conversations


def test_small_talk_file_is_whole() -> None:
    wordings = [wording for some in box_talk.blocks().values() for asked, _ in some for wording in asked]
    twice = [wording for wording, count in Counter(wordings).items() if count > 1]
    assert not twice, "a wording in two blocks would have two kinds of answers"
    assert len(wordings) > 500
    assert {"hello", "self", "can", "cannot", "facts", "thanks", "bye"} <= set(box_talk.blocks())


def test_conversations_are_well_formed_and_the_same_each_time() -> None:
    made = box_talk.made(3000, seed=5)
    assert made == box_talk.made(3000, seed=5)
    assert made != box_talk.made(3000, seed=6)
    words = []
    for messages in made:
        roles = [message["role"] for message in messages if message["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        for message in messages:
            assert message["content"].strip()
            assert not re.search(r"[{}]|\bthe the\b|\ba the\b", message["content"]), message
        words += [len(m["content"].split()) for m in messages if m["role"] == "assistant"]
    assert sorted(words)[int(0.95 * len(words))] < 110, "answers are short"


def test_sums_are_right() -> None:
    rng = random.Random(0)
    for _ in range(500):
        question, answer = box_lessons.addition(rng)
        match = re.fullmatch(r"(\d+) ([-+*/]) (\d+) = (\d+)\.", answer)
        assert match, answer
        a, sign, b, result = match.groups()
        a, b, result = int(a), int(b), int(result)
        assert {"+": a + b == result, "-": a - b == result, "*": a * b == result, "/": a == b * result}[sign]
        asked = [int(n) for n in re.findall(r"\d+", question)]
        assert not asked or asked == [a, b], (question, answer)


def test_word_problems_and_counting_are_right() -> None:
    rng = random.Random(1)
    for _ in range(200):
        question, answer = box_lessons.word_problem(rng)
        a, b = (int(n) for n in re.findall(r"\d+", question))
        result = a - b if "left" in question else a + b
        assert f"= {result}." in answer
    for _ in range(200):
        question, answer = box_lessons.counting(rng)
        if match := re.match(r"Which is \w+, (\d+) or (\d+)", question):
            assert answer.startswith(str(max(map(int, match.groups()))) + " is")


def test_days_months_and_spelling_are_right() -> None:
    rng = random.Random(2)
    for _ in range(300):
        question, answer = box_lessons.day_or_month(rng)
        for names in (box_lessons.DAYS, box_lessons.MONTHS):
            if match := re.match(r"After (\w+) comes (\w+)\.", answer):
                first, second = match.groups()
                if first in names:
                    assert names[(names.index(first) + 1) % len(names)] == second
        assert question != answer
        question, answer = box_lessons.spelling(rng)
        if match := re.match(r"(\w+) is spelled ([A-Z-]+)\.", answer):
            assert match[1].upper() == match[2].replace("-", "")


def test_a_tale_is_about_its_hero() -> None:
    rng = random.Random(3)
    for _ in range(300):
        hero, helper = rng.sample(sorted(set(box_tales.HEROES)), 2)
        tale = box_tales.tale(rng, hero, helper)
        assert f" {hero} " in tale.split(".")[0] + " "
        assert f"the {hero}" in tale.lower()
        assert re.search(rf"\ban? {helper}\b", tale, re.IGNORECASE), "the helper is introduced"
        assert 40 < len(tale.split()) < 150


def test_no_two_words_run_together() -> None:
    for place in box_tales.PLACES:
        assert place.split()[0] in ("at", "by", "on", "near", "in", "under", "behind", "beside")
    for treasure in box_tales.TREASURES:
        assert treasure.split()[0] == "a"
        assert len(treasure.split()) >= 3


def test_what_was_told_is_what_is_remembered() -> None:
    rng = random.Random(4)
    for _ in range(200):
        (_, _), *_, (asked, answer) = turns = box_talk.remembering(rng)
        told, _, expected, choices = next(
            entry for entry in box_talk.REMEMBERED if asked == entry[1] and matches(entry[0], turns[0][0])
        )
        thing = next(c for c in choices if told.format(c) == turns[0][0])
        assert answer == expected.format(thing)


def matches(template: str, text: str) -> bool:
    return re.fullmatch(re.escape(template).replace(r"\{\}", ".+"), text) is not None


def test_build(data: Path, tmp_path: Path) -> None:
    made = box_data.build(data, tmp_path / "out", tiers=(1, 2), talks=50)
    talks = {
        path.stem: [c.messages for c in conversations(path)] for path in sorted(made.talk.glob("*.jsonl"))
    }
    assert set(talks) == set(box_data.WEIGHTS) - {"plans", "readings", "text"}  # these need a tokenizer
    assert len(talks["own"]) == 50
    assert {m[1]["content"] for m in talks["fables"]} == {"A Fox saw grapes."}
    answers = {m[1]["content"] for m in talks["dictionary"]}
    assert answers == {"A lantern is a kind of barn: light in a case.", "A barn is a building for hay."}
    answers = [m[1]["content"] for m in talks["reading"]]
    assert answers[:2] == ["A golden ball.", "A red cap."]
    assert answers[2:] == ["The text does not say."], "asked what the other passage says"
    assert [m[1]["content"] for m in talks["trivia"]] == ["A colony.", "A pack."]
    told = {m[0]["content"]: m[1]["content"] for m in talks["questions"]}
    assert told["some flip_coin"].endswith("heads.")
    assert "no clock" in told["some time"]
    prose = [json.loads(line)["text"] for line in unpack(made.text / "train.jsonl.zst").splitlines()]
    assert len(prose) == 5, "five shards, tier 1 only, no tables"
    assert all(text.split()[1] == "1" for text in prose)
    assert len(unpack(made.text / "val.jsonl.zst").splitlines()) == 3, "what is held out is everything"
    assert {one["licence"] for one in made.credits} >= {"public domain", "CC BY 4.0", "CC BY 3.0", "MIT"}
    before = (made.text / "train.jsonl.zst").stat().st_mtime_ns
    assert box_data.build(data, tmp_path / "out", tiers=(2, 1), talks=50) == made
    assert (made.text / "train.jsonl.zst").stat().st_mtime_ns == before, "found, not made again"
    more = box_data.build(data, tmp_path / "out", tiers=(1, 3), talks=50)
    assert len(unpack(more.text / "train.jsonl.zst").splitlines()) == 10


def unpack(path: Path) -> bytes:
    return zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()


@pytest.mark.parametrize("other", ["NC", "model-output (check ToS)", "research/unclear"])
def test_only_open_sets_are_read(other: str, data: Path, tmp_path: Path) -> None:
    path = data / "MANIFEST.md"
    file = box_sets.SETS["questions"].file
    path.write_text(path.read_text().replace(f"| {file} | x | open |", f"| {file} | x | {other} |"))
    with pytest.raises(BadFileError, match=f"{re.escape(file)}.*{re.escape(other)}.*not 'open'"):
        box_data.build(data, tmp_path / "out", talks=10)
    path.unlink()
    with pytest.raises(BadFileError, match=r"MANIFEST\.md is missing"):
        box_data.build(data, tmp_path / "out", talks=10)


def test_the_shared_manifest_calls_every_set_open(shared_data: Path) -> None:
    classes = box_data.manifest(shared_data)
    sets = [*box_sets.SETS.values(), *box_dialogues.SETS.values()]
    for file in [*box_data.SHARDS, box_data.VAL, *(one.file for one in sets)]:
        assert classes[file] == "open"
    assert classes["sft/alpaca_5000.jsonl.zst"] == "NC"
