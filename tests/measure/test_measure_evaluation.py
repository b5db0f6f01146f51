"""Benchmarks: which questions are asked, what is kept, and scores computed by hand from the reference."""

import gzip
import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from tiny_models import random_model

from twofold import parameters, run
from twofold.base.errors import BadFileError, UsageError
from twofold.measure import evaluation, records
from twofold.measure.evaluation import Answers, evaluate, prepare
from twofold.measure.items import aggregate
from twofold.measure.likelihood import Scorer
from twofold.measure.tasks import bbh, gsm8k, triviaqa
from twofold.run import Engine

HEAD = {"model": "tiny", "fingerprint": "0", "context": 128}
ARC = [
    {
        "query": "Question: Who sounds the horn?",
        "choices": ["the captain", "a gull", "nobody at all"],
        "gold": 0,
    },
    {"query": "Question: What is grey?", "choices": ["bread", "the sea in winter"], "gold": 1},
    {"query": "Question: Where is the market?", "choices": ["on the other shore", "here", "x"], "gold": 0},
    {"query": "Question: What do children count?", "choices": ["boats", "oranges and thyme"], "gold": 0},
]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    parameters.save_gguf(random_model("qwen3"), path, "F32")
    return path


@pytest.fixture(scope="module")
def engine(path: Path) -> Engine:
    return run.load(path, threads=1, sequences=4)


