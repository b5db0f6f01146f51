"""Requests made from the OpenAPI document, good and bad ones, and damaged bytes: the server never breaks.

    python tests/soak/serve_fuzz.py [--cases 10000] [--seed 0]

Half of the cases are made by schemathesis, valid and invalid in turn; half are good requests whose bytes were
damaged. Every answer must be below 500 (or say that it is busy), a refusal must be JSON with a sentence, a
stream must end as its family's streams do, and afterwards the server must answer a good request as before.
Prints how often which status came. Exit code 1 if anything was not as it should be. Takes about ten minutes.
"""

import argparse
import json
import random
import sys
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import hypothesis
import schemathesis
from rich.console import Console
from rich.table import Table
from schemathesis.generation import GenerationMode

sys.path.extend(str(Path(__file__).resolve().parents[1] / name) for name in ("serve", "parameters", "tokens"))
from serving import Serving, serve
from tiny_models import random_model

from twofold import parameters
from twofold.serve import openapi

ASK = {"messages": [{"role": "user", "content": "Who?"}], "max_tokens": 4, "seed": 1, "temperature": 0}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        **ASK,
        "logprobs": True,
        "top_logprobs": 2,
        "tools": [TOOL],
        "stream": True,
        "n": 2,
    },
    "/v1/completions": {"prompt": ["a", "b"], "max_tokens": 3, "logprobs": 1, "echo": True, "stop": ["x"]},
    "/v1/responses": {"input": [{"role": "user", "content": "Who?"}], "max_output_tokens": 4, "stream": True},
    "/v1/embeddings": {"input": ["a", "b"], "encoding_format": "base64"},
    "/v1/messages": {
        "messages": ASK["messages"],
        "max_tokens": 4,
        "system": "Be.",
        "stop_sequences": ["x"],
        "stream": True,
    },
    "/v1/messages/count_tokens": {"messages": ASK["messages"]},
    "/api/chat": {
        "model": "small",
        "messages": ASK["messages"],
        "options": {"num_predict": 4},
        "tools": [TOOL],
    },
    "/api/generate": {
        "model": "small",
        "prompt": "Who?",
        "options": {"num_predict": 4},
        "format": {"type": "boolean"},
    },
    "/api/embed": {"model": "small", "input": ["a"]},
    "/api/show": {"model": "small"},
}
BUSY = (503, 529)


class Watch:
    """Counts statuses and keeps what was wrong."""

    def __init__(self) -> None:
        self.statuses: Counter[tuple[str, int]] = Counter()
        self.faults: list[str] = []

    def see(self, path: str, status: int, text: str, sent: Any) -> None:
        """Judge an answer."""
        self.statuses[path, status] += 1
        wrong = ""
        if status >= 500 and status not in BUSY:
            wrong = f"status {status}"
        elif status >= 400 and not _sentence(text):
            wrong = f"status {status} without a sentence"
        elif "This is a bug" in text:
            wrong = "a bug within a stream"
        if wrong and len(self.faults) < 50:
            self.faults.append(f"{path}: {wrong}: {text[:300]} for {sent!r:.600}")


