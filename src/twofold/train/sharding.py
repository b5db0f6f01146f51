"""How a model lies on several processes: a copy on each, or a part on each.

- **Copies** (data parallel): every process holds everything, and gradients are averaged while they are made.
  For models that fit. Muon's costly part is shared: each process orthogonalises its share of the matrices and
  passes them on (the idea of distributed Muon, Jordan et al. 2024).
- **Shards** (FSDP2; Zhao et al. 2023, arXiv:2304.11277): every process holds a slice of the rows of each
  parameter, its gradient and its state. A layer's weights are gathered just before they are used. Muon needs
  whole matrices: each matrix has an owner, to whom the others send their rows and who sends the result back.

`Learner` is the same for one process, and does nothing but pass calls on.

Not covered: tensor, pipeline and context parallelism; a mesh of two dimensions; models that do not fit into
one host's memory when they are made.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from twofold.train.optimiser import Optimiser, OptimizerConfig
from twofold.train.parallel import ALONE, Several, Team
from twofold.train.transformer import Transformer

Parameters = Mapping[str, nn.Parameter]
BYTES_PER_WEIGHT = 16  # weight, gradient, and at most two numbers of state
COPY_SHARE = 0.25  # of the memory, that a copy of the model may take


class Learner:
    """A network as the training loop uses it, whole and in one process."""

    def __init__(self, net: Transformer, team: Team = ALONE) -> None:
        self.net, self.team = net, team

    def loss(self, ids_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """Return the summed loss of these rows."""
        return self.net.loss(ids_BT, targets_BT, documents_BT)

    def logits(self, ids_BT: Tensor) -> Tensor:
        """Return float32 logits [B, T, V]."""
        return self.net.logits(ids_BT)

    @contextlib.contextmanager
    def micro_batch(self, *, last: bool) -> Iterator[None]:
        """Surround forward and backward of one micro-batch; after the `last` one gradients are complete."""
        yield

    def rest(self) -> None:
        """Let go of what was gathered for passes that nothing was learned from."""

    def optimiser(self, config: OptimizerConfig) -> Optimiser:
        """Return the optimiser of the network's parameters."""
        return Optimiser(self.net.named(), config, compute=self.net.compute)

    def fill(self, target: Tensor, whole: Tensor) -> None:
        """Copy a whole tensor into one of this process's."""
        target.copy_(whole)

    def whole(self) -> Transformer | None:
        """Return the network with all its weights, in the first process; None in the others."""
        return self.net if self.team.speaks else None


class _Calls(nn.Module):
    """Both ways to call a network through one `forward`, which is what the wrappers of torch hook into."""

    def __init__(self, net: Transformer) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids_BT: Tensor, targets_BT: Tensor | None, documents_BT: Tensor | None) -> Tensor:
        if targets_BT is None:
            return self.net.logits(ids_BT, documents_BT)
        return self.net.loss(ids_BT, targets_BT, documents_BT)


