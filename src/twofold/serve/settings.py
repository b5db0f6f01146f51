"""How the server runs: what it holds in memory, what it lets in, and how long it waits."""

from dataclasses import dataclass

LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of a server; those that are not options of `twofold serve` are keys of its `--set`.

    `slots`: answers that a model writes at a time. `context`: tokens of a conversation at most; None: as many
    as the model was made for. `memory_gb`: for all loaded models together; None: half of the machine's.
    `temperature`, `min_p`, `max_tokens`: for requests that do not say; None: as the model's card advises, or
    else 0.7 and 0.05. `queue`: requests that may wait for a
    model; `items`: answers or texts a request may ask for. `patience_s`: seconds that a client may take
    to send its request, or to take a piece of the answer; `grace_s`: that answers may still take when the
    server stops. `preload`: load the first model at the start. `origins`: web pages besides the server's own
    that may ask. `hosts`: names under which it may be asked besides those of the loopback, as behind a proxy.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    threads: int | None = None
    slots: int = 16
    context: int | None = None
    memory_gb: float | None = None
    temperature: float | None = None
    min_p: float | None = None
    max_tokens: int = 4096
    queue: int = 256
    connections: int = 1024
    body_mb: float = 16.0
    items: int = 128
    patience_s: float = 30.0
    grace_s: float = 10.0
    preload: bool = True
    origins: list[str] | None = None
    hosts: list[str] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError("a port is a number from 0 to 65,535.")
        if min(self.slots, self.queue, self.connections, self.items, self.max_tokens) < 1:
            raise ValueError("slots, queue, connections, items and max_tokens are 1 or more.")
        if (self.threads or 1) < 1 or (self.context or 1) < 1:
            raise ValueError("threads and context are 1 or more.")
        if min(self.body_mb, self.patience_s, self.memory_gb or 1) <= 0 or self.grace_s < 0:
            raise ValueError("body_mb, patience_s and memory_gb are above 0.")
        if (self.temperature or 0) < 0 or not 0 <= (self.min_p or 0) <= 1:
            raise ValueError("temperature is 0 or more, min_p from 0 to 1.")

    @property
    def loopback(self) -> bool:
        """Whether only this machine can ask."""
        return self.host in LOOPBACK
