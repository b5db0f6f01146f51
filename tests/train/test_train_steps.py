"""Optimiser, schedule and data: what a step consists of."""

from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twofold.base.errors import BadFileError  # noqa: E402
from twofold.train.data import IGNORED, Conversations, Windows  # noqa: E402
from twofold.train.optimiser import Optimiser, OptimizerConfig, orthogonalise  # noqa: E402
from twofold.train.schedule import Schedule, ScheduleConfig  # noqa: E402

RATES = dict(muon_lr=0.02, embedding_lr=0.1, head_lr=0.1, norm_lr=0.1)


@pytest.mark.parametrize("shape", [(3, 24, 24), (2, 48, 16), (2, 16, 48)])
@pytest.mark.parametrize("steps", [4, 6])
def test_orthogonalised_matrices_keep_directions_and_lose_sizes(steps, shape):
    matrices = torch.randn(*shape, generator=torch.Generator().manual_seed(0))
    found = orthogonalise(matrices, steps)
    sizes = torch.linalg.svdvals(found)
    assert float(sizes.quantile(0.1)) > 0.6  # a random square matrix has one that is almost zero
    assert float(sizes.max()) < 1.3
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    nearest = left @ right
    likeness = (found * nearest).sum() / (found.norm() * nearest.norm())
    assert float(likeness) > 0.95


def test_adamw_equals_torchs():
    generator = torch.Generator().manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(7, 5, generator=generator))
    theirs = torch.nn.Parameter(ours.detach().clone())
    config = OptimizerConfig(**RATES, clip=1e9, eps=1e-8)
    optimiser = Optimiser({"token_embd.weight": ours}, config, compute=torch.float32)
    other = torch.optim.AdamW([theirs], lr=0.05, betas=(0.9, 0.95), eps=1e-8, weight_decay=0)
    for _ in range(5):
        gradient = torch.randn(7, 5, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimiser.step(0.5)
        other.step()
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_plain_steps_equal_torchs():
    generator = torch.Generator().manual_seed(0)
    ours = torch.nn.Parameter(torch.randn(7, 5, generator=generator))
    theirs = torch.nn.Parameter(ours.detach().clone())
    config = OptimizerConfig(plain_lr=0.4, clip=1e9)
    optimiser = Optimiser({"blk.0.attn_q.weight": ours}, config, compute=torch.float32)
    other = torch.optim.SGD([theirs], lr=0.2, momentum=0.9)
    for _ in range(5):
        gradient = torch.randn(7, 5, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        optimiser.step(0.5)
        other.step()
    torch.testing.assert_close(ours, theirs)


def test_matrices_take_muon_and_steps_have_the_size_of_the_rate():
    parameter = torch.nn.Parameter(torch.zeros(32, 32))
    config = OptimizerConfig(**RATES)
    optimiser = Optimiser({"blk.0.attn_q.weight": parameter}, config, compute=torch.float32)
    parameter.grad = 1e-6 * torch.randn(32, 32, generator=torch.Generator().manual_seed(0))
    norm = optimiser.step(1.0)
    assert norm == pytest.approx(32e-6, rel=0.2)
    sizes = torch.linalg.svdvals(parameter.detach())
    assert float(sizes.median()) == pytest.approx(0.02, rel=0.3)
    assert parameter.grad is None


def test_large_gradients_are_clipped():
    parameter = torch.nn.Parameter(torch.zeros(4))
    optimiser = Optimiser({"output_norm.weight": parameter}, OptimizerConfig(**RATES), compute=torch.float32)
    parameter.grad = torch.full((4,), 50.0)
    assert optimiser.step(1.0) == pytest.approx(100.0)
    assert float(optimiser.state["output_norm.weight.mean"].norm()) == pytest.approx(0.1, rel=1e-3)


def test_schedule_rises_stays_and_falls():
    schedule = Schedule.of(ScheduleConfig(warmup=0.1, decay=0.4, final=0.05), 100)
    scales = [schedule.scale(step) for step in range(100)]
    assert scales[0] == pytest.approx(1 / 11)
    assert scales[10:60] == [1.0] * 50
    assert all(a > b for a, b in pairwise(scales[60:]))
    assert scales[-1] == pytest.approx(0.05, abs=0.03)
    assert min(scales) > 0


@pytest.mark.parametrize(("at", "steps"), [(30, 60), (30, 200), (59, 70), (70, 80), (90, 95), (99, 100)])
def test_moving_the_end_never_makes_the_rate_jump(at, steps):
    schedule = Schedule.of(ScheduleConfig(warmup=0.1, decay=0.4, final=0.05), 100)
    moved = schedule.end_at(at, steps)
    assert moved.steps == steps
    assert moved.scale(at) == pytest.approx(schedule.scale(at), abs=0.06)
    assert moved.scale(steps - 1) < 0.3
    assert all(moved.scale(step) <= 1.0 for step in range(at, steps))


def stream(documents):
    return np.concatenate([np.concatenate([[0], d]) for d in documents]).astype(np.uint16)


def test_windows_cover_the_text_once_an_epoch_and_depend_on_seed_and_step_only():
    tokens = stream([np.arange(1, 50)] * 9)
    data = Windows(tokens, context=16, rows=4, separator=0, seed=1)
    count = (len(tokens) - 1) // 16
    first = Windows(tokens, context=16, rows=1, separator=0, seed=1, shuffle=True)
    rows = np.concatenate([first.batch(step).ids for step in range(count)])
    expected = np.stack([tokens[i * 16 : i * 16 + 16] for i in range(count)])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, expected))
    late = Windows(tokens, context=16, rows=4, separator=0, seed=1).batch(57)
    for _ in range(3):
        data.batch(3)
    np.testing.assert_array_equal(data.batch(57).ids, late.ids)
    other = Windows(tokens, context=16, rows=4, separator=0, seed=2)
    assert any((other.batch(s).ids != data.batch(s).ids).any() for s in range(3))


