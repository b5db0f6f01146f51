"""The harness's half of harness_agrees.py: asks twofold through lm-evaluation-harness, on local files only.

Started by harness_agrees.py in the environment of the rivals. `job.json` says model, folder of task files,
tasks and limit; the harness's samples and results go to `out.json`. With an address as second argument it
asks the server there.
"""

import json
import os
import sys
import urllib.request
from pathlib import Path
from typing import Any

for _name in ("HF_DATASETS_OFFLINE", "HF_HUB_OFFLINE", "HF_EVALUATE_OFFLINE"):
    os.environ[_name] = "1"


def main() -> None:
    """Answer job.json in the folder that is the only argument."""
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    os.environ["HF_HOME"] = str(folder / "cache")

    import lm_eval
    from lm_eval.tasks import TaskManager

    model, how = served(sys.argv[2]) if len(sys.argv) > 2 else in_process(job)
    found = lm_eval.simple_evaluate(
        model=model,
        model_args=how,
        tasks=job["tasks"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
        log_samples=True,
    )
    assert found is not None
    samples = {
        task: [
            {
                "asked": [list(argument) for argument in one["arguments"]],
                "answers": one["resps"],
                "metrics": {name: one[name] for name in one["metrics"]},
                "filter": one.get("filter", "none"),
            }
            for one in of
        ]
        for task, of in found["samples"].items()
    }
    out = {"results": found["results"], "samples": samples, "version": lm_eval.__version__}
    (folder / "out.json").write_text(json.dumps(out, default=str), encoding="utf-8")


def in_process(job: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return the harness's name for twofold, and what it is told."""
    from twofold.measure import harness

    harness.register()
    # One sequence: nothing is shared within a batch, unlike in twofold's own run.
    return "twofold", {"path": job["model"], "threads": job["threads"], "sequences": 1}


def served(url: str) -> tuple[str, dict[str, Any]]:
    """Return the harness's name for servers of completions, and what it is told."""
    with urllib.request.urlopen(f"{url}/tokenizer_info") as answer:
        context = json.load(answer)["model_max_length"]
    with urllib.request.urlopen(f"{url}/v1/models") as answer:
        name = json.load(answer)["data"][0]["id"]
    # It counts one more token, which it asks for and passes over.
    return "local-completions", {
        "base_url": f"{url}/v1/completions",
        "model": name,
        "max_length": context + 1,
    }


if __name__ == "__main__":
    main()