class Copies(Learner):
    """The whole network in each process."""

    def __init__(self, net: Transformer, team: Several) -> None:
        super().__init__(net, team)
        self._several = team
        self._wrapped = nn.parallel.DistributedDataParallel(_Calls(net), broadcast_buffers=False)

    def loss(self, ids_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        calls = self._wrapped if torch.is_grad_enabled() else self._wrapped.module
        loss: Tensor = calls(ids_BT, targets_BT, documents_BT)
        return loss

    @contextlib.contextmanager
    def micro_batch(self, *, last: bool) -> Iterator[None]:
        with contextlib.nullcontext() if last else self._wrapped.no_sync():
            yield

    def optimiser(self, config: OptimizerConfig) -> Optimiser:
        return CopiesOptimiser(self.net.named(), config, compute=self.net.compute, team=self._several)


class Shards(Learner):
    """A slice of each parameter in each process."""

    def __init__(self, net: Transformer, team: Several) -> None:
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        super().__init__(net, team)
        self._several = team
        # The blocks cast their weights to `compute` anyway: cast before they travel, half as much travels.
        policy = MixedPrecisionPolicy(param_dtype=net.compute, reduce_dtype=torch.float32)
        for block in net.blk:
            fully_shard(block, mp_policy=policy)
        self._wrapped: Any = fully_shard(_Calls(net))

    def loss(self, ids_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        loss: Tensor = self._wrapped(ids_BT, targets_BT, documents_BT)
        return loss

    def logits(self, ids_BT: Tensor) -> Tensor:
        logits: Tensor = self._wrapped(ids_BT, None, None)
        return logits

    @contextlib.contextmanager
    def micro_batch(self, *, last: bool) -> Iterator[None]:
        self._wrapped.set_requires_gradient_sync(last)
        yield

    def rest(self) -> None:
        self._wrapped.reshard()

    def optimiser(self, config: OptimizerConfig) -> Optimiser:
        return ShardsOptimiser(self.net.named(), config, compute=self.net.compute, team=self._several)

    def fill(self, target: Tensor, whole: Tensor) -> None:
        fill(target, whole)

    def whole(self) -> Transformer | None:
        result = Transformer(self.net.config, compute=self.net.compute) if self.team.speaks else None
        places: Mapping[str, Tensor] = result.named() if result is not None else {}
        for name, parameter in self.net.named().items():
            full = parameter.detach().full_tensor()  # type: ignore[attr-defined]
            if name in places:
                with torch.no_grad():
                    places[name].copy_(full)
        return result.to(self.net.token_embd.device) if result is not None else None


class CopiesOptimiser(Optimiser):
    """Each process orthogonalises its share of the matrices; all the rest every process does for itself."""

    def __init__(
        self, parameters: Parameters, config: OptimizerConfig, *, compute: torch.dtype, team: Team
    ) -> None:
        super().__init__(parameters, config, compute=compute)
        self.team = team

    def orthogonal(self, names: list[str], blended: list[Tensor]) -> list[Tensor]:
        mine = [one for name, one in zip(names, blended, strict=True) if self.owner(name) == self.team.rank]
        counts = [sum(self.owner(name) == rank for name in names) for rank in range(self.team.size)]
        place = blended[0].new_zeros((max(counts), *blended[0].shape), dtype=self.compute)
        if mine:
            place[: len(mine)] = super().stacked(mine)
        found = [torch.empty_like(place) for _ in counts]
        dist.all_gather(found, place)
        taken = [0] * self.team.size
        results = []
        for name in names:
            rank = self.owner(name)
            results.append(found[rank][taken[rank]].to(torch.float32))
            taken[rank] += 1
        return results

    def owner(self, name: str) -> int:
        """Return which process orthogonalises a matrix: in turns over all matrices."""
        return owner(self.groups, name, self.team.size)


class ShardsOptimiser(Optimiser):
    """Works on this process's rows of each parameter; a matrix comes together at its owner."""

    def __init__(
        self, parameters: Parameters, config: OptimizerConfig, *, compute: torch.dtype, team: Team
    ) -> None:
        super().__init__(parameters, config, compute=compute)
        self.team = team

    def local(self, tensor: Tensor) -> Tensor:
        return local(tensor)

    def norm(self, gradients: list[Tensor]) -> Tensor:
        square = torch.stack([gradient.square().sum() for gradient in gradients]).sum()
        dist.all_reduce(square)
        return square.sqrt()

    def orthogonal(self, names: list[str], blended: list[Tensor]) -> list[Tensor]:
        rows, columns = self.parameters[names[0]].shape
        size, here = self.team.size, self.team.rank
        owned = [[i for i, name in enumerate(names) if self.owner(name) == rank] for rank in range(size)]
        heights = [len(range(rows)[span(rows, rank, size)]) for rank in range(size)]
        # My rows of every matrix go to its owner, and all rows of my matrices come to me.
        sent = torch.cat([blended[i].to(self.compute).reshape(-1) for of in owned for i in of])
        out = [len(of) * heights[here] * columns for of in owned]
        back = [len(owned[here]) * height * columns for height in heights]
        came = sent.new_empty(sum(back))
        dist.all_to_all_single(came, sent, back, out)
        if owned[here]:
            parts = [
                part.view(len(owned[here]), height, columns)
                for part, height in zip(torch.split(came, back), heights, strict=True)
            ]
            whole = self.stacked(list(torch.cat(parts, 1)))
            came = torch.cat([part.reshape(-1) for part in torch.split(whole, heights, 1)])
        dist.all_to_all_single(sent, came, out, back)
        results: dict[int, Tensor] = {}
        for of, part in zip(owned, torch.split(sent, out), strict=True):
            for i, one in zip(of, part.view(len(of), heights[here], columns), strict=True):
                results[i] = one.to(torch.float32)
        return [results[i] for i in range(len(names))]

    def owner(self, name: str) -> int:
        """Return to which process a matrix goes: in turns over all matrices."""
        return owner(self.groups, name, self.team.size)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.updates = int(state["updates"])
        for name, tensor in self.state.items():
            fill(tensor, state[name])


def owner(groups: Mapping[tuple[int, ...], list[str]], name: str, size: int) -> int:
    """Return whose turn it is when all matrices of all groups are dealt out one after the other."""
    order = [one for names in groups.values() for one in names]
    return order.index(name) % size


def span(rows: int, rank: int, size: int) -> slice:
    """Return which rows of a parameter a process holds: equal chunks, the last ones shorter or empty."""
    chunk = -(-rows // size)
    return slice(min(rows, rank * chunk), min(rows, (rank + 1) * chunk))


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor."""
    part: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return part


def fill(target: Tensor, source: Tensor) -> None:
    """Copy a tensor, whole or in shards like the target, into this process's part of the target."""
    place = local(target)
    if hasattr(source, "to_local"):
        place.copy_(local(source))
    elif place is target:
        place.copy_(source)
    else:
        mesh = target.device_mesh  # type: ignore[attr-defined]
        place.copy_(source[span(len(source), mesh.get_local_rank(), mesh.size())])


def in_shards(layout: str, net: Transformer, team: Team) -> bool:
    """Return whether the network is to lie in shards: as `layout` says or, if "auto", when it is large."""
    if team.size == 1 or layout != "auto":
        return team.size > 1 and layout == "shards"
    if net.token_embd.is_cuda:
        memory = torch.cuda.get_device_properties(net.token_embd.device).total_memory
    else:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        memory //= int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return BYTES_PER_WEIGHT * net.config.parameters > COPY_SHARE * memory


def learner(net: Transformer, team: Team, *, sharded: bool) -> Learner:
    """Return the network laid out over the team."""
    if not isinstance(team, Several):
        return Learner(net, team)
    return Shards(net, team) if sharded else Copies(net, team)
