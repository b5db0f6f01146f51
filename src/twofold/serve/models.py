"""The models that are served: by name, loaded when first asked for, unloaded when others need the memory.

A model that is answering stays; among the others the one that was not used for the longest time goes first.
What a model needs is taken as the size of its weights and of a key/value cache that is full, so a model gets
fewer slots, and then a shorter context, where the memory would not do otherwise.
"""

import asyncio
import dataclasses
import functools
import gc
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from twofold import parameters, run
from twofold.base.names import unknown
from twofold.kernel import kernels
from twofold.kernel.elsewhere import Kernel
from twofold.measure import machine
from twofold.parameters import ModelConfig
from twofold.run import Engine, catalogue
from twofold.run.batcher import Batcher
from twofold.serve.refusals import Refusal
from twofold.serve.settings import Settings

if TYPE_CHECKING:
    from twofold.run.constraints import Grammars

_LEAST_CONTEXT = 512
_UNKNOWN = "model_not_found"


@dataclasses.dataclass(eq=False)
class Served:
    """A model in memory. `users`: requests that it is answering; `used`: when it was last asked (seconds)."""

    name: str
    path: Path
    engine: Engine
    batcher: Batcher
    bytes: int
    loaded: float = dataclasses.field(default_factory=time.time)
    used: float = dataclasses.field(default_factory=time.monotonic)
    users: int = 0
    rows: NDArray[np.float16] | None = None  # of the input table, once somebody wants embeddings

    @functools.cached_property
    def grammars(self) -> "Grammars":
        """What makes constraints for this model's tokens."""
        from twofold.run.constraints import Grammars

        return Grammars(self.engine.tokenizer)

    def release(self) -> None:
        """Say that a request is answered."""
        self.users -= 1
        self.used = time.monotonic()


