"""What is saved and how it is found again: checkpoints, the ring, when each is made; batches refused."""

import errno
import os
import subprocess
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from twofold.base.errors import BadFileError  # noqa: E402
from twofold.train import checkpoint  # noqa: E402
from twofold.train.checkpoint import State  # noqa: E402
from twofold.train.guard import Guard, GuardConfig  # noqa: E402
from twofold.train.keeper import Keeper, Rule  # noqa: E402
from twofold.train.ring import NAMES, Ring  # noqa: E402


def state(step, **facts):
    generator = torch.Generator().manual_seed(step)
    tensors = {
        "model.a": torch.randn(7, 5, generator=generator),
        "model.b": torch.randn(3, generator=generator).to(torch.bfloat16),
        "updates": torch.tensor(step),
        "rng": torch.arange(step % 3, 13, dtype=torch.uint8)[:10],
        "none": torch.zeros(0, 4),
    }
    return State(step, tensors, {"due": [], "losses": [0.1, 1 / 3], "who": "ä", **facts})


def same(found, expected):
    return (
        found.step == expected.step
        and found.facts == expected.facts
        and found.tensors.keys() == expected.tensors.keys()
        and all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.tensors.items())
    )


def flip(path, at):
    content = bytearray(path.read_bytes())
    content[at] ^= 16
    path.write_bytes(content)


def test_a_checkpoint_comes_back_and_others_can_read_it(tmp_path):
    from safetensors.torch import load_file

    path = checkpoint.save_state(tmp_path, state(12))
    assert same(checkpoint.load(path), state(12))
    theirs = load_file(path / "state.safetensors")
    assert all(torch.equal(theirs[name], tensor) for name, tensor in state(12).tensors.items())
    checked = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=path, capture_output=True)
    assert checked.returncode == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000012"]


DAMAGES = [
    (file, damage)
    for file in ("state.safetensors", "state.json", "SHA256SUMS")
    for damage in ("flip", "truncate", "empty", "remove")
    if (file, damage) != ("SHA256SUMS", "remove")  # as in old runs: the test after this one
]


