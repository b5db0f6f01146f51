"""Training: from a corpus to `model.gguf`. Needs the extra [train] (torch).

`pretrain` makes a base model from text, `finetune` teaches a model to answer from conversations, `plan` is
the dial, `resume` goes on with a run that was stopped or killed. Under torchrun, several processes train one
model. `prefer` teaches a model which of two answers is better, or trains a reward model that says so.
`improve` makes a model better at a task by rewards that check themselves. See docs/train.md.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from twofold.base.errors import MissingExtraError

try:
    import torch as _torch  # noqa: F401
except ImportError as error:
    raise MissingExtraError("Training", "train") from error

from twofold.train import finetune as _finetune
from twofold.train import improve as _improve
from twofold.train import prefer as _prefer
from twofold.train import pretrain as _pretrain
from twofold.train.finetune import FinetunePlan, finetune
from twofold.train.folder import read_recipe
from twofold.train.improve import ImproveConfig, Improved, improve
from twofold.train.parallel import speaks
from twofold.train.planning import plan
from twofold.train.prefer import prefer
from twofold.train.pretrain import Result, pretrain
from twofold.train.settings import FinetuneConfig, PreferConfig, PretrainConfig
from twofold.train.stopping import Stopped

if TYPE_CHECKING:
    from rich.console import Console

_RUNS: dict[str, Callable[..., Result | Improved]] = {
    "pretrain": _pretrain.run, "finetune": _finetune.run, "improve": _improve.run,
    "prefer": _prefer.run,
}  # fmt: skip


def resume(folder: str | Path, *, console: "Console | None" = None) -> Result | Improved:
    """Return the run of `folder`, finished: from its last checkpoint, or from its start if it has none.

    Raises UsageError when the folder holds no run, and as `pretrain`, `finetune`, `prefer` and `improve` do.
    """
    return _RUNS[read_recipe(Path(folder)).kind](Path(folder), console=console)


__all__ = [
    "FinetuneConfig",
    "FinetunePlan",
    "ImproveConfig",
    "Improved",
    "PreferConfig",
    "PretrainConfig",
    "Result",
    "Stopped",
    "finetune",
    "improve",
    "plan",
    "prefer",
    "pretrain",
    "resume",
    "speaks",
]