def written(folder: Path, name: str, lines: list[dict[str, Any]]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return folder


# --- scores


def test_scores_of_hand_made_items_against_the_numpy_reference(path: Path, tmp_path: Path) -> None:
    data = written(tmp_path / "eval", "arc_easy", ARC).parent
    report = evaluate(run.load(path, threads=1, sequences=3), prepare("arc_easy", data), Answers(HEAD))
    slow = Scorer(run.load(path, threads=1, backend="numpy"))
    plain, normed = [], []
    for item in ARC:
        ln_p = []
        for choice in item["choices"]:  # one by one, in a model that shares nothing
            ids, more = slow.pair(f"{item['query']}\nAnswer:", f" {choice}")
            row = slow.engine.forward(
                [*ids, *more], [0] * len([*ids, *more]), list(range(len([*ids, *more])))
            )
            total = 0.0
            for at, token in enumerate(more, len(ids) - 1):
                total += row[at][token] - math.log(sum(math.exp(float(x)) for x in row[at]))
            ln_p.append(total)
        best = max(range(len(ln_p)), key=ln_p.__getitem__)
        by_length = [one / len(choice) for one, choice in zip(ln_p, item["choices"], strict=True)]
        plain.append(float(best == item["gold"]))
        normed.append(float(max(range(len(ln_p)), key=by_length.__getitem__) == item["gold"]))
    assert [one["acc"] for one in report.grades] == plain
    assert [one["acc_norm"] for one in report.grades] == normed
    assert report.scores["acc"].value == pytest.approx(sum(plain) / 4)
    assert report.chance == pytest.approx((1 / 3 + 1 / 2 + 1 / 3 + 1 / 2) / 4)
    assert list(report.scores) == ["acc_norm", "acc"]


def test_means_errors_and_perplexity_by_hand() -> None:
    assert aggregate("acc", [1.0, 0.0, 0.0, 1.0, 1.0]) == pytest.approx((0.6, math.sqrt(0.3 / 5)))
    value, error = aggregate("perplexity", [1.0, 2.0, 3.0])
    assert value == pytest.approx(math.exp(2.0))
    assert error == pytest.approx(math.exp(2.0) * math.sqrt(1.0 / 3))
    assert aggregate("acc", [1.0]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("said", "strict", "flexible"),
    [
        ("3 times 4 is 12.\n#### 12", 1, 1),
        ("so #### 12.", 1, 1),
        ("It is $12", 0, 1),
        ("First 12, then 13.", 0, 0),
        ("#### 1,2", 1, 1),
        ("#### -12", 0, 0),
        ("twelve", 0, 0),
    ],
)
def test_the_number_at_the_end_of_a_problem(said: str, strict: float, flexible: float) -> None:
    (problem,) = gsm8k.items({"question": "?", "answer": "3*4\n#### 12"}, "gsm8k_test")
    assert problem.grade(said) == {"strict": strict, "flexible": flexible}


@pytest.mark.parametrize(("said", "right"), [(" The Horn", 1), ("fog-horn", 1), ("a horn", 0), ("", 0)])
def test_trivia_has_aliases(said: str, right: float) -> None:
    (item,) = triviaqa.items(triviaqa.SAMPLE, "triviaqa_sm_sub")
    assert item.grade(said) == {"exact_match": right}


# --- questions


def test_a_sample_takes_as_many_of_each_group(tmp_path: Path) -> None:
    lines = [
        {"UID": uid, "good": f"{uid} {n} good", "bad": "x", "term": uid[0]}
        for uid, count in (("a1", 5), ("a2", 1), ("b1", 5))
        for n in range(count)
    ]
    task = prepare("blimp", written(tmp_path, "blimp", lines), limit=6)
    assert [q.item.text for q in task.questions] == [
        "a1 0 good", "a1 1 good", "a1 2 good", "a2 0 good", "b1 0 good", "b1 1 good",
    ]  # fmt: skip
    assert len(prepare("blimp", tmp_path).questions) == 11


def test_worked_examples_are_drawn_anew_for_each_question(tmp_path: Path) -> None:
    lines = [{"question": f"Q{n}?", "answer": f"A\n#### {n}"} for n in range(40)]
    written(tmp_path / "rl", "gsm8k_train", lines)
    written(tmp_path / "eval", "gsm8k_test", [{"question": "Last?", "answer": "#### 1"}] * 3)
    task = prepare("gsm8k", tmp_path)
    generator = random.Random(1234)
    for question in task.questions:
        drawn = generator.sample(range(40), 5)
        expected = "".join(f"Question: Q{n}?\nAnswer: A\n#### {n}\n\n" for n in drawn)
        assert question.before == expected
    assert task.questions[0].before != task.questions[1].before


def test_the_first_examples_of_the_subject(tmp_path: Path) -> None:
    def of(subject: str, n: int) -> dict[str, Any]:
        return {"subject": subject, "question": f"{subject} {n}", "choices": list("wxyz"), "answer": "C"}

    written(tmp_path, "mmlu_dev_fewshot", [of(s, n) for n in range(6) for s in ("sea_law", "tides")])
    written(tmp_path, "mmlu_test_sample", [of("tides", 99)])
    (question,) = prepare("mmlu", tmp_path, shots=2).questions
    head = "The following are multiple choice questions (with answers) about tides.\n\n"
    example = "tides {}\nA. w\nB. x\nC. y\nD. z\nAnswer: C\n\n"
    assert question.before == head + example.format(0) + example.format(1)
    with pytest.raises(UsageError, match="6 worked examples, not 7"):
        prepare("mmlu", tmp_path, shots=7)


def test_a_question_is_not_its_own_example(tmp_path: Path) -> None:
    task = prepare("arc_easy", written(tmp_path, "arc_easy", ARC), shots=3)
    for question in task.questions:
        assert question.before.count("\n\n") == 3
        assert question.item.worked() not in question.before
    with pytest.raises(UsageError, match="3 worked examples, not 4"):
        prepare("arc_easy", tmp_path, shots=4)


def test_the_harness_offers_every_letter_of_a_kind() -> None:
    (item,) = bbh.items({"task": "navigate", "input": "Back?", "target": "No"}, "bbh")
    assert (item.choices, item.gold, item.head[-6:]) == (("Yes", "No"), 1, "point.")
    assert bbh.items({"task": "word_sorting", "input": "b a", "target": "a b"}, "bbh") == []


# --- files


def test_files_are_found_whole_or_compressed(tmp_path: Path) -> None:
    zstandard = pytest.importorskip("zstandard")
    text = "".join(json.dumps(line) + "\n" for line in ARC).encode()
    (tmp_path / "eval").mkdir()
    for name, data in (
        ("arc_easy.jsonl.gz", gzip.compress(text)),
        ("piqa.jsonl.zst", zstandard.compress(text)),
    ):
        (tmp_path / "eval" / name).write_bytes(data)
        path = records.find(tmp_path, name.partition(".")[0])
        assert path is not None
        assert [record for _, record in records.read(path)] == ARC
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(BadFileError, match="damaged or cut off"):
            list(records.read(path))
    assert records.find(tmp_path, "boolq") is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"query": "Q"}\n', "line 1: this is no record of arc_easy"),
        (json.dumps(ARC[0]) + "\n{\n", "line 2: this is not JSON"),
        ("[1]\n", "line 1: this is not a JSON object"),
        ("", "hold no item"),
    ],
)
def test_bad_files_are_told_by_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "arc_easy.jsonl").write_text(text)
    with pytest.raises(BadFileError, match=message):
        prepare("arc_easy", tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"needs the file piqa\.jsonl"):
        prepare("piqa", tmp_path)
    with pytest.raises(UsageError, match="Did you mean 'piqa'"):
        prepare("piaq", tmp_path)


