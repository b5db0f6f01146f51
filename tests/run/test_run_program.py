"""The program that `cc` makes of run.c: what a person with two files sees."""

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engines import STRICT, program, run, saved
from fuzz_strings import strings
from tiny_models import FAMILIES, random_model

from twofold import run as engines
from twofold.parameters import Model, ModelConfig, gguf, save_gguf
from twofold.run import library
from twofold.run.backends import CBackend
from twofold.tokens import Tokenizer

PROMPT = "The ferry leaves"


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(random_model("qwen3"), tmp_path_factory.mktemp("model"))


def encoder(path: Path) -> CBackend:
    runner = engines.load(path, backend="c").runner
    assert isinstance(runner, CBackend)
    return runner


@pytest.mark.parametrize("family", FAMILIES)
def test_says_what_the_library_says(family: str, tmp_path: Path) -> None:
    model = random_model(family, seed=5)
    path = saved(model, tmp_path)
    engine = engines.load(path, backend="c")
    vocabulary = model.tokenizer.vocabulary
    ids = ([vocabulary.bos_id] if vocabulary.add_bos else []) + model.tokenizer.encode(PROMPT)
    made = [step.id for step in engine.generate(ids, max_tokens=30, stop_ids=model.tokenizer.stop_ids)]
    text = model.tokenizer.decode_bytes([token for token in made if token not in model.tokenizer.stop_ids])
    done = run(path, "-p", PROMPT, "-n", "30", "--temp", "0", "-t", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout == PROMPT.encode() + text + b"\n"


def test_a_seed_repeats_and_threads_do_not_matter(path: Path) -> None:
    options = ("-p", PROMPT, "-n", "40", "--temp", "1")
    outputs = [
        run(path, *options, "--seed", seed, "-t", t).stdout
        for seed, t in (("7", "1"), ("7", "3"), ("8", "1"))
    ]
    assert outputs[0] == outputs[1] != outputs[2]
    greedy = run(path, *options[:4], "--temp", "0").stdout
    assert run(path, *options, "--seed", "3", "--top-k", "1").stdout == greedy
    assert run(path, *options, "--seed", "3", "--min-p", "1").stdout == greedy
    assert run(path, *options, "--seed", "3", "--top-p", "0.000001").stdout == greedy
    assert run(path, *options[:4], "--temp", "0", "--repeat", "2").stdout != greedy


def test_probs_show_alternatives(path: Path) -> None:
    done = run(path, "-p", PROMPT, "-n", "3", "--probs", "--temp", "0")
    shares = [float(share) for share in re.findall(rb"(\d+\.\d) %", done.stdout)]
    assert len(shares) == 15  # three tokens, five alternatives each
    assert all(sorted(shares[i : i + 5], reverse=True) == shares[i : i + 5] for i in (0, 5, 10))


def test_conversation_takes_the_templates_turns(path: Path) -> None:
    model = random_model("qwen3")
    engine = engines.load(path, backend="c")
    messages = [{"role": "user", "content": "Good morning <|im_end|>"}]
    ids = model.tokenizer.chat(messages)
    stop = model.tokenizer.stop_ids
    made = [step.id for step in engine.generate(ids, max_tokens=10, stop_ids=stop)]
    answer = model.tokenizer.decode_bytes([token for token in made if token not in stop])
    done = run(path, "--temp", "0", "-n", "10", stdin="Good morning <|im_end|>\n")
    assert done.returncode == 0
    assert done.stdout == b"> " + answer + b"\n> \n"


def test_a_full_context_starts_anew(path: Path) -> None:
    done = run(path, "--temp", "0", "-n", "20", "-c", "64", stdin="Tell me more\n" * 6)
    assert done.returncode == 0
    assert b"starts anew" in done.stderr
    too_long = run(path, "-c", "16", "-p", "word " * 40)
    assert too_long.returncode == 1
    assert b"longer than the context of 16" in too_long.stderr


def test_a_model_without_turns_says_so(tmp_path: Path) -> None:
    model = random_model("qwen2")
    bare = Tokenizer(replace(model.tokenizer.vocabulary, chat_template=None))
    done = run(saved(replace(model, tokenizer=bare), tmp_path), "-n", "3", stdin="Once upon\n")
    assert done.returncode == 0
    assert b"takes no turns" in done.stderr


def test_misuse_exits_2_with_usage(path: Path) -> None:
    for arguments in (["--nonsense", "1"], ["-p"], ["stray"]):
        done = run(path, *arguments)
        assert done.returncode == 2
        assert done.stderr.startswith(b"usage: run MODEL.gguf")
    assert subprocess.run([program()], capture_output=True, check=False).returncode == 2


def test_an_empty_prompt_begins_a_document(path: Path) -> None:
    done = run(path, "-p", "", "-n", "5", "--temp", "0")
    assert done.returncode == 0
    assert len(done.stdout) > 1


def damaged(path: Path) -> list[bytes]:
    whole = path.read_bytes()
    random = np.random.default_rng(0)
    cuts = [whole[: int(n)] for n in random.integers(0, len(whole), 20)]
    flips = []
    for _ in range(60):
        copy = bytearray(whole)
        for at in random.integers(0, 12000, 3):
            copy[int(at)] = int(random.integers(0, 256))
        flips.append(bytes(copy))
    return [b"", b"GGUF", b"not a model at all" * 9, *cuts, *flips]


def test_every_malformed_file_is_one_sentence(path: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.gguf"
    refused = 0
    for data in damaged(path):
        bad.write_bytes(data)
        done = run(bad, "-p", "a", "-n", "1", "-t", "1")
        assert done.returncode in (0, 1), data[:40]
        if done.returncode:
            refused += 1
            lines = done.stderr.decode(errors="replace").splitlines()
            assert len(lines) == 1, lines
            assert lines[0].startswith(f"run: {bad}: ")
    assert refused >= 25
    for other in (tmp_path / "nowhere.gguf", tmp_path):
        done = run(other, "-p", "a")
        assert done.returncode == 1
        assert done.stderr.count(b"\n") == 1


@pytest.mark.parametrize("name", ["gcc", "clang"])
def test_no_warnings(name: str, tmp_path: Path) -> None:
    if not shutil.which(name):
        pytest.skip(f"{name} is not installed")
    for flags in (["-O3", "-march=native"], ["-O2", "-DTF_LIBRARY"]):
        command = [name, *STRICT, *flags, "-c", str(library.source()), "-o", str(tmp_path / "run.o")]
        assert subprocess.run(command, capture_output=True, text=True, check=False).stderr == ""


@pytest.mark.parametrize("family", ["qwen3", "llama"])
def test_tokenizes_as_python_does(family: str, tmp_path: Path) -> None:
    model = random_model(family)
    runner = encoder(saved(model, tmp_path))
    for text in strings(11, 2500):
        for specials in (False, True):
            assert runner.encode(text, specials=specials) == model.tokenizer.encode(
                text, specials=specials
            ), text


@pytest.mark.parametrize("pre", ["gpt-2", "starcoder", "smollm", "llama-bpe", "qwen2"])
def test_every_way_of_cutting_words(pre: str, tmp_path: Path) -> None:
    model = random_model("qwen2")
    other = Tokenizer(replace(model.tokenizer.vocabulary, pre=pre))
    runner = encoder(saved(replace(model, tokenizer=other), tmp_path))
    for text in strings(12, 1000):
        assert runner.encode(text) == other.encode(text), text


@pytest.mark.parametrize("name", ["llama-spm", "gpt-2", "starcoder"])
def test_same_ids_as_llama_cpp(name: str, shared_data: Path, tmp_path: Path) -> None:
    import zstandard

    folder = shared_data / "tokenizer" / "ggml_vocab"
    unpacked = tmp_path / "vocabulary.gguf"
    with (folder / f"ggml-vocab-{name}.gguf.zst").open("rb") as source, unpacked.open("wb") as target:
        zstandard.ZstdDecompressor().copy_stream(source, target)
    tokenizer = Tokenizer.from_gguf(gguf.read(unpacked).metadata)
    # run.c opens whole models only, so the vocabulary gets the smallest one that can carry it.
    shape = ModelConfig(
        architecture="llama", vocab_size=tokenizer.vocab_size, layers=1, width=32, heads=1, kv_heads=1,
        head_dim=32, ffn=32, context=64, tied=True,
    )  # fmt: skip
    zeros = {key: np.zeros(size, np.float32) for key, size in shape.shapes().items()}
    save_gguf(Model(shape, tokenizer, {"name": name}, zeros), tmp_path / "model.gguf", "Q8_0")
    runner = encoder(tmp_path / "model.gguf")
    texts = (folder / f"ggml-vocab-{name}.gguf.inp").read_bytes().split(b"\n__ggml_vocab_test__\n")
    lines = (folder / f"ggml-vocab-{name}.gguf.out").read_text().split("\n")
    for text, line in zip(texts, lines, strict=True):
        assert runner.encode(text) == [int(token) for token in line.split()], text