class Models:
    """The models behind their names. `given`: names or paths; none: every model that has a name here.

    Models on other servers (kernel/kernels.py) stand beside them; a name that is here, too, means the one
    here.
    """

    def __init__(self, given: Sequence[str] = (), settings: Settings | None = None) -> None:
        """Look the given models up; nothing is loaded yet. Raises UsageError when one is not there."""
        self.settings = settings or Settings()
        self._given: dict[str, Path] = {}
        self._named, self._all = kernels.known(), not given
        self._kernels: dict[str, Kernel] = dict(self._named) if self._all else {}
        for model in given:
            if kernel := self._far(model):
                self._kernels[model] = kernel
                continue
            path = catalogue.find(model)
            self._given[model if model == "box" else catalogue.name_of(path)] = path
        self._loaded: dict[str, Served] = {}
        self._changing = asyncio.Lock()

    def known(self) -> dict[str, Path]:
        """Return the files of all models by name, the one that is meant when none is named first."""
        return self._given if self._given or not self._all else catalogue.known()

    def elsewhere(self) -> dict[str, Kernel]:
        """Return the models on other servers by name."""
        here = self.known()
        return {name: kernel for name, kernel in self._kernels.items() if name not in here}

    def kernel(self, name: str | None) -> Kernel | None:
        """Return what `name` means on another server, None when it means a model here, or nothing.

        No name means another server's model only where no other model is served.
        """
        here = self.known()
        if not name:
            return None if here or self._all else next(iter(self._kernels.values()), None)
        for one in (name, name.removesuffix(":latest")):
            if one in here:
                return None
            if one in self._kernels:
                return self._kernels[one]
        return None

    def names(self) -> list[str]:
        """Return the names of all models."""
        return [*self.known(), *self.elsewhere()]

    def loaded(self) -> list[Served]:
        """Return the models in memory."""
        return list(self._loaded.values())

    def resolve(self, name: str | None) -> tuple[str, Path]:
        """Return the name and file that `name` means: None the first; Ollama's `:latest` says nothing."""
        if kernel := self.kernel(name):
            raise Refusal(
                "invalid",
                f"{kernel.name} answers elsewhere ({kernel.family}): it can be talked to, and no more.",
                where="model",
            )
        known = self.known()
        if not known:
            raise Refusal(
                "unknown", "There is no model here: `twofold pull` brings one.", code="model_not_found"
            )
        chosen = next(iter(known)) if not name else name if name in known else name.removesuffix(":latest")
        if chosen not in known:
            raise Refusal("unknown", unknown("model", chosen, self.names()), where="model", code=_UNKNOWN)
        return chosen, known[chosen]

    async def open(self, name: str | None) -> Served:
        """Return the model, loaded, which stays loaded until `release` is called on it. Raises Refusal."""
        served = await self._load(name)
        served.users += 1
        served.used = time.monotonic()
        return served

    @asynccontextmanager
    async def use(self, name: str | None) -> AsyncIterator[Served]:
        """Open a model for the length of a block."""
        served = await self.open(name)
        try:
            yield served
        finally:
            served.release()

    async def load(self, name: str | None) -> None:
        """Have a model in memory."""
        await self._load(name)

    def put(self, served: Served) -> None:
        """Serve a model that is in memory already."""
        self._given[served.name] = served.path
        self._loaded[served.name] = served

    async def unload(self, name: str) -> bool:
        """Take a model out of memory, cancelling its answers; return whether it was there."""
        async with self._changing:
            return await self._drop(name)

    def lost(self, served: Served) -> None:
        """Note that a model has stopped by itself: who asks next has it loaded anew."""
        if self._loaded.get(served.name) is served:
            del self._loaded[served.name]

    async def close(self, grace_s: float = 0) -> None:
        """Take all models out of memory; their answers may still take so many seconds."""
        async with self._changing:
            await asyncio.gather(*(self._drop(name, grace_s) for name in list(self._loaded)))

    async def _load(self, name: str | None) -> Served:
        name, path = self.resolve(name)
        if served := self._loaded.get(name):  # it need not wait for another one to be loaded
            return served
        async with self._changing:
            if served := self._loaded.get(name):
                return served
            config = (await asyncio.to_thread(parameters.load, path)).config
            weights = _size(path)
            slots, context = self._fit(config, weights)
            need = weights + _cache(config, context) * slots
            await self._make_room(name, need)
            engine = await asyncio.to_thread(
                run.load, path, threads=self.settings.threads, context=context, sequences=slots
            )
            batcher = Batcher(engine, waiting=self.settings.queue)
            self._loaded[name] = Served(name, path, engine, batcher, need)
            _set_aside()
            return self._loaded[name]

    def _far(self, model: str) -> Kernel | None:
        """Return the kernel that a name on the command line means; what is here comes first."""
        if model in catalogue.known() or Path(model).exists():
            return None
        return self._named.get(model) or kernels.named(model)

    @property
    def budget(self) -> int:
        """Bytes for all loaded models together."""
        gb = self.settings.memory_gb
        return int(gb * 1e9) if gb is not None else machine.total_bytes() // 2

    def _fit(self, config: ModelConfig, weights: int) -> tuple[int, int]:
        """Return how many slots of what context fit into the budget beside the weights."""
        context = min(self.settings.context or config.context, config.context)
        room = self.budget - weights
        while context > _LEAST_CONTEXT and _cache(config, context) > room:
            context //= 2
        return max(1, min(self.settings.slots, room // max(1, _cache(config, context)))), context

    async def _make_room(self, name: str, need: int) -> None:
        while self._loaded and sum(one.bytes for one in self.loaded()) + need > self.budget:
            idle = [one for one in self.loaded() if not one.users]
            if not idle:
                raise Refusal(
                    "busy", f"There is no memory for {name} while other models are answering: ask later."
                )
            await self._drop(min(idle, key=lambda one: one.used).name)

    async def _drop(self, name: str, grace_s: float = 0) -> bool:
        served = self._loaded.pop(name, None)
        if served is not None:
            await asyncio.to_thread(served.batcher.close, grace_s)
            _set_aside()
        return served is not None


def _set_aside() -> None:
    """Clear up now, and keep what is left from being looked through again and again.

    A vocabulary is tens of thousands of objects; to look for garbage among them takes 30 ms, in which nobody
    is answered.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _size(path: Path) -> int:
    """Return the bytes of a model's weights; a Hugging Face folder is run as float32."""
    if path.is_file():
        return path.stat().st_size
    return 2 * sum(file.stat().st_size for file in path.glob("*.safetensors"))


def _cache(config: ModelConfig, context: int) -> int:
    """Return the bytes of keys and values of one conversation of so many tokens, in half precision."""
    return 4 * config.layers * config.kv_heads * config.head_dim * context
