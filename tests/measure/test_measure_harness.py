"""twofold behind lm-evaluation-harness's interface: without the harness, and with it where it is there."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_models import random_model

from twofold import parameters, run
from twofold.base.errors import TwofoldError, UsageError
from twofold.measure import harness
from twofold.measure.likelihood import Scorer


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.gguf"
    parameters.save_gguf(random_model("llama"), path, "F32")
    return path


def request(*args: object) -> SimpleNamespace:
    return SimpleNamespace(args=args)


def test_requests_are_answered_in_their_order(path: Path) -> None:
    answerer = harness.Answerer(path, threads=1, sequences=3)
    scorer = Scorer(run.load(path, threads=1))
    pairs = [("The ferry", " leaves"), ("", "A boy"), ("The ferry", " sinks at seven")]
    for (ln_p, greedy), one in zip(
        answerer.loglikelihood([request(*pair) for pair in pairs]), scorer.likelihoods(pairs), strict=True
    ):
        assert ln_p == pytest.approx(one.ln_p, abs=1e-4)
        assert greedy == one.greedy
    (rolled,) = answerer.loglikelihood_rolling([request("A boy carries lemons.")])
    assert rolled == pytest.approx(scorer.rolling("A boy carries lemons."), abs=1e-4)


def test_texts_of_several_settings(path: Path) -> None:
    answerer = harness.Answerer(path, threads=1, sequences=3)
    scorer = Scorer(run.load(path, threads=1))
    asked = [
        request("The ferry", {"until": ["e"], "max_gen_toks": 9}),
        request("A boy", {"until": "a", "do_sample": False, "temperature": 0.0, "max_gen_toks": 5}),
        request("The sea", {"until": ["e"], "max_gen_toks": 9}),
    ]
    texts = answerer.generate_until(asked)
    how = [(("e",), 9), (("a",), 5), (("e",), 9)]
    for text, one, (until, most) in zip(texts, asked, how, strict=True):
        assert text == scorer.write([one.args[0]], until=until, max_tokens=most)[0].text
    with pytest.raises(UsageError, match="greedy decoding"):
        answerer.generate_until([request("x", {"do_sample": True, "temperature": 0.7})])


def test_without_the_harness_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.setitem(sys.modules, "lm_eval.api.model", None)
    with pytest.raises(TwofoldError, match="pip install lm-eval"):
        harness.register()


def test_the_harness_finds_the_model(path: Path) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed here")
    from lm_eval.api.registry import get_model

    harness.register()
    model = get_model("twofold")(path=str(path), threads="1")
    ((ln_p, _),) = model.loglikelihood([request("The ferry", " leaves")])
    assert ln_p < 0
