"""What all requests share: the models, the settings, where files lie, and what is counted."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from twofold.base import home
from twofold.serve.metrics import Metrics
from twofold.serve.models import Models
from twofold.serve.settings import Settings


@dataclass
class State:
    """The server's state. `key`: what clients must show, None on a machine's own loopback.

    `extras`: what a part of the server keeps for itself, under a name of its own. `closing`: what is called
    when the server ends.
    """

    models: Models
    settings: Settings = field(default_factory=Settings)
    key: str | None = None
    home: Path = field(default_factory=home.data_folder)
    metrics: Metrics = field(default_factory=Metrics)
    extras: dict[str, Any] = field(default_factory=dict)
    closing: list[Callable[[], None]] = field(default_factory=list)
