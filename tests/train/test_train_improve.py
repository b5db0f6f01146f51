"""Learning from rewards: the loss, the rounds, resuming, and that a model gets better at all."""

import dataclasses

import pytest

torch = pytest.importorskip("torch")

from twofold import train  # noqa: E402
from twofold.base import runlog  # noqa: E402
from twofold.base.errors import UsageError  # noqa: E402
from twofold.environments import Episode, Problem, only  # noqa: E402
from twofold.parameters import ModelConfig, load, save_gguf  # noqa: E402
from twofold.tokens import Tokenizer  # noqa: E402
from twofold.train import ImproveConfig, dial, improve, policy, rounds  # noqa: E402
from twofold.train.data import IGNORED  # noqa: E402
from twofold.train.export import to_model  # noqa: E402
from twofold.train.optimiser import OptimizerConfig  # noqa: E402
from twofold.train.policy import Sample, Seen, Surrogate, advantages, log_probabilities, pack  # noqa: E402
from twofold.train.transformer import Transformer  # noqa: E402

TOKENIZER = Tokenizer.train(["user assistant a b c d e f"], 320)
SHAPE = ModelConfig(
    architecture="qwen3", family="qwen3", context=64, vocab_size=320, layers=1, width=32, heads=2, kv_heads=2,
    head_dim=16, ffn=64, tied=True,
)  # fmt: skip
RATES = OptimizerConfig(muon_lr=0.02, embedding_lr=0.01, head_lr=0.01, norm_lr=0.01)


def network(seed=0, spread=0.05):
    net = Transformer(SHAPE)
    net.initialise(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():  # so that the blocks count
        for parameter in net.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * spread)
    return net


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    path = tmp_path_factory.mktemp("fresh") / "fresh.gguf"
    save_gguf(to_model(network(spread=0), TOKENIZER, {"name": "fresh"}), path, "F32")
    return path


class Letters:
    """A task that is learned in moments: say the letter that follows."""

    ANSWER_TOKENS = 3

    @staticmethod
    def problems(seed, split):
        import random

        chance = random.Random(f"{seed} {split}")

        def endless():
            while True:
                pair = chance.choice("abcdef") + chance.choice("abcdef")
                yield Problem(pair, pair, {"right": pair[-1]})

        return only(split, endless())

    @staticmethod
    def begin(problem, seed=0):
        return Episode(problem, lambda problem, answer: float(answer.strip() == problem.facts["right"]))

    @staticmethod
    def solve(episode):
        return episode.problem.facts["right"]


@pytest.fixture
def letters(monkeypatch):
    from twofold.environments import TASKS

    known = TASKS.get
    monkeypatch.setattr(TASKS, "get", lambda name: Letters if name == "letters" else known(name))


def settings(fresh, out, **changes):
    given = dict(
        model=fresh, task="letters", out=out, threads=1, rounds=6, problems=4, group=4, updates=2,
        imitate=512, imitate_batch=32, imitate_epochs=1.0, test_problems=5, eval_every=3, warmup=2,
        optimizer=dataclasses.replace(RATES, muon_lr=0.005), imitation_optimizer=RATES,
    )  # fmt: skip
    return ImproveConfig(**{**given, **changes})


def records(folder):
    """Return what must be equal of each record, whenever it ran."""
    return [
        {k: v for k, v in record.items() if not k.endswith("_s")}
        for record in runlog.read(folder / "metrics.jsonl")
    ]


# --- the loss


SAMPLES = [
    Sample([1, 2, 3], [4, 5], [-1.0, -2.0], 1.5),
    Sample([7] * 40, [8, 9, 10], [-0.5] * 3, -0.5),
    Sample([11], [12], [-3.0], 1.0),
    Sample([1, 2, 3], [6], [-2.5], -1.0),
]


def test_packing_keeps_turns_whole_and_apart():
    packed = list(pack(SAMPLES, rows=1, most=44, separator=0))
    assert [len(micro.batch.ids) for micro in packed] == [1, 1, 1]
    found = [t for micro in packed for t in micro.batch.targets[micro.batch.targets != IGNORED].tolist()]
    assert found == [4, 5, 8, 9, 10, 12, 6]
    weights = torch.cat([micro.advantage_A for micro in packed]).tolist()
    assert weights == [1.5, 1.5, -0.5, -0.5, -0.5, 1.0, -1.0]
    net = network()
    alone = [
        log_probabilities(net, micro.batch)
        for sample in SAMPLES
        for micro in pack([sample], rows=1, most=64, separator=0)
    ]
    together = [log_probabilities(net, micro.batch) for micro in pack(SAMPLES, rows=4, most=64, separator=0)]
    torch.testing.assert_close(torch.cat(together), torch.cat(alone), atol=2e-6, rtol=0)


