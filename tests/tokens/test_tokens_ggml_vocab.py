"""The vocabularies and expected ids that llama.cpp tests itself with: the same ids here."""

from pathlib import Path

import pytest
import zstandard

from twofold.parameters import gguf
from twofold.tokens import Tokenizer, reference

NAMES = ("llama-spm", "gpt-2", "starcoder", "qwen2", "llama-bpe")


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "tokenizer" / "ggml_vocab"


def unpacked(packed: Path, folder: Path) -> Path:
    path = folder / "vocabulary.gguf"
    with packed.open("rb") as source, path.open("wb") as target:
        zstandard.ZstdDecompressor().copy_stream(source, target)
    return path


@pytest.mark.parametrize("name", NAMES)
def test_same_ids_as_llama_cpp(name: str, folder: Path, tmp_path: Path) -> None:
    packed = folder / f"ggml-vocab-{name}.gguf.zst"
    if not packed.exists():
        pytest.skip(f"{packed.name} is not among the test data")
    tokenizer = Tokenizer.from_gguf(gguf.read(unpacked(packed, tmp_path)).metadata)
    texts = (folder / f"ggml-vocab-{name}.gguf.inp").read_bytes().split(b"\n__ggml_vocab_test__\n")
    lines = (folder / f"ggml-vocab-{name}.gguf.out").read_text().split("\n")
    assert len(texts) == len(lines) > 40
    for text, line in zip(texts, lines, strict=True):
        expected = [int(token) for token in line.split()]
        assert tokenizer.encode(text) == expected, text
        assert reference.encode(tokenizer.vocabulary, text) == expected, text
        assert tokenizer.decode(expected) == text.decode()


def test_sentencepiece_file_is_the_same_vocabulary(shared_data: Path, folder: Path, tmp_path: Path) -> None:
    model = shared_data / "tokenizer" / "llama2" / "tokenizer.model"
    (tmp_path / "tokenizer.model").write_bytes(model.read_bytes())
    ours = Tokenizer.from_hf(tmp_path).vocabulary
    packed = folder / "ggml-vocab-llama-spm.gguf.zst"
    theirs = Tokenizer.from_gguf(gguf.read(unpacked(packed, tmp_path)).metadata).vocabulary
    assert ours == theirs
