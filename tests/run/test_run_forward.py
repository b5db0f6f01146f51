"""run.c against its numpy twin and against transformers; batches, sequences, copies."""

import ctypes
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engines import saved
from rounding import EXACT, Rounding
from tiny_models import FAMILIES, random_model

from twofold import run
from twofold.base.errors import UsageError
from twofold.parameters import save_hf
from twofold.parameters.config import RopeScaling
from twofold.run import Engine, backends, library

KINDS = ("F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1")
K_KINDS = ("Q4_K", "Q5_K", "Q6_K", "Q4_K_M")
# What a width needs for blocks of 256.
WIDE: dict[str, Any] = {"width": 256, "heads": 4, "kv_heads": 2, "head_dim": 64, "ffn": 512, "layers": 2}
# What a width leaves over at the ends of vectors, heads and blocks of 32.
ODD: dict[str, Any] = {"width": 36, "heads": 3, "kv_heads": 3, "head_dim": 6, "ffn": 50, "layers": 1}


def engine(path: Path, **how: Any) -> Engine:
    return run.load(path, backend="c", **{"threads": 2, **how})


def relative(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.abs(a - b).max() / np.abs(b).max())


def ids_of(length: int, seed: int = 0) -> list[int]:
    return np.random.default_rng(seed).integers(0, 300, length).tolist()


def feed(engine: Engine, ids: list[int], sequence: int = 0, start: int = 0) -> np.ndarray:
    return engine.forward(ids, [sequence] * len(ids), range(start, start + len(ids)))


def twin(path: Path, ids: list[int]) -> np.ndarray:
    """Return numpy's logits with run.c's rounding."""
    return Rounding(path).forward(ids, [0] * len(ids), range(len(ids)), [True] * len(ids))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("family", FAMILIES)
def test_same_logits_as_the_numpy_twin(family: str, kind: str, tmp_path: Path) -> None:
    few = {"layers": 2, "window_pattern": 2} if family == "gemma3" else {}  # rounding differs sooner in many
    path = saved(random_model(family, seed=1, **few), tmp_path, kind)
    ids = ids_of(90)
    ours, theirs = feed(engine(path), ids), twin(path, ids)
    exact = feed(run.load(path, backend="numpy"), ids)
    assert relative(ours[:3], theirs[:3]) < 2e-5
    # Sooner or later a last bit that differs rounds a number to the next of 255 steps, or of half precision.
    assert relative(ours, theirs) < (2e-6 if kind == "F32" else 1e-3 if kind in EXACT else 3e-2)
    assert relative(ours, exact) < (1e-5 if kind == "F32" else 2e-3 if kind in EXACT else 5e-2)
    assert kind == "F32" or np.abs(ours - theirs).mean() < np.abs(ours - exact).mean() / 2


@pytest.mark.parametrize("kind", K_KINDS)
def test_superblocks_of_256(kind: str, tmp_path: Path) -> None:
    path = saved(random_model("qwen3", seed=1, **WIDE), tmp_path, kind)
    ids = ids_of(40)
    ours, theirs, exact = feed(engine(path), ids), twin(path, ids), feed(run.load(path, backend="numpy"), ids)
    # Their scales of scales are multiplied out to half precision: no worse than what rounding inputs costs.
    assert relative(ours, exact) < 5e-2
    assert np.abs(ours - exact).mean() < 1.2 * np.abs(theirs - exact).mean()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_shapes_that_fill_no_vector(kind: str, tmp_path: Path) -> None:
    path = saved(random_model("qwen3", **ODD), tmp_path, kind)
    ids = ids_of(7)
    assert relative(feed(engine(path), ids), twin(path, ids)) < (1e-5 if kind == "F32" else 1e-3)