def test_windows_know_targets_and_documents():
    tokens = stream([[5, 6, 7], [8, 9], [5, 5, 5, 5, 5]])
    batch = Windows(tokens, context=9, rows=1, separator=0, seed=0).batch(0)
    np.testing.assert_array_equal(batch.ids[0], [0, 5, 6, 7, 0, 8, 9, 0, 5])
    np.testing.assert_array_equal(batch.targets[0], [5, 6, 7, 0, 8, 9, 0, 5, 5])
    np.testing.assert_array_equal(batch.documents[0], [1, 1, 1, 1, 2, 2, 2, 3, 3])


def test_too_little_text_is_said():
    with pytest.raises(BadFileError, match="only 3 tokens long"):
        Windows(np.array([0, 1, 2], np.uint16), context=8, rows=1, separator=0, seed=0)


def test_conversations_are_whole_and_only_answers_count():
    documents = [[3, 4, 5, 6], [7, 8, 9], [3, 3], [4, 4, 4, 4, 4]]
    tokens = stream(documents)
    mask = np.concatenate([[0, 0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0], [0, 0, 0, 0, 1, 1]]).astype(np.uint8)
    data = Conversations(tokens, mask, context=10, rows=1, separator=0, seed=0, shuffle=False)
    batch = data.batch(0)
    # The third teaches nothing and is left out; the fourth does not fit into the first row.
    np.testing.assert_array_equal(batch.ids[0], [3, 4, 5, 6, 7, 8, 9, 0, 0, 0])
    np.testing.assert_array_equal(batch.targets[0], [-1, 5, 6, -1, 8, 9, -1, -1, -1, -1])
    np.testing.assert_array_equal(batch.documents[0], [1, 1, 1, 1, 2, 2, 2, 0, 0, 0])
    assert batch.counted == 4
    np.testing.assert_array_equal(data.batch(1).ids[0, :5], [4, 4, 4, 4, 4])
    assert data.epoch_steps == 2


def test_every_conversation_comes_once_an_epoch():
    rng = np.random.default_rng(0)
    documents = [np.full(rng.integers(3, 20), number) for number in range(1, 60)]
    tokens = stream(documents)
    mask = (tokens != 0).astype(np.uint8)
    data = Conversations(tokens, mask, context=32, rows=1, separator=0, seed=0)
    for epoch in range(2):
        first = 0 if epoch == 0 else round(data.epoch_steps)
        ids = np.concatenate([data.batch(first + step).ids for step in range(round(data.epoch_steps))])
        found = {number: int((ids == number).sum()) for number in range(1, 60)}
        assert found == {number: len(document) for number, document in enumerate(documents, 1)}
    assert (data.batch(0).targets != IGNORED).any()
