"""Recall: an index of texts, and what turns texts into vectors."""

import re
from pathlib import Path

import numpy as np
import pytest

from twofold.base.errors import BadFileError, TwofoldError, UsageError
from twofold.base.files import sha256
from twofold.kernel import embedders
from twofold.kernel.embedders import EMBEDDERS, Embedder, minilm
from twofold.kernel.pagers import PAGERS, Frame
from twofold.kernel.recall import Index

TEXTS = {
    "garage": "The code of the garage is 4711, and it opens at seven.",
    "tea": "My sister prefers tea with milk.",
    "rain": "It rained the whole day, so the boats stayed in the harbour.",
    "boat": "The ferry to the island leaves twice a day.",
}


@pytest.fixture(params=[None, "hashed", "words"])
def embedder(request: pytest.FixtureRequest) -> Embedder | None:
    return embedders.find(request.param) if request.param else None


def test_the_best_comes_first_and_scores_are_shares(embedder: Embedder | None) -> None:
    index = Index(embedder)
    index.add(TEXTS)
    assert index.search("What is the garage's code?")[0].id == "garage"
    assert index.search("Does she drink teas?", 1)[0].id == "tea"  # stems
    found = index.search("island ferry")
    assert found[0].id == "boat"
    assert 0 < found[0].score <= 1.2
    assert [h.id for h in index.search("island ferry", among={"tea", "rain", "garage"}) if h.words] == []
    assert Index(embedder).search("anything") == []


def test_texts_are_replaced_and_taken_out() -> None:
    index = Index(embedders.find("words"))
    index.add(TEXTS)
    index.add({"tea": "My brother sails a yacht."})
    assert len(index) == 4
    assert index.search("yacht", 1)[0].id == "tea"
    assert not [hit for hit in index.search("milk") if hit.words]
    index.remove("garage")
    index.remove("nothing of that name")
    assert "garage" not in index
    assert {hit.id for hit in index.search("garage code yacht ferry rained")} == {"tea", "rain", "boat"}
    assert index.search("ferry", 1)[0].id == "boat"  # vectors and ids stayed together


def test_an_index_in_a_file_is_there_again(tmp_path: Path) -> None:
    embedder = embedders.find("hashed")
    first = Index(embedder, tmp_path / "index.db")
    first.add(TEXTS)
    before = first.search("harbour boats")
    first.close()
    again = Index(embedder, tmp_path / "index.db")
    assert again.search("harbour boats") == before
    again.close()


@pytest.mark.parametrize(
    "question", ['"', "AND OR NOT", "a*", "NEAR(", "💥", "", "x" * 5_000, "col:on", "^a -b"]
)
def test_no_question_breaks_it(question: str) -> None:
    index = Index(embedders.find("words"))
    index.add(TEXTS)
    index.search(question)


def test_meaning_finds_what_shares_no_word() -> None:
    index = Index(embedders.find("words"), meaning=1.0)
    index.add(
        {
            "sea": "The sailor steered his ship across the ocean.",
            "bread": "The baker put loaves into the oven.",
        }
    )
    assert index.search("a boat on the waves", 1)[0].id == "sea"
    assert index.search("kitchen and flour", 1)[0].id == "bread"


@pytest.mark.parametrize("name", EMBEDDERS.names())
def test_an_embedder_gives_unit_vectors(name: str) -> None:
    try:
        embedder = embedders.find(name)
    except TwofoldError as error:
        assert "pip install" in str(error)
        pytest.skip(str(error))
    rows = embedder.encode(["one text", "another text", "", "Zyxwv 99 ü"])
    assert rows.shape == (4, embedder.dim)
    assert rows.dtype == np.float32
    assert np.linalg.norm(rows, axis=1)[[0, 1, 3]] == pytest.approx([1, 1, 1], abs=1e-5)
    assert np.array_equal(rows, embedder.encode(["one text", "another text", "", "Zyxwv 99 ü"]))
    assert rows[0] @ rows[1] > rows[0] @ rows[3]
    assert 0 <= embedder.meaning <= 1


def test_an_unknown_embedder_names_those_there_are() -> None:
    with pytest.raises(UsageError, match="words"):
        embedders.find("word")


def test_the_transformer_is_bert(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small one with random weights, against transformers."""
    torch = pytest.importorskip("torch")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import BertConfig, BertModel

    words = ["[PAD]", "[UNK]", "the", "cat", "sat", "on", "a", "mat"]
    wordpiece = Tokenizer(models.WordPiece({word: n for n, word in enumerate(words)}, unk_token="[UNK]"))
    wordpiece.pre_tokenizer = pre_tokenizers.Whitespace()
    wordpiece.save(str(tmp_path / "tokenizer.json"))
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=8, hidden_size=24, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48
    )
    net = BertModel(config, add_pooling_layer=False).eval()
    net.save_pretrained(tmp_path)
    monkeypatch.setattr(minilm, "_LAYERS", 2)
    monkeypatch.setattr(minilm, "_HEADS", 4)
    with pytest.raises(BadFileError, match="does not hold the weights"):
        minilm.MiniLM(tmp_path)
    monkeypatch.setattr(minilm, "_WEIGHTS", sha256(tmp_path / "model.safetensors"))
    texts = ["the cat sat on a mat", "the mat", "a cat sat", "dog"]
    ours = minilm.MiniLM(tmp_path).encode(texts)
    for text, row in zip(texts, ours, strict=True):
        ids = torch.tensor([wordpiece.encode(text).ids])
        with torch.no_grad():
            mean = net(ids).last_hidden_state[0].mean(0)
        assert row == pytest.approx((mean / mean.norm()).numpy(), abs=2e-6)


@pytest.mark.parametrize("name", PAGERS.names())
def test_a_pager_weighs_and_says_what_is_gone(name: str) -> None:
    policy = PAGERS.get(name)
    assert 0 <= policy.LISTED + policy.RECALLED <= 0.5  # the rest is for what is new
    assert policy.DESCRIPTION
    old = Frame(tokens=50, order=3, age=40, idle=40, heat=0.0)
    new = Frame(tokens=50, order=43, age=0, idle=0, heat=0.5)
    assert policy.keep(new) > policy.keep(old)
    for text in ("", "  ", "Line one.\nLine two is long. " * 40, "x" * 4_000):
        assert not re.search(r"[\n\r]", policy.stub(text))
        assert len(policy.stub(text)) <= 140
