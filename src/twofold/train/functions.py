"""Functions with hand-written derivatives, where torch's own would move too much memory.

Not covered: higher derivatives.
"""

from typing import Any

import torch
from torch import Tensor

CHUNK = 512  # positions whose logits exist at one time
IN_CACHE = 1 << 18  # of these, numbers that a CPU works on at a time between the products


class HeadLoss(torch.autograd.Function):
    """Vectors to summed cross-entropy, a chunk of positions at a time.

    The logits of a whole batch would be by far the largest tensor of a small model's step. Here a chunk's
    logits, their softmax and both products of the backward pass happen while the chunk is in the cache; the
    gradients, known up to one factor, are kept for `backward`.
    """

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, head_VD: Tensor, targets_N: Tensor) -> Tensor:
        """Return the sum over the targets ≥ 0 of −log softmax(x · headᵀ)[target], float32, in nats.

        When nothing is to be learned (evaluation) the logits are computed in float32.
        """
        learns = any(ctx.needs_input_grad[:2])
        dtype = x_ND.dtype if learns else torch.float32
        head = head_VD.to(dtype)
        total = torch.zeros((), dtype=torch.float32, device=x_ND.device)
        dx_ND = torch.empty_like(x_ND) if learns else None
        dhead_VD = torch.zeros_like(head_VD) if ctx.needs_input_grad[1] else None
        for start in range(0, x_ND.shape[0], CHUNK):
            x, targets = x_ND[start : start + CHUNK].to(dtype), targets_N[start : start + CHUNK]
            logits_NV = x @ head.T
            rows = len(x) if x.is_cuda else max(1, IN_CACHE // len(head))
            for some, their_targets in zip(
                torch.split(logits_NV, rows), torch.split(targets, rows), strict=True
            ):
                counted = their_targets >= 0
                index = their_targets.clamp(min=0)[:, None]
                log_p = torch.log_softmax(some, -1, dtype=torch.float32)
                total -= (log_p.gather(1, index)[:, 0] * counted).sum()
                if learns:
                    d_NV = log_p.exp_()
                    d_NV.scatter_add_(1, index, torch.full_like(index, -1, dtype=torch.float32))
                    some.copy_(d_NV.mul_(counted[:, None]))  # the logits' place takes their gradients
            if dx_ND is not None:
                dx_ND[start : start + CHUNK] = logits_NV @ head
                if dhead_VD is not None:
                    dhead_VD += logits_NV.T @ x
        ctx.save_for_backward(dx_ND, dhead_VD)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        """Return the kept gradients times the incoming one; None for a head that is not learned."""
        dx_ND, dhead_VD = ctx.saved_tensors
        dhead_VD = None if dhead_VD is None else dhead_VD * gradients[0]
        return dx_ND * gradients[0].to(dx_ND.dtype), dhead_VD, None
