"""Tuning: packed conversations do not see each other, mixtures keep their shares, adapters, ending early."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from small_runs import Stop, broken_at, records, settings, write_text  # noqa: E402
from tiny_models import random_model  # noqa: E402

from twofold.base.errors import BadFileError, UsageError  # noqa: E402
from twofold.corpus import Conversation, prepare_conversations  # noqa: E402
from twofold.parameters import load, save_gguf  # noqa: E402
from twofold.run import batch  # noqa: E402
from twofold.run import load as open_engine  # noqa: E402
from twofold.run.reference import Reference  # noqa: E402
from twofold.train import FinetuneConfig, finetune, pretrain, rehearsal, resume  # noqa: E402
from twofold.train.adapters import Adapted  # noqa: E402
from twofold.train.data import IGNORED, Batch, Conversations, Mixture  # noqa: E402
from twofold.train.export import from_model, to_model  # noqa: E402
from twofold.train.finetune import epochs_for  # noqa: E402
from twofold.train.folder import read_recipe  # noqa: E402
from twofold.train.parent import open_parent  # noqa: E402
from twofold.train.patience import best, scores  # noqa: E402
from twofold.train.step import gradients  # noqa: E402
from twofold.train.talk import names, prepare  # noqa: E402


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    text = write_text(tmp_path_factory.mktemp("text"))
    return pretrain(settings(text, tmp_path_factory.mktemp("run") / "base"))


def talk(path, pairs):
    with open(path, "w") as file:
        for question, answer in pairs:
            turns = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"messages": turns}) + "\n")
    return str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("talk")
    dogs = talk(folder / "dogs.jsonl", [(f"dog {n}?", "the dog runs") for n in range(30)])
    trees = talk(folder / "trees.jsonl", [(f"tree {n}?", "a tree") for n in range(10)])
    return dogs, trees


def tuning(base, data, out, **changes):
    given = dict(
        model=base.folder, data=data, out=out, steps=24, batch=2, threads=1, compute="float32",
        checkpoint_steps=5, eval_every=6, prompts=("dog?",), patience=0,
    )  # fmt: skip
    return FinetuneConfig(**{**given, **changes})


def row(*conversations, context=64):
    """Return a batch of one row that holds these conversations (ids, targets of their second half)."""
    ids = np.zeros((1, context), np.int64)
    targets = np.full((1, context), IGNORED, np.int64)
    documents = np.zeros((1, context), np.int64)
    at = 0
    for number, tokens in enumerate(conversations, 1):
        size, half = len(tokens), len(tokens) // 2
        ids[0, at : at + size] = tokens
        targets[0, at + half : at + size - 1] = tokens[half + 1 :]
        documents[0, at : at + size] = number
        at += size
    return Batch(ids, targets, documents)


def test_packed_conversations_do_not_see_each_other(base):
    net = from_model(open_parent(base.folder))
    rng = np.random.default_rng(0)
    first, second, other = (rng.integers(0, 288, size).tolist() for size in (20, 30, 20))

    def logits(batch, at, size):
        with torch.no_grad():
            found = net.logits(torch.from_numpy(batch.ids), torch.from_numpy(batch.documents))
        return found[0, at : at + size].numpy()

    packed, alone = row(first, second), row(second)
    np.testing.assert_allclose(logits(packed, 20, 30), logits(alone, 0, 30), atol=2e-5)
    # Another neighbour changes nothing, to the last bit.
    assert (logits(packed, 20, 30) == logits(row(other, second), 20, 30)).all()
    blind = Batch(packed.ids, packed.targets, np.ones_like(packed.documents))
    assert np.abs(logits(blind, 20, 30) - logits(alone, 0, 30)).max() > 1e-2

    def gradient(batch):
        net.zero_grad(set_to_none=True)
        gradients(net, batch, 1)
        return {name: p.grad.numpy() * batch.counted for name, p in net.named().items()}

    both, one, two = gradient(packed), gradient(row(first)), gradient(alone)
    for name in both:
        np.testing.assert_allclose(both[name], one[name] + two[name], atol=2e-4, err_msg=name)


def test_a_row_of_a_corpus_is_packed_so(base, files, tmp_path):
    tokenizer = load(base.model).tokenizer
    corpus = prepare_conversations([files[0]], tmp_path / "c", tokenizer=tokenizer)
    end = tokenizer.special_id("<|endoftext|>")
    data = Conversations(corpus.train, corpus.train_mask, context=64, rows=3, seed=0, separator=end)
    batch = data.batch(0)
    start = tokenizer.special_id("<|im_start|>")
    for ids, documents in zip(batch.ids, batch.documents, strict=True):
        borders = np.flatnonzero(np.diff(documents, prepend=0) == 1)
        assert len(borders) == documents.max() > 1
        assert (ids[borders] == start).all()


def shares(data, of, epochs):
    """Return the share of each kind among the tokens that so many epochs read."""
    sizes = np.array([end - start for start, end in data.spans])
    kinds = np.array([of(start) for start, _ in data.spans])
    read = np.concatenate([data.order(epoch) for epoch in range(epochs)])
    return np.bincount(kinds[read], sizes[read]) / sizes[read].sum(), np.bincount(read, minlength=len(sizes))


def test_a_mixture_keeps_its_shares_and_reads_everything(base, files, tmp_path):
    tokenizer = load(base.model).tokenizer
    parts = []
    for path in files:
        corpus = prepare_conversations([path], tmp_path / path[-9:], tokenizer=tokenizer)
        parts.append((np.array(corpus.train), np.array(corpus.train_mask)))
    border = len(parts[0][0])
    how = dict(context=64, rows=2, separator=tokenizer.special_id("<|endoftext|>"))
    data = Mixture(parts, [1, 3], seed=5, **how)
    found, times = shares(data, lambda start: int(start >= border), epochs=12)
    assert found == pytest.approx([0.25, 0.75], abs=0.05)
    few = times[: sum(start < border for start, _ in data.spans)]
    assert few.max() - few.min() <= 1  # all are read equally often
    assert few.min() >= 1
    again, other = Mixture(parts, [1, 3], seed=5, **how), Mixture(parts, [1, 3], seed=6, **how)
    assert (again.batch(7).ids == data.batch(7).ids).all()
    assert (other.batch(7).ids != data.batch(7).ids).any()


def test_every_file_is_a_kind_with_its_line_in_the_comparison(base, files, tmp_path):
    result = finetune(tuning(base, files, tmp_path / "m", weights=(1.0, 3.0), steps=60, val_fraction=0.2))
    changes = read_recipe(result.folder).result["changes"]
    assert [change["name"] for change in changes] == ["dogs", "trees", "general text"]
    assert all(change["after"] < 0.7 * change["before"] for change in changes[:2])
    assert load(result.model).card["scores"][0]["name"] == "bits per byte, dogs"
    assert "general text" in (result.folder / "card.md").read_text()
    assert (result.folder / "corpus" / "trees" / "val.jsonl").read_text().count("\n") >= 1
    assert names(["a/x.jsonl", "b/x.jsonl.gz", "y.jsonl"]) == ["x", "x-2", "y"]


def test_a_prepared_folder_of_text_is_a_kind_all_of_whose_tokens_count(base, files, tmp_path):
    engine = open_engine(base.model, threads=1, sequences=16)
    text = rehearsal.own_text(engine, tmp_path / "prose", seed=3, source="a")
    how = {"weights": (1.0, 1.0), "steps": 4, "val_fraction": 0.2}
    result = finetune(tuning(base, [files[0], str(text.folder)], tmp_path / "m", **how))
    assert not (result.folder / "corpus" / "prose").exists(), "it is read where it lies"
    recipe = read_recipe(result.folder)
    assert recipe.settings["data"] == [files[0], str(text.folder)]
    talk = prepare(
        tuning(base, [files[0], str(text.folder)], tmp_path / "n", **how), tmp_path / "n",
        engine.tokenizer, 64, lambda _: None,
    )  # fmt: skip
    assert list(talk.kinds) == ["dogs", "prose"]
    assert np.array_equal(talk.kinds["prose"].train, text.train)


def test_adapters_begin_as_the_model_and_are_merged_at_the_end(base, files, tmp_path, monkeypatch):
    parent = open_parent(base.folder)
    plain, adapted = from_model(parent), from_model(parent, kind=Adapted)
    adapted.adapt(4, seed=0)
    ids = torch.tensor([[5, 6, 7, 8]])
    assert torch.equal(plain.logits(ids), adapted.logits(ids))
    named = adapted.named()
    assert len(named) == 2 * 7 * parent.config.layers
    assert {id(p) for p in named.values()} == {id(p) for p in adapted.parameters() if p.requires_grad}
    with torch.no_grad():
        for parameter in named.values():
            parameter.add_(torch.randn(parameter.shape) * 0.05)
    assert not torch.allclose(plain.logits(ids), adapted.logits(ids), atol=1e-3)
    torch.testing.assert_close(adapted.merged().logits(ids), adapted.logits(ids))

    how = dict(lora=4, steps=80, file_type="F32")
    result = finetune(tuning(base, files[:1], tmp_path / "a", **how))
    losses = [r["val_loss_nats"] for r in records(result.folder) if r["val_loss_nats"] is not None]
    assert losses[-1] < 0.7 * losses[0]
    before, after = parent.tensors, load(result.model).tensors
    changed = {name for name in before if not np.array_equal(before[name], after[name])}
    assert changed == {name for name in before if name.startswith("blk.") and before[name].ndim == 2}
    difference = after["blk.0.ffn_up.weight"] - before["blk.0.ffn_up.weight"]
    assert np.linalg.matrix_rank(difference, tol=1e-5) <= 4
    with monkeypatch.context() as patch:
        broken_at(patch, 37)
        with pytest.raises(Stop):
            finetune(tuning(base, files[:1], tmp_path / "b", **how))
    again = resume(tmp_path / "b")
    assert records(tmp_path / "b") == records(result.folder)
    for name, tensor in load(again.model).tensors.items():
        assert np.array_equal(tensor, after[name])


def test_it_ends_when_held_out_conversations_get_worse(base, tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    noise = [(f"{n}?", " ".join(rng.choice(["cat", "dog", "tree", "old", "runs"], 4))) for n in range(12)]
    data = (talk(tmp_path / "noise.jsonl", noise),)
    how = dict(steps=400, eval_every=10, patience=2, val_fraction=0.3, checkpoint_steps=1000)
    result = finetune(tuning(base, data, tmp_path / "a", **how))
    assert result.trained.steps < 400
    known = scores(result.folder)
    step = min(known, key=lambda s: known[s].loss_nats)
    assert result.trained.steps == step + 20
    assert read_recipe(result.folder).result["best_step"] == best(result.folder) == step
    assert result.score == known[step]
    kept = open_parent(result.folder).tensors
    net = from_model(open_parent(base.folder))
    assert not np.array_equal(kept["output_norm.weight"], net.named()["output_norm.weight"].detach().numpy())
    with monkeypatch.context() as patch:
        broken_at(patch, result.trained.steps - 3)
        with pytest.raises(Stop):
            finetune(tuning(base, data, tmp_path / "b", **how))
    again = resume(tmp_path / "b")
    assert records(tmp_path / "b") == records(tmp_path / "a")
    assert again.model.read_bytes()[-1000:] == result.model.read_bytes()[-1000:]


@pytest.fixture
def ending(monkeypatch):
    """Let every answer of a model end: these here were never taught to."""
    drawn = batch.answers

    def answers(*arguments, **more):
        return [batch.Answer([*one.ids[:8], 0], one.log_p, True) for one in drawn(*arguments, **more)]

    monkeypatch.setattr(batch, "answers", answers)


@pytest.mark.usefixtures("ending")
def test_the_models_own_answers_are_rehearsed_but_not_to_what_is_asked(base, files, tmp_path, monkeypatch):
    monkeypatch.setattr(rehearsal, "questions", lambda: [["Dog  1"], *([f"what {n}"] for n in range(20))])
    result = finetune(tuning(base, files[:1], tmp_path / "r", rehearse=0.5))
    lines = (result.folder / "own-answers.jsonl").read_text().splitlines()
    asked = {json.loads(line)["messages"][0]["content"] for line in lines}
    assert "Dog  1" not in asked  # that is what the conversations teach
    assert len(asked) > 10
    assert "own answers" in [change["name"] for change in read_recipe(result.folder).result["changes"]]


@pytest.mark.usefixtures("ending")
def test_own_answers_are_what_the_model_says(base):
    engine = open_engine(base.model, threads=1, sequences=16)
    both = [[one.messages for one in rehearsal.answers(engine, seed=3)] for _ in range(2)]
    assert both[0] == both[1]
    assert len(both[0]) > 300
    for messages in both[0]:
        roles = ["user", "assistant"] * (len(messages) // 2)
        assert [message["role"] for message in messages] == roles
    turns = [turns for turns in rehearsal.questions() if len(turns) > 1]
    assert next([m["content"] for m in one[::2]] for one in both[0] if len(one) > 2) in turns


def test_own_text_is_plain_text_by_the_model_of_which_every_token_counts(base, tmp_path):
    engine = open_engine(base.model, threads=1, sequences=16)
    one = rehearsal.own_text(engine, tmp_path / "a", seed=3, source="a")
    assert (one.train_documents, one.val_documents) == (128, 32)
    starts = np.flatnonzero(one.train == engine.tokenizer.special_id("<|endoftext|>"))
    assert len(starts) == 128
    assert one.train_mask is not None
    assert sorted(np.flatnonzero(one.train_mask == 0)) == sorted(starts)
    # It is drawn from the model: its own text costs it what its probabilities say.
    ids = one.train[starts[3] : starts[4]]
    text = engine.tokenizer.decode(ids[1:].tolist())
    assert len(text.encode()) == pytest.approx(one.train_bytes / 128, rel=0.9)
    again = rehearsal.own_text(engine, tmp_path / "a", seed=3, source="a")
    assert np.array_equal(again.train, one.train)
    other = rehearsal.own_text(engine, tmp_path / "b", seed=4, source="a")
    assert not np.array_equal(other.train[:50], one.train[:50])


def test_bad_lines_and_bad_settings_are_said_before_anything_is_learned(base, files, tmp_path):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"messages": [{"role": "user", "content": "a"}]}\n{broken\n' + Path(files[1]).read_text())
    with pytest.raises(BadFileError, match=r"(?s)2 lines .*line 1: no message .*line 2: not JSON"):
        finetune(tuning(base, (str(bad),), tmp_path / "a"))
    result = finetune(tuning(base, (str(bad),), tmp_path / "b", bad_lines="skip", steps=2))
    assert result.trained.steps == 2
    for wrong in (dict(weights=(1.0, 2.0)), dict(weights=(0.0,)), dict(rehearse=1.0), dict(lora=-1)):
        with pytest.raises(ValueError, match=r" is | are "):
            tuning(base, (files[0],), tmp_path / "c", **wrong)
    one = Conversation([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "made")
    with pytest.raises(BadFileError, match="At least two"):
        prepare_conversations([one], tmp_path / "d", tokenizer=load(base.model).tokenizer)
    with pytest.raises(UsageError, match="no file"):
        finetune(tuning(base, (str(tmp_path / "none.jsonl"),), tmp_path / "e"))


def test_few_conversations_are_read_more_often():
    assert [epochs_for(n) for n in (1, 10, 1000, 100_000)] == sorted(
        (epochs_for(n) for n in (1, 10, 1000, 100_000)), reverse=True
    )
    assert epochs_for(10) > 2 * epochs_for(1000)


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_imported_weights_say_here_what_they_say_elsewhere(family):
    model = random_model(family)
    net = from_model(model, kind=Adapted)
    ids = model.tokenizer.encode("The ferry leaves at seven, and the harbour wakes.")
    n = len(ids)
    expected = Reference(model, context=64).forward(ids, [0] * n, range(n), [True] * n)
    with torch.no_grad():
        np.testing.assert_allclose(net.logits(torch.tensor([ids]))[0].numpy(), expected, rtol=1e-3, atol=1e-3)
    net.adapt(2, seed=0)
    back = to_model(net.merged(), model.tokenizer, model.card).tensors
    for name, tensor in back.items():
        np.testing.assert_array_equal(tensor, model.tensors[name])


@pytest.mark.parametrize("family", ["gemma3", "qwen2"])
def test_a_graph_that_is_not_trained_here_is_refused(family):
    with pytest.raises(BadFileError, match="cannot be trained further here"):
        from_model(random_model(family))


def test_a_llama_is_tuned_and_opens_as_a_llama(files, tmp_path, monkeypatch):
    model = random_model("llama")
    path = tmp_path / "llama.gguf"
    save_gguf(model, path, "F32")
    settings_ = FinetuneConfig(
        model=path, data=files[:1], out=tmp_path / "t", steps=3, batch=2, threads=1, compute="float32",
        lora=2, prompts=(), compare=False, file_type="F32", rehearse=0.5,
    )  # fmt: skip
    monkeypatch.setattr(rehearsal, "questions", lambda: [[f"what {n}"] for n in range(30)])
    tuned = load(finetune(settings_).model)
    assert (tmp_path / "t" / "own-answers.jsonl").read_text().count("\n") < 10  # few end
    assert not (tmp_path / "t" / "corpus" / "own answers").exists()
    assert (tmp_path / "t" / "corpus" / "own text" / "corpus.json").is_file()
    assert tuned.config.family == "llama"
    moved = [n for n, t in model.tensors.items() if not np.array_equal(t, tuned.tensors[n])]
    assert any("attn_q" in name for name in moved)
    assert not any("norm" in name or "embd" in name for name in moved)  # adapters are of the matrices alone
    assert tuned.tokenizer.vocabulary == model.tokenizer.vocabulary  # it ends its turns in its own way
    engine = open_engine(tmp_path / "t" / "model.gguf", threads=1)
    ids = engine.tokenizer.chat([{"role": "user", "content": "dog?"}])
    assert len(engine.forward(ids, [0] * len(ids), range(len(ids)))) == len(ids)
