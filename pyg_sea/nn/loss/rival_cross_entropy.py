import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch_geometric.typing import OptTensor


def rival_cross_entropy(
    positive: Tensor,
    x: Tensor,
    y: Tensor,
    x_ids: Tensor,
    y_ids: Tensor,
    scale: float,
    chunk_size: int,
    bias: OptTensor = None,
) -> Tensor:
    r"""Returns the mean cross entropy of the positive logit of every row
    against its rivals', the same for all rows but for those with its own id.

    .. math::
        \frac{1}{B} \sum_{b=1}^B \ln \Big( \exp(p_b) + s \sum_{k \,:\, j_k
        \neq i_b} \exp(\mathbf{x}_b^\top \mathbf{y}_k + c_k) \Big) - p_b

    Gradients, where they are wanted, are computed beside the values, so that
    at most :obj:`chunk_size` rows of logits are in memory, and none are kept.

    Args:
        positive (torch.Tensor): The positive logits :math:`p_b`.
        x (torch.Tensor): The rows :math:`\mathbf{x}_b`.
        y (torch.Tensor): The rows of rivals :math:`\mathbf{y}_k`.
        x_ids (torch.Tensor): The id :math:`i_b` of each row.
        y_ids (torch.Tensor): The id :math:`j_k` of each rival.
        scale (float): How much each rival counts, :math:`s`.
        chunk_size (int): The largest number of rows to work on at a time.
        bias (torch.Tensor, optional): What each rival has in all rows,
            :math:`c_k`. If set to :obj:`None`, is 0. (default: :obj:`None`)

    Shapes:
        - **input:** logits :math:`(B)`, rows :math:`(B, D)` and
          :math:`(K, D)`, ids :math:`(B)` and :math:`(K)`, biases :math:`(K)`
          *(optional)*
        - **output:** a scalar, in nats

    Example:
        >>> import torch
        >>> from pyg_sea.nn.loss.rival_cross_entropy import rival_cross_entropy
        >>> x, ids = torch.eye(2), torch.arange(2)
        >>> rival_cross_entropy(torch.ones(2), x, x, ids, ids, 1.0, 2)
        tensor(0.3133)
    """
    graded = torch.is_grad_enabled() and (
        positive.requires_grad
        or x.requires_grad
        or y.requires_grad
        or (bias is not None and bias.requires_grad)
    )
    return _RivalCrossEntropy.apply(
        positive, x, y, x_ids, y_ids, math.log(scale), chunk_size, graded, bias
    )


class _RivalCrossEntropy(Function):
    @staticmethod
    def forward(
        ctx: Any,
        positive: Tensor,
        x: Tensor,
        y: Tensor,
        x_ids: Tensor,
        y_ids: Tensor,
        log_scale: float,
        chunk_size: int,
        graded: bool,
        bias: OptTensor,
    ) -> Tensor:
        # Half precision would not hold the sums.
        dtype = torch.promote_types(positive.dtype, torch.float)
        total = positive.new_zeros((), dtype=dtype)
        grads_positive, grads_x = [], []
        grad_y = torch.zeros_like(
            y, dtype=torch.promote_types(y.dtype, torch.float)
        )
        grad_bias = None if bias is None else torch.zeros_like(bias)
        for p, rows, ids in zip(
            positive.split(chunk_size),
            x.split(chunk_size),
            x_ids.split(chunk_size),
        ):
            p = p.to(dtype) - log_scale
            others = (rows @ y.t()).to(dtype)
            if bias is not None:
                others.add_(bias)
            others.masked_fill_(y_ids == ids.unsqueeze(-1), -math.inf)
            largest = p
            if y.size(0) > 0:
                largest = torch.maximum(p, others.amax(dim=-1))
            others.sub_(largest.unsqueeze(-1)).exp_()
            own = (p - largest).exp()
            mass = own + others.sum(dim=-1)
            total += (mass.log() + largest - p).sum()
            if not graded:
                continue
            # What is left are the derivatives by the logits.
            others = others.div_(mass.unsqueeze(-1))
            if grad_bias is not None:
                grad_bias += others.sum(dim=0)
            others = others.to(x.dtype)
            grads_positive.append((own / mass - 1).to(positive.dtype))
            grads_x.append((others @ y).to(x.dtype))
            grad_y += others.t() @ rows
        if graded:
            ctx.save_for_backward(
                torch.cat(grads_positive),
                torch.cat(grads_x),
                grad_y.to(y.dtype),
                grad_bias,
            )
        return (total / positive.numel()).to(positive.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        positive, x, y, bias = ctx.saved_tensors
        grad = grad / max(positive.numel(), 1)
        grad_bias = None if bias is None else bias * grad
        return positive * grad, x * grad, y * grad, *(None,) * 5, grad_bias
