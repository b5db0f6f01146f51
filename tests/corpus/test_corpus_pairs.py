"""Pair files: the forms that people have, what is said about bad lines, and the split by prompt."""

import json

import pytest

from twofold.base.errors import BadFileError, UsageError
from twofold.corpus.pairs import pairs, prepare_pairs
from twofold.tokens import Tokenizer

USER = {"role": "user", "content": "Is it late?"}
YES, NO = ({"role": "assistant", "content": text} for text in ("Yes.", "No."))
TOKENIZER = Tokenizer.train(["user assistant yes no what is it"], 320)


def write(path, records):
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in records))
    return str(path)


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Is it late?", "chosen": "Yes.", "rejected": "No."},
        {"prompt": [USER], "chosen": [YES], "rejected": [NO]},
        {"prompt": [USER], "chosen": YES, "rejected": " No. "},
        {"chosen": [USER, YES], "rejected": [USER, NO]},
        {"prompt": "Is it late? ", "chosen": [USER, YES], "rejected": [USER, NO], "score_chosen": 8},
        {"prompt": [USER], "chosen": [{**YES, "weight": 1}], "rejected": [{**NO, "weight": 1}]},
    ],
)
def test_all_common_forms_are_one_pair(record, tmp_path):
    (found,) = pairs(write(tmp_path / "a.jsonl", [record]))
    assert (found.messages, found.chosen, found.rejected) == ([USER], YES, NO)
    assert found.where.endswith("line 1")
    (again,) = pairs(write(tmp_path / "b.jsonl", [found.record()]))
    assert again.record() == found.record()


def test_turns_before_the_prompt_are_kept_and_not_learned(tmp_path):
    before = [{"role": "system", "content": "Be short."}, USER, YES, {"role": "user", "content": "Really?"}]
    record = {"chosen": [*before, YES], "rejected": [*before, NO]}
    (found,) = pairs(write(tmp_path / "a.jsonl", [record]))
    assert found.messages == before
    assert [m.get("weight", 1) for m in found.conversation().messages] == [1, 1, 0, 1, 1]


BAD = [
    ({"prompt": "a", "rejected": "b"}, "no answer in the field `chosen` (the line has prompt, rejected)"),
    ({"prompt": "a", "chosen": "b", "rejected": ""}, "no answer in the field `rejected`"),
    ({"chosen": "b", "rejected": "c"}, "no `prompt`, and `chosen` holds no conversation"),
    ({"chosen": [USER, YES], "rejected": [{**USER, "content": "Why?"}, NO]}, "prompts of `chosen` and"),
    ({"prompt": "Why?", "chosen": [USER, YES], "rejected": [USER, NO]}, "does not begin with the `prompt`"),
    ({"prompt": "a", "chosen": [USER], "rejected": [NO]}, "no message of the assistant"),
    ({"prompt": [USER, YES], "chosen": [USER], "rejected": [NO]}, "does not end with a turn of"),
    ({"prompt": "a", "chosen": "b", "rejected": "b "}, "are the same"),
    ({"prompt": "a", "chosen": 5, "rejected": "b"}, "`chosen` must be text or messages, not int"),
    ({"prompt": [], "chosen": [YES], "rejected": [NO]}, "`prompt` must be text or a list"),
    ({"prompt": [{"role": "robot", "content": "a"}], "chosen": "b", "rejected": "c"}, "needs a `role`"),
    ({"chosen": [YES, YES], "rejected": [YES, NO]}, None),
    ("{broken", "not JSON"),
    ("[1]", "expected an object, found list"),
    ({"prompt": "a" * 600, "chosen": "b", "rejected": "c"}, "too long, "),
]  # fmt: skip