@pytest.mark.parametrize(("file", "damage"), DAMAGES)
def test_the_one_before_a_damaged_checkpoint_is_used_and_that_is_said(tmp_path, file, damage):
    for step in (10, 20):
        checkpoint.save_state(tmp_path, state(step))
    path = tmp_path / "step-00000020" / file
    size = path.stat().st_size
    {
        "flip": lambda: flip(path, size // 2),
        "truncate": lambda: os.truncate(path, size - 9),
        "empty": lambda: os.truncate(path, 0),
        "remove": path.unlink,
    }[damage]()
    said = []
    assert same(checkpoint.load_latest(tmp_path, said.append), state(10))
    if (file, damage) == ("state.json", "remove"):
        assert not said  # without it, it is no checkpoint
    else:
        assert len(said) == 1
        assert "step-00000020 is damaged" in said[0]
        assert "Going on from the one before it, of step 10." in said[0]


def test_a_checkpoint_from_before_there_were_hashes_is_used_unchecked_and_that_is_said(tmp_path):
    for step in (10, 20):
        (checkpoint.save_state(tmp_path, state(step)) / "SHA256SUMS").unlink()
    said = []
    assert same(checkpoint.load_latest(tmp_path, said.append), state(20))
    assert len(said) == 1
    assert "step-00000020 has no SHA256SUMS, as in old runs; it is used unchecked." in said[0]
    # What cannot be read is noticed all the same.
    path = tmp_path / "step-00000020" / "state.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    assert same(checkpoint.load_latest(tmp_path, said.append), state(10))
    assert "step-00000020 is damaged (state.safetensors is cut off" in said[1]
    (tmp_path / "step-00000010" / "state.json").write_text("[]")
    with pytest.raises(BadFileError, match="step-00000010 is damaged"):
        checkpoint.load_latest(tmp_path)


def test_when_all_are_damaged_that_is_an_error(tmp_path):
    path = checkpoint.save_state(tmp_path, state(10))
    flip(path / "state.safetensors", 300)
    with pytest.raises(BadFileError, match="damaged"):
        checkpoint.load_latest(tmp_path)
    assert checkpoint.load_latest(tmp_path / "none") is None


def test_the_last_the_best_and_an_anchor_stay(tmp_path):
    scores = {1: 3.0, 2: 2.0, 3: 2.5, 4: None, 5: None, 6: None}
    for step, score in scores.items():
        checkpoint.save_state(tmp_path, state(step, bits_per_byte=score, anchor=score is not None))
    checkpoint.prune(tmp_path, keep=2, keep_best=True, running=True)
    assert checkpoint.steps(tmp_path) == [2, 3, 5, 6]
    checkpoint.prune(tmp_path, keep=2, keep_best=True, running=False)
    assert checkpoint.steps(tmp_path) == [2, 5, 6]
    checkpoint.prune(tmp_path, keep=1, keep_best=False, running=False)
    assert checkpoint.steps(tmp_path) == [6]


def test_a_copy_does_not_change_with_the_run(tmp_path):
    now = state(3)
    copy = now.copy()
    now.tensors["model.a"].zero_()
    assert same(copy, state(3))
    again = state(4).copy(copy.tensors)
    assert again.tensors["model.a"].data_ptr() == copy.tensors["model.a"].data_ptr()
    assert same(again, state(4))


def test_the_ring_holds_the_last_step(tmp_path):
    ring = Ring(tmp_path)
    assert ring.read() is None
    for step in range(1, 6):
        ring.write(state(step))
        assert same(Ring(tmp_path).read(), state(step))
    sizes = [(tmp_path / name).stat().st_size for name in NAMES]
    # A new process goes on in the place of the older one.
    ring.close()
    ring = Ring(tmp_path)
    ring.read()
    ring.write(state(6))
    assert same(Ring(tmp_path).read(), state(6))
    assert [(tmp_path / name).stat().st_size for name in NAMES] == sizes
    ring.remove()
    assert not list(tmp_path.iterdir())


def test_other_programs_can_read_the_ring(tmp_path):
    from safetensors.torch import load_file

    ring = Ring(tmp_path)
    ring.write(state(1))
    theirs = load_file(tmp_path / NAMES[0])
    assert all(torch.equal(theirs[name], tensor) for name, tensor in state(1).tensors.items())


def test_a_write_that_is_cut_anywhere_leaves_the_step_before(tmp_path, monkeypatch):
    for cut in range(20):
        ring = Ring(tmp_path / str(cut))
        ring.write(state(1))
        ring.write(state(2))
        calls = 0

        def dying(whole, cut=cut):
            def call(*arguments):
                nonlocal calls
                calls += 1
                if calls > cut:
                    raise OSError(errno.EIO, "gone")
                return whole(*arguments)

            return call

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", dying(os.pwrite))
            # One tensor at a time, so that the cut falls between any two.
            patch.setattr(os, "pwritev", dying(lambda file, views, at: os.pwrite(file, views[0], at)))
            try:
                ring.write(state(3))
            except OSError:
                expected = 2
            else:
                expected = 3
        assert same(Ring(tmp_path / str(cut)).read(), state(expected)), cut
    assert expected == 3


class Rows:
    """Some rows of a tensor, as a process has them that trains a model in shards."""

    def __init__(self, rows):
        self.rows = rows

    def to_local(self):
        return self.rows


def parts(step, size):
    """Return the states of `size` processes that together are `state(step)`."""
    whole = state(step)
    rows = whole.tensors["model.a"].chunk(size)
    return [State(step, {**whole.tensors, "model.a": Rows(one)}, whole.facts) for one in rows]


def test_a_step_of_shards_counts_when_every_process_has_written_its_part(tmp_path, monkeypatch):
    def gone(*_):
        raise OSError(errno.EIO, "gone")

    rings = [Ring(tmp_path, rank, 2) for rank in range(2)]
    for step in range(1, 5):
        for ring, part in zip(rings, parts(step, 2), strict=True):
            ring.write(part, step)
        assert same(Ring(tmp_path).read(), state(step))
    rings[0].write(parts(5, 2)[0], 5)  # and the other one is lost
    assert same(Ring(tmp_path).read(), state(4))
    # Whoever goes on, and as how many, leaves step 4 alone until there is another.
    for size in (1, 2):
        again = Ring(tmp_path, 0, size)
        again.read()
        assert again.next > 5
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwritev", gone)
            with pytest.raises(OSError, match="gone"):
                again.write(parts(5, size)[0])
        assert same(Ring(tmp_path).read(), state(4)), size


def test_a_team_of_another_size_takes_over_the_ring(tmp_path):
    for number, size in enumerate((4, 2, 1, 2)):
        rings = [Ring(tmp_path, rank, size) for rank in range(size)]
        before = rings[0].read()
        assert before is None if number == 0 else same(before, state(3 * number))
        for step in range(3 * number + 1, 3 * number + 4):
            now = rings[0].next
            for ring, part in zip(rings, parts(step, size), strict=True):
                ring.write(part if size > 1 else state(step), now)
        names = {path.name for path in tmp_path.glob("ring-*")}
        assert len(names) == 2 * size, "those of the team before are gone"
    assert names == {f"ring-{slot}.{rank}-of-2.safetensors" for slot in (0, 1) for rank in (0, 1)}


def test_a_flipped_bit_anywhere_in_the_ring_is_noticed(tmp_path):
    ring = Ring(tmp_path)
    ring.write(state(1))
    ring.write(state(2))
    whole = (tmp_path / NAMES[1]).read_bytes()
    spaces = whole.index(b"   ")
    end = len(whole) - sum(t.nbytes for t in state(2).tensors.values())
    for at in [*range(0, spaces, 7), *range(end, len(whole), 3)]:
        said = []
        flip(tmp_path / NAMES[1], at)
        assert same(Ring(tmp_path).read(said.append), state(1)), at
        assert len(said) == 1, at
        assert f"The copy of a step in {tmp_path} is damaged ({NAMES[1]} " in said[0]
        (tmp_path / NAMES[1]).write_bytes(whole)
    for size in (len(whole) - 1, end - 1, 100, 9, 8, 3, 1):
        said = []
        os.truncate(tmp_path / NAMES[1], size)
        assert same(Ring(tmp_path).read(said.append), state(1)), size
        assert len(said) == 1, size


def test_a_copy_that_was_being_written_is_no_damage(tmp_path):
    ring = Ring(tmp_path)
    ring.write(state(1))
    (tmp_path / NAMES[1]).touch()  # as when the process dies after making the file
    said = []
    assert same(Ring(tmp_path).read(said.append), state(1))
    (tmp_path / NAMES[1]).write_bytes(bytes(8) + (tmp_path / NAMES[0]).read_bytes()[8:])
    assert same(Ring(tmp_path).read(said.append), state(1))
    assert not said


def keeper(folder, **rule):
    said = []
    return Keeper(folder, Rule(**rule), said.append), said


def test_checkpoints_are_written_in_the_background_from_a_copy(tmp_path):
    import threading

    gate, names = threading.Event(), []

    def slow(folder, content):
        names.append(threading.current_thread().name)
        assert gate.wait(30)
        checkpoint.save_state(folder, content)

    now = state(5)
    one = Keeper(tmp_path, Rule(steps=5, share=0.0), print, write=slow)
    one.offer(5, lambda: now)  # returns although nothing is written
    assert checkpoint.steps(tmp_path) == []
    now.tensors["model.a"].zero_()
    gate.set()
    one.close()
    assert names == ["checkpoint"]
    assert same(checkpoint.load_latest(tmp_path), state(5))


def test_what_is_newest_is_used(tmp_path):
    one, said = keeper(tmp_path, steps=2)
    assert one.newest() is None
    one.offer(2, lambda: state(2))
    one.wait()
    one._ring_s = -1e9
    one.offer(3, lambda: state(3))
    one.close()
    assert keeper(tmp_path)[0].newest().step == 3
    checkpoint.save_state(tmp_path, state(7))
    assert keeper(tmp_path)[0].newest().step == 7
    flip(tmp_path / "step-00000007" / "state.safetensors", 300)
    flip(tmp_path / "step-00000002" / "state.safetensors", 300)
    assert keeper(tmp_path)[0].newest().step == 3  # the ring is the last resort
    assert not said


def test_an_unfinished_step_yields_to_the_same_step_finished(tmp_path):
    ring = Ring(tmp_path)
    ring.write(state(4, due=["sample"]))
    checkpoint.save_state(tmp_path, state(4))
    assert keeper(tmp_path)[0].newest().facts["due"] == []
    ring.write(state(4))
    checkpoint.save_state(tmp_path, state(4, due=["sample"]))
    assert keeper(tmp_path)[0].newest().facts["due"] == []


def test_a_full_disk_is_said_once_and_what_is_there_stays(tmp_path, monkeypatch):
    one, said = keeper(tmp_path, steps=1, share=0.0)
    one.offer(1, lambda: state(1))
    one.wait()
    with monkeypatch.context() as patch:

        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        patch.setattr(os, "fsync", full)
        for step in (2, 3, 4):
            one.offer(step, lambda step=step: state(step))
        one.wait()
        assert not one.save(lambda: state(4), finished=True)
    assert said == [
        "The checkpoint of step 2 could not be saved (No space left on device); training goes on, and the "
        "checkpoint of step 1 is safe."
    ]
    assert [entry.name for entry in tmp_path.iterdir()] == ["step-00000001"]
    assert one.save(lambda: state(5), finished=True)
    assert said[1:] == ["The checkpoint of step 5 is saved: the disk works again."]


def test_the_ring_takes_no_more_than_its_share(tmp_path, monkeypatch):
    one, _ = keeper(tmp_path, seconds=1e9, share=0.1)
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    written = []

    def slow(content, number):
        written.append(content.step)
        clock[0] += 0.5

    one._saved_s, one._ring_s = 1000.0, 1000.0
    monkeypatch.setattr(one.ring, "write", slow)
    for step in range(100):
        clock[0] += 1.0
        one.offer(step, lambda step=step: state(step))
    assert written[:2] == [0, 1]  # the files are made
    assert len(written[2:]) == pytest.approx(0.1 * (clock[0] - 1000) / 0.5, abs=2)  # a tenth of the time
    assert set(np.diff(written[5:])) <= {4, 5}


def test_one_slow_write_costs_no_copy_when_the_others_were_quick(tmp_path, monkeypatch):
    one, _ = keeper(tmp_path, seconds=1e9, share=0.1)
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    written = []

    def write(content, number):
        written.append(content.step)
        clock[0] += {50: 0.4, 51: 1.0}.get(content.step, 0.01)

    one._saved_s, one._ring_s = 1000.0, 1000.0
    monkeypatch.setattr(one.ring, "write", write)
    for step in range(60):
        clock[0] += 1.0
        one.offer(step, lambda step=step: state(step))
    assert [step for step in range(60) if step not in written] == [*range(52, 58)]  # for the second one


def test_the_guard_refuses_what_is_far_off_and_nothing_else():
    guard = Guard(GuardConfig())
    generator = torch.Generator().manual_seed(0)
    for step in range(400):  # falling fast, then noise of 0.1 nats
        loss = 8 * 0.97**step + 2 + 0.1 * float(torch.randn((), generator=generator))
        assert guard.refuses(loss) is None, step
        guard.took(loss)
    assert guard.refuses(2.5) is None
    assert "9.00 is far above the 2.0" in guard.refuses(9.0)
    for broken in (float("nan"), float("inf")):
        assert guard.refuses(broken) == "its loss is no number"
    assert [guard.skipped() for _ in range(4)] == [False, False, False, True]
    other = Guard(GuardConfig())
    other.restore(guard.state())
    assert other.refuses(9.0) == guard.refuses(9.0)
    guard.forget()
    assert guard.refuses(9.0) is None
    assert Guard(GuardConfig(window=0)).refuses(1e9) is None