def test_turns_of_about_one_length_get_a_row_each_and_empty_rows_change_nothing():
    alike = [Sample([n, n + 1, n + 2], [n + 3] * (1 + (n > 1))) for n in range(5)]
    packed = list(pack(alike, rows=2, most=44, separator=0, even=True))
    assert [micro.batch.ids.shape for micro in packed] == [(2, 5)] * 3
    net = network()
    found = torch.cat([log_probabilities(net, micro.batch) for micro in packed])
    (shared,) = pack([*alike, SAMPLES[1]], rows=9, most=44, separator=0)
    assert shared.batch.ids.shape == (2, 44)
    torch.testing.assert_close(found, log_probabilities(net, shared.batch)[:-3], atol=2e-6, rtol=0)


def test_log_probabilities_are_of_the_tempered_softmax():
    net, sample = network(), SAMPLES[0]
    (micro,) = pack([sample], rows=1, most=64, separator=0)
    ids = torch.tensor([[*sample.prompt, *sample.answer]])
    logits = net.logits(ids)[0, 2:4] / 0.7
    expected = logits.log_softmax(-1)[[0, 1], [4, 5]]
    torch.testing.assert_close(log_probabilities(net, micro.batch, 0.7), expected)


def test_advantages_are_in_deviations_of_the_group():
    assert advantages([1, 1, 1]) == [0, 0, 0]
    assert advantages([1, 0, 0, 1]) == [1, -1, -1, 1]
    assert advantages([1, 0, 0, 0]) == pytest.approx([3**0.5, *[-(3**-0.5)] * 3])


def surrogate(**changes):
    return Surrogate(**{**dict(clip_low=0.2, clip_high=0.28, kl=0.0, temperature=1.0), **changes})


def test_the_gradient_is_the_policy_gradient():
    """With nothing to clip and no mismatch: the advantage times the gradient of the log-probability."""
    net = network()
    (micro,) = pack(SAMPLES, rows=9, most=64, separator=0)
    micro.log_p_A = log_probabilities(net, micro.batch).detach()
    seen = Seen()
    surrogate().loss(net, micro, 7, seen).backward()
    found = {name: parameter.grad.clone() for name, parameter in net.named().items()}
    net.zero_grad()
    (-(micro.advantage_A * log_probabilities(net, micro.batch)).sum() / 7).backward()
    for name, parameter in net.named().items():
        torch.testing.assert_close(found[name], parameter.grad)
    assert seen.tokens == 7
    assert seen.figures()["mismatch_nats"] == 0


def test_a_ratio_beyond_the_bounds_teaches_nothing_more():
    net = network()
    (micro,) = pack(SAMPLES, rows=9, most=64, separator=0)
    now = log_probabilities(net, micro.batch).detach()
    # What was good is much likelier already, and what was bad much less likely.
    micro.old_A = micro.log_p_A = now - micro.advantage_A.sign() * 0.5
    seen = Seen()
    surrogate().loss(net, micro, 7, seen).backward()
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in net.parameters())
    assert seen.clipped == 7


def test_what_the_engine_drew_too_often_counts_for_less_and_the_rest_at_most_double():
    net = network()
    (micro,) = pack(SAMPLES[:1], rows=9, most=64, separator=0)
    now = log_probabilities(net, micro.batch).detach()
    micro.log_p_A = now + torch.tensor([1.0, -3.0])
    loss = surrogate().loss(net, micro, 2, seen := Seen()).detach()
    assert float(loss) == pytest.approx(-1.5 * (2.718281828**-1 + policy.TRUNCATION) / 2, rel=1e-5)
    assert seen.truncated == 1
    assert seen.figures()["mismatch_nats"] == pytest.approx(2.0, rel=1e-5)


def test_the_distance_to_a_reference_pulls_back():
    net, reference = network(), network(spread=0.2)
    (micro,) = pack([dataclasses.replace(s, advantage=0.0) for s in SAMPLES], rows=9, most=64, separator=0)
    micro.log_p_A = log_probabilities(net, micro.batch).detach()
    seen = Seen()
    surrogate(kl=0.5, reference=reference).loss(net, micro, 7, seen).backward()
    before = seen.to_reference
    assert before > 0
    with torch.no_grad():
        for parameter in net.parameters():
            parameter -= 0.02 * parameter.grad / parameter.grad.norm()
    surrogate(kl=0.5, reference=reference).loss(net, micro, 7, after := Seen())
    assert after.to_reference < before


# --- runs


@pytest.mark.parametrize("method", ["grpo", "expert"])
def test_rewards_teach(letters, fresh, tmp_path, method):
    """After too little imitation, rewards alone finish the job, on problems not trained on too."""
    config = settings(
        fresh, tmp_path / "run", method=method, rounds=40, problems=8, group=8, updates=1,
        eval_every=0, optimizer=RATES,
    )  # fmt: skip
    result = improve(config)
    found = rounds.evaluations(result.folder)
    assert [record["step"] for record in found] == [0, 4, 8, 12, 16, 56]
    means = [sum(record["rewards_sampled"]) / 5 for record in found]
    assert means[0] == 0
    tries = [r for r in runlog.read(result.folder / "metrics.jsonl") if r["phase"] == "reward"]
    early, late = (sum(r["reward"] for r in part) / 5 for part in (tries[:5], tries[-5:]))
    assert late > early + 0.25
    assert means[-1] >= means[-2]
    assert all(r.get("mismatch_nats", 0) < 1e-4 for r in tries)  # float32 on both sides
    assert result.rounds == 40
    card = load(result.model).card
    names = [score["name"] for score in card["scores"]]
    assert names[:2] == ["letters, greedy, start", "letters, greedy, after imitation"]
    assert "reward.svg" in (result.folder / "card.md").read_text()