@pytest.mark.parametrize("kind", [*KINDS, *K_KINDS])
def test_a_token_has_the_same_bits_in_any_batch(kind: str, tmp_path: Path) -> None:
    wide = WIDE if kind in K_KINDS else {}
    path = saved(random_model("llama", context=600, **wide), tmp_path, kind)
    ids = ids_of(530)  # more than one batch of C's
    whole = feed(engine(path), ids)
    one = engine(path, threads=1)
    cuts = (0, 1, 6, 7, 11, 19, 40, 200, 529, 530)
    parts = [feed(one, ids[a:b], start=a) for a, b in pairwise(cuts)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    np.testing.assert_array_equal(feed(engine(path, threads=7), ids), whole)


@pytest.mark.parametrize("kind", ["F32", "Q8_0"])
@pytest.mark.parametrize("family", FAMILIES)
def test_threads_that_keep_their_own_tokens_say_the_same(family: str, kind: str, tmp_path: Path) -> None:
    """Of a long prompt each thread takes its own tokens through the layers, once all is laid out."""
    path, ids = saved(random_model(family, context=600), tmp_path, kind), ids_of(530)
    young, made = feed(engine(path, threads=1), ids), engine(path, threads=3)
    for position in range(6):
        feed(made, [ids[position]], start=position)
    for _ in range(3):
        np.testing.assert_array_equal(feed(made, ids), young)


@pytest.mark.parametrize("kind", ["F16", "Q8_0", "Q4_K"])
@pytest.mark.parametrize("wanted", [0, 1])
def test_a_young_model_says_the_same(wanted: int, kind: str, tmp_path: Path) -> None:
    """Weights are laid out in turns while the first tokens are read, also those that none of these needs."""
    made = engine(saved(random_model("qwen3", **(ODD if kind == "F16" else WIDE)), tmp_path, kind))
    ids = ids_of(9)
    first = feed(made, ids)
    for position in range(6):
        made.forward([ids[position]], [0], [position], [wanted])
    np.testing.assert_array_equal(feed(made, ids), first)


def test_contexts_of_one_model_lay_it_out_together(tmp_path: Path) -> None:
    path = saved(random_model("qwen3", **WIDE), tmp_path, "Q8_0")
    ids = np.array(ids_of(8), np.int32)
    expected = feed(engine(path), ids.tolist())
    backend, c = engine(path).runner, library.functions()
    assert isinstance(backend, backends.CBackend)
    error = ctypes.create_string_buffer(256)
    contexts = [c.tf_context(backend.model, 1, 64, threads, error, len(error)) for threads in (1, 3)]
    logits = np.empty_like(expected)
    arrays = (ids, np.zeros_like(ids), np.arange(8, dtype=np.int32), np.ones(8, np.uint8), logits)
    addresses = [a.ctypes.data for a in arrays]
    for turn in range(8):
        assert c.tf_forward(contexts[turn % 3 > 0], 8, *addresses) == 0
        np.testing.assert_array_equal(logits, expected)
    for context in contexts:
        c.tf_context_free(context)


@pytest.mark.parametrize(
    "scaling",
    [RopeScaling(type="linear", factor=4.0), RopeScaling(type="llama3", factor=8.0, original_context=64)],
    ids=lambda scaling: scaling.type,
)
def test_stretched_positions(scaling: RopeScaling, tmp_path: Path) -> None:
    path = saved(random_model("llama", rope_scaling=scaling), tmp_path)
    ids = ids_of(60)
    c = feed(engine(path), ids)
    assert relative(c, feed(run.load(path, backend="numpy"), ids)) < 1e-5
    (tmp_path / "plain").mkdir()
    plain = saved(random_model("llama"), tmp_path / "plain")
    assert relative(c, feed(engine(plain), ids)) > 1e-2


@pytest.mark.parametrize("family", FAMILIES)
def test_same_logits_as_transformers(family: str, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = random_model(family, seed=2)
    save_hf(model, tmp_path / "folder", "F32")
    judge = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "folder", dtype=torch.float32).eval()
    ids = ids_of(80)
    with torch.no_grad():
        theirs = judge(torch.tensor([ids])).logits[0].numpy()
    assert relative(feed(engine(saved(model, tmp_path)), ids), theirs) < 1e-3
    assert relative(feed(engine(tmp_path / "folder"), ids), theirs) < 1e-3  # the folder itself opens too


def test_sequences_do_not_see_each_other(tmp_path: Path) -> None:
    path = saved(random_model("llama"), tmp_path)
    a, b = ids_of(20, 1), ids_of(13, 2)
    alone = feed(engine(path), a), feed(engine(path), b)
    both = engine(path, sequences=3)
    # Interleaved in one batch, as a server would: only the order inside a sequence counts.
    places = [(t, 2, i) for i, t in enumerate(a)]
    for i, t in enumerate(b):
        places.insert(2 * i, (t, 0, i))
    tokens, sequences, positions = zip(*places, strict=True)
    logits = both.forward(tokens, sequences, positions)
    of = np.asarray(sequences)
    assert relative(logits[of == 2], alone[0]) < 1e-5
    assert relative(logits[of == 0], alone[1]) < 1e-5


def test_only_the_wanted_logits(tmp_path: Path) -> None:
    path = saved(random_model("qwen2"), tmp_path)
    ids = ids_of(30)
    wanted = np.arange(30) % 7 == 3
    logits = engine(path).forward(ids, [0] * 30, range(30), wanted)
    assert logits.shape == (wanted.sum(), 384)
    np.testing.assert_array_equal(logits, feed(engine(path), ids)[wanted])
    assert engine(path).forward(ids, [0] * 30, range(30), [False] * 30).shape == (0, 384)


def same(backend: str, a: np.ndarray, b: np.ndarray) -> None:
    if backend == "c":
        np.testing.assert_array_equal(a, b)
    else:
        assert relative(a, b) < 1e-5


@pytest.mark.parametrize("length", [1, 63, 64, 65, 130])
def test_sequences_share_pages_until_one_writes(length: int, tmp_path: Path) -> None:
    path = saved(random_model("qwen3", context=200), tmp_path, "Q8_0")
    ids, others = ids_of(130, 1), [ids_of(60, seed) for seed in (2, 3, 4)]
    shared = engine(path, sequences=4)
    feed(shared, ids)
    for sequence in (1, 2, 3):
        shared.copy(0, sequence, length)
    for sequence, other in enumerate(others, 1):  # each goes its own way, over the edge of a page
        logits = feed(shared, other, sequence=sequence, start=length)
        np.testing.assert_array_equal(logits, feed(engine(path), ids[:length] + other)[length:])
    shared.copy(1, 0, 0)  # and gives its pages back, which others still read
    shared.copy(2, 1, length)
    again = feed(shared, others[0], sequence=1, start=length)
    np.testing.assert_array_equal(again, feed(engine(path), ids[:length] + others[0])[length:])
    for _ in range(20):  # pages that nobody needs come back: the cache does not run out
        for sequence in range(4):
            shared.copy((sequence + 1) % 4, sequence, 0)
            feed(shared, ids, sequence=sequence)


@pytest.mark.parametrize("backend", ["c", "numpy"])
def test_a_copied_prefix_costs_nothing_and_changes_nothing(backend: str, tmp_path: Path) -> None:
    path = saved(random_model("qwen3"), tmp_path)
    prefix, one, other = ids_of(25, 1), ids_of(6, 2), ids_of(9, 3)
    shared = run.load(path, backend=backend, sequences=4)  # type: ignore[arg-type]
    feed(shared, prefix + one, sequence=1)
    shared.copy(1, 3, 25)
    forked = feed(shared, other, sequence=3, start=25)
    straight = feed(run.load(path, backend=backend), prefix + other)[25:]  # type: ignore[arg-type]
    same(backend, forked, straight)
    again = feed(shared, ids_of(2, 4), sequence=1, start=31)  # the source is as it was
    same(backend, again, feed(engine(path), prefix + one + ids_of(2, 4))[31:])


def test_generate_goes_on_from_what_a_sequence_holds(tmp_path: Path) -> None:
    path = saved(random_model("llama"), tmp_path)
    used, ids = engine(path), ids_of(12)
    first = [step.id for step in used.generate(ids, max_tokens=8)]
    fed: list[int] = []
    forward = used.forward
    used.forward = lambda tokens, *rest: (fed.append(len(tokens)), forward(tokens, *rest))[1]  # type: ignore
    second = [step.id for step in used.generate([*ids, *first[:5]], max_tokens=3)]
    assert second == first[5:8]
    assert fed == [1, 1, 1]  # of the prompt only its last token was run
    other = ids_of(12, 9)
    fresh = [step.id for step in engine(path).generate(other, max_tokens=8)]
    assert [step.id for step in used.generate(other, max_tokens=8)] == fresh


def test_steps_tell_probabilities_and_alternatives(tmp_path: Path) -> None:
    used = engine(saved(random_model("qwen3"), tmp_path))
    ids = ids_of(5)
    (step,) = used.generate(ids, max_tokens=1)
    logits = feed(engine(tmp_path / "F32.gguf"), ids)[-1].astype(np.float64)
    p = np.exp(logits - logits.max())
    p /= p.sum()
    assert step.id == int(logits.argmax())
    assert [token for token, _ in step.alternatives] == np.argsort(-p)[:8].tolist()
    np.testing.assert_allclose([share for _, share in step.alternatives], np.sort(p)[::-1][:8], rtol=1e-3)
    assert step.probability == step.alternatives[0][1]


def test_generate_stops(tmp_path: Path) -> None:
    used = engine(saved(random_model("qwen3", context=32), tmp_path))
    ids = ids_of(5)
    free = [step.id for step in used.generate(ids, max_tokens=100)]
    assert len(free) == 28  # the context's 32, and the one that follows its last
    stop = free[7]
    stopped = [step.id for step in used.generate(ids, max_tokens=100, stop_ids={stop})]
    assert stopped == free[: free.index(stop) + 1]
    assert list(used.generate(ids, max_tokens=0)) == []


def test_stream_gives_whole_characters(tmp_path: Path) -> None:
    used = engine(saved(random_model("llama", seed=3), tmp_path))
    ids = ids_of(4)
    pieces = list(used.stream(ids, max_tokens=60, stop_ids=()))
    made = [step.id for step in used.generate(ids, max_tokens=60)]
    assert "".join(pieces) == used.tokenizer.decode_bytes(made).decode(errors="replace")
    assert any(len(piece.encode()) > 1 for piece in pieces)


def test_misuse_is_one_sentence(tmp_path: Path) -> None:
    path = saved(random_model("qwen3"), tmp_path)
    used = engine(path, sequences=2)
    for tokens, sequences, positions in (
        ([384], [0], [0]), ([-1], [0], [0]), ([1], [2], [0]), ([1], [0], [128]), ([1], [0], [1]),
        ([1, 2], [0], [0]), ([1, 2], [0, 0], [1, 0]),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=r"\w.*[.]$"):
            used.forward(tokens, sequences, positions)
    for source, target, length in ((0, 2, 0), (-1, 0, 0), (0, 1, 1)):
        with pytest.raises(UsageError):
            used.copy(source, target, length)
    with pytest.raises(UsageError):
        used.generate([], max_tokens=1)
    with pytest.raises(UsageError, match="context"):
        used.generate([1] * 129, max_tokens=1)
    with pytest.raises(UsageError):
        run.load(path, threads=0)
    feed(used, [1, 2, 3])  # still whole


def test_context_is_the_least_of_wish_and_model(tmp_path: Path) -> None:
    path = saved(random_model("mistral"), tmp_path)  # 128 positions; the window of 96 is no limit
    assert engine(path).context == 128
    assert engine(path, context=17).context == 17
    assert engine(path, context=10**6).context == 128


@pytest.mark.parametrize("family", ["gemma3", "phi3", "mistral"])
@pytest.mark.parametrize("window", [1, 5, 64, 100])
def test_positions_before_the_window_are_not_seen(family: str, window: int, tmp_path: Path) -> None:
    """In layers that all have it; windows of a page and other than a page, over several pages."""
    more = {"window_pattern": 100} if family == "gemma3" else {}
    model = random_model(family, layers=1, sliding_window=window, context=300, **more)
    path, ids = saved(model, tmp_path), ids_of(200)
    logits = feed(engine(path), ids)
    assert relative(logits, feed(run.load(path, backend="numpy"), ids)) < 1e-5
    for place in (window - 1, window, 130, 199):  # one layer: what is before the window cannot matter
        other = ids_of(200, seed=1)
        other[max(0, place + 1 - window) : place + 1] = ids[max(0, place + 1 - window) : place + 1]
        used = engine(path)
        assert relative(feed(used, other)[place], logits[place]) < 1e-5
        if place >= window:  # and the first that the window holds does matter
            other[place + 1 - window] += 1
            used = engine(path)
            assert relative(feed(used, other)[place], logits[place]) > 1e-4


@pytest.mark.parametrize("family", ["gemma3", "phi3"])
def test_token_by_token_is_the_same_past_the_window(family: str, tmp_path: Path) -> None:
    model = random_model(family, sliding_window=20)
    path, ids = saved(model, tmp_path), ids_of(90)
    used = engine(path)
    one_by_one = np.concatenate([feed(used, [token], start=n) for n, token in enumerate(ids)])
    assert relative(one_by_one, feed(engine(path), ids)) < 1e-5


def test_long_factors_are_taken_for_contexts_beyond_the_trained_one(tmp_path: Path) -> None:
    model = random_model("phi3")  # trained on 64 of its 128 positions
    path, ids = saved(model, tmp_path), ids_of(40)
    near, far = feed(engine(path, context=64), ids), feed(engine(path, context=65), ids)
    assert relative(near, far) > 1e-3
    for context, logits in ((64, near), (65, far)):
        assert relative(logits, feed(run.load(path, backend="numpy", context=context), ids)) < 1e-5


def test_a_card_and_a_tokenizer_come_with_the_engine(tmp_path: Path) -> None:
    model = random_model("qwen3")
    used = engine(saved(replace(model, card={"name": "Small"}), tmp_path))
    assert used.card["name"] == "Small"
    assert used.config == model.config
    assert used.tokenizer.decode(used.tokenizer.encode("a boat")) == "a boat"
