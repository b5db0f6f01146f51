"""Muon for matrices, AdamW for the rest; or plain steps along the gradient for everything.

Muon (Jordan et al. 2024, kellerjordan.github.io/posts/muon) keeps a running mean of the gradient and replaces
it by the nearest matrix whose singular values are all about 1, found by a few Newton–Schulz steps: rare
directions count as much as common ones. A step's size is then a property of the matrix's shape alone, so one
learning rate holds across widths. Embeddings, the head and norms, whose rows are looked up or scale single
channels, take AdamW (Loshchilov & Hutter 2019, arXiv:1711.05101).

Both give every direction of a step about the same size, whatever the gradient says of it. Where the gradient
is mostly chance, as with the rewards of whole games, so is the step, and it unlearns what the gradient had no
quarrel with. `plain_lr` asks for gradient descent with momentum (Polyak 1964) instead.

The state is plain tensors by parameter name, so that a checkpoint is a dictionary.

How the work is shared by several processes is in sharding.py, which overrides `local`, `norm` and
`orthogonal`.
"""

import dataclasses
import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

# For each step the quintic that leaves singular values nearest to 1 (in the worst case), given what the steps
# before have made of values from 0.003 to 1: minimax fits, one after the other, as in Polar Express (Amsel et
# al. 2025, arXiv:2505.16932). Four end within 0.2 of 1, like five steps of the Muon article's one quintic.
QUINTICS = (
    (8.3772, -24.7383, 18.3336),
    (4.0409, -3.0085, 0.5689),
    (3.5050, -2.6256, 0.5254),
    (2.4914, -1.8352, 0.4369),
    (1.8750, -1.2500, 0.3750),  # and from here on towards 1, if more steps are asked for
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Learning rates are those of the stable phase; None means: the dial decides from width and batch.

    plain_lr: of gradient descent with `plain_momentum`, for all parameters; the others are not used then.
    """

    muon_lr: float | None = None
    embedding_lr: float | None = None
    head_lr: float | None = None
    norm_lr: float | None = None
    muon_momentum: float = 0.95
    newton_schulz_steps: int = 4
    beta1: float = 0.9
    beta2: float = 0.95
    eps: float = 1e-10
    weight_decay: float = 0.0
    clip: float = 1.0
    plain_lr: float | None = None
    plain_momentum: float = 0.9

    def __post_init__(self) -> None:
        memories = self.muon_momentum, self.plain_momentum, self.beta1, self.beta2
        if min(memories) < 0 or max(memories) >= 1 or not self.beta2:
            raise ValueError("momentum and betas lie between 0 and 1.")
        if self.newton_schulz_steps < 1 or self.clip <= 0:
            raise ValueError("newton_schulz_steps and clip are above 0.")


class Optimiser:
    """Holds the state of all parameters of a transformer and updates them from their gradients."""

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], config: OptimizerConfig, *, compute: torch.dtype
    ) -> None:
        """Sort `parameters` (by GGUF name) into Muon's and AdamW's. `compute`: dtype of Newton–Schulz.

        All learning rates of `config` must be numbers, or `plain_lr` alone.
        """
        rates = (config.muon_lr, config.embedding_lr, config.head_lr, config.norm_lr)
        self.plain = config.plain_lr is not None
        assert self.plain or all(rate is not None for rate in rates), "the plan fills in the learning rates"
        self.parameters, self.config, self.compute = dict(parameters), config, compute
        self.updates = 0
        self.groups: dict[tuple[int, ...], list[str]] = {}  # matrices of one shape go through together
        self.adam: dict[str, float] = {}
        self.state: dict[str, Tensor] = {}
        for name, parameter in self.parameters.items():
            if self.plain:
                self.state[f"{name}.momentum"] = torch.zeros_like(parameter)
            elif name.startswith("blk.") and parameter.ndim == 2:
                self.groups.setdefault(tuple(parameter.shape), []).append(name)
                self.state[f"{name}.momentum"] = torch.zeros_like(parameter)
            else:
                rate = config.norm_lr if parameter.ndim == 1 else config.embedding_lr
                rate = config.head_lr if name == "output.weight" else rate
                assert rate is not None
                self.adam[name] = rate
                self.state[f"{name}.mean"] = torch.zeros_like(parameter)
                self.state[f"{name}.square"] = torch.zeros_like(parameter)

    @torch.no_grad()
    def step(self, scale: float) -> float:
        """Apply one update with all learning rates times `scale` (the schedule); drop the gradients.

        Returns the norm of the whole gradient before clipping. If that is no number, nothing is changed.
        """
        gradients = {name: self.local(_gradient(parameter)) for name, parameter in self.parameters.items()}
        norm = self.norm(list(gradients.values()))
        if not math.isfinite(size := float(norm)):
            self.drop_gradients()
            return size
        factor = (self.config.clip / (norm + 1e-6)).clamp(max=1.0)
        self.updates += 1
        if self.config.plain_lr is not None:
            for name, gradient in gradients.items():
                self._descend(name, gradient * factor, self.config.plain_lr * scale)
        for name, rate in self.adam.items():
            self._adamw(name, gradients[name] * factor, rate * scale)
        for names in self.groups.values():
            self._muon(names, [gradients[name] * factor for name in names], scale)
        self.drop_gradients()
        return size

    def drop_gradients(self) -> None:
        """Forget the gradients without learning from them."""
        for parameter in self.parameters.values():
            parameter.grad = None

    def _descend(self, name: str, gradient: Tensor, rate: float) -> None:
        momentum = self.local(self.state[f"{name}.momentum"])
        momentum.mul_(self.config.plain_momentum).add_(gradient)
        self.local(self.parameters[name]).add_(momentum, alpha=-rate)

    def _adamw(self, name: str, gradient: Tensor, rate: float) -> None:
        beta1, beta2, parameter = self.config.beta1, self.config.beta2, self.local(self.parameters[name])
        mean, square = self.local(self.state[f"{name}.mean"]), self.local(self.state[f"{name}.square"])
        mean.lerp_(gradient, 1 - beta1)
        square.lerp_(gradient.square(), 1 - beta2)
        root = (square / (1 - beta2**self.updates)).sqrt_().add_(self.config.eps)
        parameter.addcdiv_(mean, root, value=-rate / (1 - beta1**self.updates))

    def _muon(self, names: list[str], gradients: list[Tensor], scale: float) -> None:
        assert self.config.muon_lr is not None
        rate = self.config.muon_lr * scale
        # A short memory at first, when the gradient still turns quickly.
        momentum = min(
            self.config.muon_momentum, 0.85 + (self.config.muon_momentum - 0.85) * self.updates / 300
        )
        blended = []
        for name, gradient in zip(names, gradients, strict=True):
            mean = self.local(self.state[f"{name}.momentum"])
            mean.lerp_(gradient, 1 - momentum)
            blended.append(gradient.lerp(mean, momentum))  # Nesterov: look one step ahead
        for name, update in zip(names, self.orthogonal(names, blended), strict=True):
            parameter = self.local(self.parameters[name])
            rows, columns = self.parameters[name].shape
            # Outputs keep a size of about 1 whatever the shape (spectral scaling, arXiv:2310.17813).
            parameter.mul_(1 - rate * self.config.weight_decay)
            parameter.add_(update, alpha=-rate * max(1.0, rows / columns) ** 0.5)

    def local(self, tensor: Tensor) -> Tensor:
        """Return the part of a parameter, gradient or state that this process works on: all of it."""
        return tensor

    def norm(self, gradients: list[Tensor]) -> Tensor:
        """Return the norm of the whole gradient."""
        norm: Tensor = torch.stack(torch._foreach_norm(gradients)).norm()
        return norm

    def orthogonal(self, names: list[str], blended: list[Tensor]) -> list[Tensor]:
        """Return the updates of matrices of one shape, float32: blended gradients made orthogonal."""
        return list(self.stacked(blended).to(torch.float32))

    def stacked(self, matrices: list[Tensor]) -> Tensor:
        """Return matrices of one shape, made orthogonal together, in the dtype of the products."""
        return orthogonalise(torch.stack(matrices).to(self.compute), self.config.newton_schulz_steps)

    def state_dict(self) -> dict[str, Tensor]:
        """Return the state by name; `updates` is the number of steps so far."""
        return {**self.state, "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over a state that `state_dict` returned."""
        self.updates = int(state["updates"])
        for name, tensor in self.state.items():
            tensor.copy_(state[name])


def _gradient(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None, "a parameter took no part in the loss"
    return parameter.grad


def orthogonalise(matrices_NRC: Tensor, steps: int) -> Tensor:
    """Return matrices with the same singular vectors and all singular values near 1 (0.8 to 1.2 in 4 steps).

    `matrices_NRC`: a stack [N, rows, columns] in the dtype to compute in. Newton–Schulz: an odd polynomial of
    the matrix, applied again and again, is that polynomial of every singular value.
    """
    x = matrices_NRC
    tall = x.shape[1] > x.shape[2]
    if tall:
        x = x.transpose(1, 2)
    x = x / (x.float().norm(dim=(1, 2), keepdim=True).to(x.dtype) * 1.02 + 1e-7)
    for step in range(steps):
        a, b, c = QUINTICS[min(step, len(QUINTICS) - 1)]
        gram = x @ x.transpose(1, 2)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x