def main() -> None:
    """Ask, count, and exit 1 when anything was wrong."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    watch = Watch()
    with TemporaryDirectory() as name:
        path = Path(name) / "small.gguf"
        parameters.save_gguf(random_model("qwen3", context=96), path, "F32")
        with serve(path, slots=8) as running:
            before = running.post("/v1/chat/completions", ASK).json()["choices"]
            described(running, watch, options.cases // 2, options.seed)
            damaged(running, watch, options.cases - sum(watch.statuses.values()), options.seed)
            if running.post("/v1/chat/completions", ASK).json()["choices"] != before:
                watch.faults.append("afterwards a good request is answered otherwise")
    report(watch)
    sys.exit(bool(watch.faults))


def described(running: Serving, watch: Watch, cases: int, seed: int) -> None:
    """Ask what schemathesis makes of the document, right and wrong in turn; about so many cases."""
    schema = schemathesis.openapi.from_dict(openapi.document())
    generator = random.Random(seed)
    operations = [found.ok() for found in schema.get_all_operations()]
    posts = [one for one in operations if one.method.upper() == "POST"]
    share = -(-(cases - 10 * (len(operations) - len(posts))) // (2 * len(posts)))
    for operation in operations:
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            count = share if operation in posts else 5

            @hypothesis.seed(seed)
            @hypothesis.settings(
                max_examples=count, deadline=None, database=None, phases=[hypothesis.Phase.generate],
                suppress_health_check=list(hypothesis.HealthCheck),
            )  # fmt: skip
            @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
            def ask(case: schemathesis.Case) -> None:
                if isinstance(case.body, dict) and "model" in case.body and generator.random() < 0.8:
                    case.body["model"] = "small"  # else hardly any would be there
                answer = case.call(base_url=running.url, timeout=120)
                watch.see(case.operation.path, answer.status_code, answer.text, case.body)

            try:
                ask()
            except (hypothesis.errors.Unsatisfiable, schemathesis.errors.InvalidSchema):
                continue  # nothing can be wrong about what takes nothing


def damaged(running: Serving, watch: Watch, cases: int, seed: int) -> None:
    """Ask good requests whose bytes, or values, were damaged."""
    generator = random.Random(seed)
    for _ in range(cases):
        path, good = generator.choice(list(GOOD.items()))
        body = json.dumps(replaced(good, generator)).encode()
        if generator.random() < 0.5:
            body = bitten(body, generator)
        answer = running.http.post(path, content=body)
        watch.see(path, answer.status_code, answer.text, body)


STRANGE = (
    None, True, -1, 0, 1, 2**63, 1e308, -0.5, "", "x", "\x00", "\ud800", "<|im_end|>", "<tool_call>", [],
    [[]], {}, {"type": "x"}, ["x"], [1, "x"], "🦔" * 50, {"a": {"a": {}}}, "a" * 5000,
)  # fmt: skip


def replaced(value: Any, generator: random.Random) -> Any:
    """Return `value` with one of its parts replaced by something strange."""
    if generator.random() < 0.25 or not isinstance(value, dict | list) or not value:
        return generator.choice(STRANGE)
    copy = dict(value) if isinstance(value, dict) else list(value)
    key = generator.choice(list(copy)) if isinstance(copy, dict) else generator.randrange(len(copy))
    copy[key] = replaced(copy[key], generator)
    return copy


def bitten(body: bytes, generator: random.Random) -> bytes:
    """Return `body` with bytes changed, cut out or doubled."""
    damaged = bytearray(body)
    for _ in range(generator.randrange(1, 4)):
        at = generator.randrange(len(damaged) + 1)
        kind = generator.randrange(3)
        if kind == 0:
            damaged[at : at + 1] = generator.randbytes(1)
        elif kind == 1:
            del damaged[at : at + generator.randrange(1, 20)]
        else:
            damaged[at:at] = damaged[at : at + 40]
    return bytes(damaged)


def _sentence(text: str) -> bool:
    try:
        error = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError):
        return False
    said = error["message"] if isinstance(error, dict) else error
    return isinstance(said, str) and len(said) > 10


def report(watch: Watch) -> None:
    """Print how often which status came, and what was wrong."""
    console = Console(width=120)
    table = Table("path", "answers", "by status", box=None)
    for path in sorted({path for path, _ in watch.statuses}):
        mine = {status: n for (other, status), n in sorted(watch.statuses.items()) if other == path}
        spelled = " · ".join(f"{status}: {n:,}" for status, n in mine.items())
        table.add_row(path, f"{sum(mine.values()):,}", spelled)
    console.print(table)
    for fault in watch.faults:
        console.print(fault, markup=False, soft_wrap=True)
    console.print(f"{sum(watch.statuses.values()):,} answers, {len(watch.faults)} faults.")


if __name__ == "__main__":
    main()
