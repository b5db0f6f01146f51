"""What has been counted, as Prometheus reads it (text format 0.0.4). Not covered: histograms of latency."""

import threading
from collections import Counter
from collections.abc import Mapping

_HELP = {
    "twofold_requests_total": ("counter", "Requests answered, by path and status."),
    "twofold_seconds_total": ("counter", "Seconds spent on requests, by path."),
    "twofold_prompt_tokens_total": ("counter", "Tokens of prompts."),
    "twofold_cached_tokens_total": ("counter", "Tokens of prompts that need not be read again."),
    "twofold_completion_tokens_total": ("counter", "Tokens written."),
    "twofold_models_loaded": ("gauge", "Models in memory."),
    "twofold_models_bytes": ("gauge", "Bytes that the loaded models need, at most."),
    "twofold_batcher": ("gauge", "Figures of each loaded model's batcher."),
}


class Metrics:
    """Counters by name and labels; may be used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, tuple[tuple[str, str], ...]]] = Counter()

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        """Count."""
        with self._lock:
            self._counts[name, tuple(sorted(labels.items()))] += amount  # type: ignore[assignment]

    def text(self, gauges: Mapping[tuple[str, tuple[tuple[str, str], ...]], float]) -> str:
        """Return everything, and the `gauges` as they are now, as text."""
        with self._lock:
            values = {**self._counts, **gauges}
        lines = []
        for name, (kind, help_) in _HELP.items():
            lines += [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]
            for (other, labels), value in sorted(values.items()):
                if other == name:
                    inside = ",".join(f'{key}="{_escaped(text)}"' for key, text in labels)
                    lines.append(f"{name}{{{inside}}} {value:g}" if inside else f"{name} {value:g}")
        return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
