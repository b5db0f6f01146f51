"""twofold as a model of EleutherAI's lm-evaluation-harness, so that its figures can be held against ours.

    python -m twofold.measure.harness --model twofold --model_args path=model.gguf --tasks arc_easy

is the harness's own command line with one model more. In a program, call `register()` before the harness
looks for its models. The harness (`pip install lm-eval`, without torch) is imported only then.

`Answerer` is the model without the harness: it takes requests with `args`, as the harness hands them over.
Greedy decoding only: a request to sample is refused. Not covered: chat templates, several processes.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from twofold.base.errors import TwofoldError, UsageError
from twofold.measure.likelihood import Scorer

_MOST = 256  # tokens of an answer, where the harness does not say


class Request(Protocol):
    """What the harness asks: a likelihood's (context, continuation), a text's (text,), (prompt, settings)."""

    @property
    def args(self) -> tuple[Any, ...]:
        """The arguments."""
        ...


class Answerer:
    """A model file that answers requests. `context`, `threads`: as for twofold.run.load."""

    def __init__(
        self, path: str | Path, *, context: int | None = None, threads: int | None = None, sequences: int = 64
    ) -> None:
        from twofold import run

        self.scorer = Scorer(run.load(path, context=context, threads=threads, sequences=sequences))

    def loglikelihood(self, requests: Iterable[Request]) -> list[tuple[float, bool]]:
        """Return (ln p, whether greedy decoding writes it) of each (context, continuation)."""
        found = self.scorer.likelihoods([(r.args[0], r.args[1]) for r in requests])
        return [(one.ln_p, one.greedy) for one in found]

    def loglikelihood_rolling(self, requests: Iterable[Request]) -> list[float]:
        """Return ln p of each (text,) from its first token on."""
        return [self.scorer.rolling(request.args[0]) for request in requests]

    def generate_until(self, requests: Iterable[Request]) -> list[str]:
        """Return what greedy decoding writes for each (prompt, settings). Raises UsageError for sampling."""
        asked = [(request.args[0], *_settings(request.args[1])) for request in requests]
        texts = [""] * len(asked)
        for until, most in dict.fromkeys((until, most) for _, until, most in asked):
            mine = [n for n, (_, *how) in enumerate(asked) if tuple(how) == (until, most)]
            found = self.scorer.write([asked[n][0] for n in mine], until=until, max_tokens=most)
            for number, written in zip(mine, found, strict=True):
                texts[number] = written.text
        return texts


def _settings(given: dict[str, Any]) -> tuple[tuple[str, ...], int]:
    """Return the stop strings and the most tokens of a request."""
    if given.get("do_sample") and given.get("temperature", 1.0) > 0:
        raise UsageError("twofold answers the harness by greedy decoding: set do_sample=False.")
    until = given.get("until") or ()
    until = (until,) if isinstance(until, str) else tuple(until)
    return until, int(given.get("max_gen_toks") or given.get("max_tokens") or _MOST)


def register() -> type:
    """Return the harness's model class, known to it as `twofold`. Raises TwofoldError without the harness."""
    try:
        from lm_eval.api.model import LM
        from lm_eval.api.registry import register_model
    except ImportError:
        raise TwofoldError("This needs lm-evaluation-harness: run `pip install lm-eval`.") from None

    class TwofoldLM(LM):  # type: ignore[misc]
        """twofold's engine behind the harness's interface."""

        def __init__(self, path: str, **settings: Any) -> None:
            super().__init__()
            known = {
                key: int(settings[key]) for key in ("context", "threads", "sequences") if key in settings
            }
            self.answerer = Answerer(path, **known)

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return self.answerer.loglikelihood(requests)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return self.answerer.loglikelihood_rolling(requests)

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return self.answerer.generate_until(requests)

    registered: type = register_model("twofold")(TwofoldLM)
    return registered


def main() -> None:
    """Run the harness's command line with twofold among its models."""
    try:
        register()
    except TwofoldError as error:
        sys.exit(str(error))
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()


if __name__ == "__main__":
    main()