def test_every_bad_line_is_told_by_number_and_reason(tmp_path):
    good = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(3)]
    records = [one for one, reason in BAD if reason is not None]
    reasons = [reason for _, reason in BAD if reason is not None]
    data = write(tmp_path / "bad.jsonl", [*records, *good])
    how = dict(tokenizer=TOKENIZER, context=200)
    for number, (record, reason) in enumerate(zip(records, reasons, strict=True)):
        one = write(tmp_path / f"{number}.jsonl", [good[0], record, good[1]])
        with pytest.raises(BadFileError, match=f"{number}.jsonl, line 2") as caught:
            prepare_pairs([one], tmp_path / f"p{number}", **how)
        assert reason in str(caught.value)
    with pytest.raises(BadFileError, match=rf"(?s){len(records)} lines are not pairs .* line 1: .*more"):
        prepare_pairs([data], tmp_path / "p", **how)
    found = prepare_pairs([data], tmp_path / "q", bad_lines="skip", **how)
    assert len(found.train) + len(found.val) == 3
    assert "line 1: no answer" in found.about["skipped"][0]


def test_pairs_of_one_prompt_stay_together_and_parts_do_not_meet(tmp_path):
    records = [{"prompt": f"{n % 60}?", "chosen": f"yes {n}", "rejected": "no"} for n in range(240)]
    data = write(tmp_path / "a.jsonl", records)
    found = prepare_pairs([data], tmp_path / "p", tokenizer=TOKENIZER, context=99, keep_back=0.5)
    texts = {name: [one.messages[0]["content"] for one in pairs(tmp_path / "p" / f"{name}.jsonl")]
             for name in ("val", "judge")}  # fmt: skip
    seen = {TOKENIZER.decode(found.train.texts(n)[0]).split("user\n")[1].split("<")[0]
            for n in range(len(found.train))}  # fmt: skip
    assert not seen & set(texts["val"])
    assert not seen & set(texts["judge"])
    assert not set(texts["val"]) & set(texts["judge"])
    assert len(texts["judge"]) == found.kept_back
    assert 0.25 < found.kept_back / 240 < 0.6
    assert len(found.train) + len(found.val) + found.kept_back == 240
    assert len(seen) + len(set(texts["val"])) + len(set(texts["judge"])) == 60
    again = prepare_pairs([data], tmp_path / "p", tokenizer=TOKENIZER, context=99)
    assert (again.train.ids == found.train.ids).all()
    prompt, chosen, rejected = found.train.texts(1)
    end = TOKENIZER.special_id("<|im_end|>")
    assert chosen[-1] == rejected[-1] == end
    assert TOKENIZER.decode(prompt).endswith("<|im_start|>assistant\n")


def test_one_prompt_is_not_enough_and_few_keep_nothing_back(tmp_path):
    one = write(tmp_path / "one.jsonl", [{"prompt": "a", "chosen": c, "rejected": "z"} for c in "bcd"])
    with pytest.raises(BadFileError, match="pairs for 1 prompts, and two are needed"):
        prepare_pairs([one], tmp_path / "p", tokenizer=TOKENIZER, context=99)
    two = write(tmp_path / "two.jsonl", [{"prompt": p, "chosen": "b", "rejected": "z"} for p in "ac"])
    found = prepare_pairs([two], tmp_path / "q", tokenizer=TOKENIZER, context=99, keep_back=None)
    assert (len(found.train), len(found.val), found.kept_back) == (1, 1, 0)
    with pytest.raises(UsageError, match=r"pairs are read from .jsonl"):
        list(pairs(str(tmp_path / "two.txt")) if (tmp_path / "two.txt").write_text("a") else [])


def test_held_out_pairs_can_come_from_files_of_their_own(tmp_path):
    records = [{"prompt": f"{n}?", "chosen": "yes", "rejected": "no"} for n in range(12)]
    data = write(tmp_path / "a.jsonl", records)
    val = write(tmp_path / "b.jsonl", [*records[9:], {"prompt": "else?", "chosen": "yes", "rejected": "no"}])
    found = prepare_pairs([data], tmp_path / "p", tokenizer=TOKENIZER, context=99, val=[val])
    assert len(found.train) == 9  # what is held out there is not learned from here
    assert {one.messages[0]["content"] for one in found.held_out()} == {"9?", "10?", "11?", "else?"}
    assert [one["path"] for one in found.about["sources"]] == [data, val]
