from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def unit_rows(x: Tensor, eps: float = 1e-12) -> Tensor:
    r"""Brings rows to unit length, as :func:`torch.nn.functional.normalize`
    does, in half the passes over memory.

    .. math::
        \mathbf{y} = \frac{\mathbf{x}}{\max(\|\mathbf{x}\|, \epsilon)},
        \qquad
        \frac{\partial \mathcal{L}}{\partial \mathbf{x}} =
        \frac{\mathbf{g} - (\mathbf{g}^\top \mathbf{y}) \, \mathbf{y}}
        {\|\mathbf{x}\|}

    Args:
        x (torch.Tensor): Rows.
        eps (float, optional): Shorter rows are divided by this.
            (default: :obj:`1e-12`)

    Shapes:
        - **input:** :math:`(*, D)`
        - **output:** :math:`(*, D)`

    Example:
        >>> import torch
        >>> from pyg_sea.nn.unit_rows import unit_rows
        >>> unit_rows(torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    # Half precision would take it for 0.
    return _UnitRows.apply(x, max(eps, torch.finfo(x.dtype).tiny))


class _UnitRows(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        out = x / norm.clamp_min(eps)
        ctx.save_for_backward(out, norm)
        ctx.eps = eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        out, norm = ctx.saved_tensors
        # `backward()` may be called under autocast.
        with torch.autocast(grad.device.type, enabled=False):
            dot = torch.linalg.vecdot(grad, out).unsqueeze(-1)
        # Below eps the divisor is a constant.
        dot = dot * (norm >= ctx.eps)
        grad = torch.addcmul(grad, out, dot, value=-1)
        return grad.div_(norm.clamp_min(ctx.eps)), None