def test_a_run_that_died_goes_on_to_the_last_bit(letters, fresh, tmp_path, monkeypatch):
    whole = improve(settings(fresh, tmp_path / "whole"))
    assert sum(record.get("samples", 0) > 0 for record in records(whole.folder)) > 3  # it did learn
    for place in ("_imitate", "_round"):
        with monkeypatch.context() as patch:
            happened = []
            inner = getattr(rounds.Rounds, place)

            def dies(self, *arguments, inner=inner, happened=happened):
                inner(self, *arguments)
                happened.append(self.step)
                if len(happened) == 4:
                    raise MemoryError  # nothing of the run's own code expects it: stands for a kill

            patch.setattr(rounds.Rounds, place, dies)
            out = tmp_path / place
            with pytest.raises(MemoryError):
                improve(settings(fresh, out))
        train.resume(out)
        assert records(out) == records(whole.folder)
        ours, theirs = load(out / "model.gguf"), load(whole.model)
        assert all((ours.tensors[name] == theirs.tensors[name]).all() for name in SHAPE.shapes())


def test_ctrl_c_saves_and_says_how_to_go_on(letters, fresh, tmp_path, monkeypatch):
    import io
    import os
    import signal

    from rich.console import Console

    heard = io.StringIO()
    tried = rounds.Rounds._attempts

    def interrupted(self):
        if self.round == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return tried(self)

    with monkeypatch.context() as patch:
        patch.setattr(rounds.Rounds, "_attempts", interrupted)
        with pytest.raises(train.Stopped):
            improve(settings(fresh, tmp_path / "run"), console=Console(file=heard, width=300))
    assert f"--resume {tmp_path / 'run'}" in heard.getvalue()
    result = train.resume(tmp_path / "run", console=Console(file=heard, width=300))
    assert "Going on from step 18" in heard.getvalue()
    assert result.rounds == 6
    assert records(result.folder) == records(improve(settings(fresh, tmp_path / "whole")).folder)
    again = train.resume(tmp_path / "run")
    assert again.table == result.table


def test_the_reference_survives_a_resume(letters, fresh, tmp_path, monkeypatch):
    whole = improve(settings(fresh, tmp_path / "whole", kl=0.1))
    assert any(record.get("kl_to_reference_nats", 0) > 0 for record in records(whole.folder))
    inner = rounds.Rounds._round

    def dies(self, *arguments):
        inner(self, *arguments)
        if self.round == 3:
            raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(rounds.Rounds, "_round", dies)
        with pytest.raises(MemoryError):
            improve(settings(fresh, tmp_path / "parts", kl=0.1))
    train.resume(tmp_path / "parts")
    assert records(tmp_path / "parts") == records(whole.folder)


def test_time_ends_the_rounds(letters, fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(dial, "seconds", lambda text: 5.0)
    result = improve(settings(fresh, tmp_path / "run", rounds=None, time="soon", imitate=0))
    assert result.rounds > 1
    assert rounds.evaluations(result.folder)[-1]["round"] == result.rounds


def test_rates_rise_and_fall_over_the_rounds(letters, fresh, tmp_path):
    result = improve(settings(fresh, tmp_path / "run", rounds=10, imitate=0, warmup=2, decay=0.4))
    scales = [r["lr_scale"] for r in records(result.folder) if r["phase"] == "reward"]
    assert scales == pytest.approx([0.5, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25])


def test_without_imitation_or_rounds_there_is_a_table(letters, fresh, tmp_path):
    result = improve(settings(fresh, tmp_path / "run", rounds=0, imitate=0))
    stages = [row["stage"] for row in result.table]
    assert stages == ["start", "after rewards", "gained by rewards", "the task's own solver"]
    assert result.table[-1]["greedy"].startswith("100.0 %")


def test_examples_are_conversations_to_train_on(letters, fresh, tmp_path):
    from twofold.corpus.conversations import conversations

    improve(settings(fresh, tmp_path / "run", rounds=0))
    found = list(conversations(tmp_path / "run" / "examples.jsonl"))
    assert len(found) == 512
    assert all(one.messages[1]["content"] == one.messages[0]["content"][-1] for one in found)
    tests = {p.text for p in rounds.draw(Letters, 36, seed=0, split="test")}
    assert not tests & {one.messages[0]["content"] for one in found}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (dict(task="chess"), "no task 'chess'"),
        (dict(model="nothing.gguf"), "no model"),
        (dict(time="soon"), "time"),
    ],
)
def test_what_cannot_be_is_said(fresh, tmp_path, changes, complaint):
    from pathlib import Path

    changes = {k: Path(v) if k == "model" else v for k, v in changes.items()}
    with pytest.raises(UsageError, match=complaint):
        improve(settings(fresh, tmp_path / "run", **{"task": "arithmetic", **changes}))
    assert not (tmp_path / "run").exists()