# --- answers that are kept


def test_kept_answers_are_not_asked_again(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written(tmp_path / "eval", "arc_easy", ARC).parent
    file, seen = tmp_path / "answers.jsonl", []
    first = evaluate(engine, prepare("arc_easy", data), Answers(HEAD, file), seen.append)
    assert seen == [0, 4]
    monkeypatch.setattr(Scorer, "likelihoods", lambda *_: pytest.fail("everything was answered"))
    assert evaluate(engine, prepare("arc_easy", data), Answers(HEAD, file)) == first
    with pytest.raises(UsageError, match="another model or window"):
        Answers({**HEAD, "fingerprint": "1"}, file)


def test_what_was_answered_before_an_interruption_stays(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written(
        tmp_path / "eval", "arc_easy", [{**ARC[0], "query": f"Question: {n}"} for n in range(20)]
    ).parent
    file, whole = tmp_path / "answers.jsonl", evaluate(engine, prepare("arc_easy", data), Answers(HEAD))
    likelihoods, calls = Scorer.likelihoods, []

    def interrupted(self: Scorer, pairs: Any) -> Any:
        calls.append(len(pairs))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return likelihoods(self, pairs)

    monkeypatch.setattr(Scorer, "likelihoods", interrupted)
    with pytest.raises(KeyboardInterrupt):
        evaluate(engine, prepare("arc_easy", data), Answers(HEAD, file))
    assert len(file.read_text().splitlines()) == 1 + 8
    with open(file, "a") as stream:  # and a line that kill -9 cut off
        stream.write('{"key": "0123", "ta')
    answers = Answers(HEAD, file)
    assert len(answers.kept) == 8
    resumed = evaluate(engine, prepare("arc_easy", data), answers)
    assert resumed.grades == whole.grades
    assert sum(calls[2:]) == 12 * 3
    assert len(file.read_text().splitlines()) == 1 + 20


def test_written_answers_are_kept_and_graded(engine: Engine, tmp_path: Path) -> None:
    lines = [{**triviaqa.SAMPLE, "context": f"Question: Who is {n}?\nAnswer:"} for n in range(6)]
    data = written(tmp_path, "triviaqa_sm_sub", lines)
    task, file = prepare("triviaqa", data), tmp_path / "answers.jsonl"
    report = evaluate(engine, task, Answers(HEAD, file))
    texts = [json.loads(line)["text"] for line in file.read_text().splitlines()[1:]]
    assert len(texts) == 6
    assert not any(stop in text for text in texts for stop in ("\n", ".", ","))
    assert evaluate(engine, task, Answers(HEAD, file)) == report


@pytest.mark.parametrize("text", ["", "no JSON\n", '{"a": 1}\n', '[1]\n{"key": 3}\n'])
def test_a_foreign_file_is_left_alone(tmp_path: Path, text: str) -> None:
    file = tmp_path / "mine.txt"
    file.write_text(text)
    with pytest.raises(BadFileError, match="no answers of twofold eval"):
        Answers(HEAD, file)
    assert file.read_text() == text


def test_a_fingerprint_tells_models_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 5_000_000)
    (tmp_path / "b").write_bytes(b"x" * 4_999_999 + b"y")
    marks = {evaluation.fingerprint(tmp_path / name) for name in ("a", "b")}
    assert len({*marks, evaluation.fingerprint(tmp_path)}) == 3
