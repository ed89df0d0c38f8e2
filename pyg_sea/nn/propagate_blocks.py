from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch_geometric.typing import OptTensor

from .hop_sum import hop_sum_


def propagate_blocks(
    users: Sequence[Tensor],
    items: Sequence[Tensor],
    adj: Tensor,
    adj_t: Tensor,
    K: int,
    index: OptTensor = None,
    eps: float = 1e-12,
) -> tuple[Tensor, Tensor]:
    r"""Sums the rows of all hops over a constant graph (eq. 7), blocks of
    rows of unit length side by side, and picks the users of a batch.

    It is :func:`~pyg_sea.nn.unit_rows.unit_rows` of every block,
    :meth:`torch.cat`, :func:`~pyg_sea.nn.hop_sum.hop_sum` and
    :meth:`torch.index_select` in one, since it can overwrite what lies in
    between: two matrices of all nodes are alive at most, in the backward pass
    too, and none between the passes.

    Args:
        users (list[torch.Tensor]): The users' rows of each block.
        items (list[torch.Tensor]): The items' rows of each block.
        adj (torch.Tensor): The graph :math:`\mathbf{A}` as a sparse matrix,
            users first; no gradients reach it.
        adj_t (torch.Tensor): Its transpose.
        K (int): The number of hops.
        index (torch.Tensor, optional): Local ids of the users whose rows to
            return, :math:`(B)`. If set to :obj:`None`, is all users.
            (default: :obj:`None`)
        eps (float, optional): Shorter rows are divided by this.
            (default: :obj:`1e-12`)

    Shapes:
        - **input:** per block rows :math:`(U, D_b)` and :math:`(I, D_b)`,
          sparse matrices :math:`(U + I, U + I)`
        - **output:** rows :math:`(B, \sum_b D_b)` of users and
          :math:`(I, \sum_b D_b)` of items

    Example:
        >>> import torch
        >>> from pyg_sea.nn.propagate_blocks import propagate_blocks
        >>> user, item = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 9.0]])
        >>> adj = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).to_sparse_csr()
        >>> propagate_blocks([user], [item], adj, adj, K=1)
        (tensor([[0.6000, 1.8000]]), tensor([[0.6000, 1.8000]]))
    """
    # Half precision would take it for 0.
    eps = max(eps, torch.finfo(adj.dtype).tiny)
    return _PropagateBlocks.apply(
        adj, adj_t, K, index, eps, len(users), *users, *items
    )


class _PropagateBlocks(Function):
    @staticmethod
    def forward(
        ctx: Any,
        adj: Tensor,
        adj_t: Tensor,
        K: int,
        index: OptTensor,
        eps: float,
        num_blocks: int,
        *rows: Tensor,
    ) -> tuple[Tensor, Tensor]:
        users, items = rows[:num_blocks], rows[num_blocks:]
        ctx.adj_t, ctx.K, ctx.eps = adj_t, K, eps
        ctx.sizes = [users[0].size(0), items[0].size(0)]
        ctx.widths = [x.size(1) for x in users]
        h = torch.empty(
            sum(ctx.sizes), sum(ctx.widths), dtype=adj.dtype, device=adj.device
        )
        norms = []
        for x, block in zip(rows, _blocks(h, ctx.sizes, ctx.widths)):
            x = x.to(h.dtype)
            norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
            torch.div(x, norm.clamp_min(eps), out=block)
            norms.append(norm)
        # Rows as they came: most are parameters, which take no memory more.
        ctx.save_for_backward(index, *rows, *norms)

        x_user, x_item = hop_sum_(h, adj, K).split(ctx.sizes)
        dtype = torch.promote_types(users[0].dtype, items[0].dtype)
        if index is None:
            return x_user.to(dtype, copy=True), x_item.to(dtype, copy=True)
        x_user = x_user.index_select(0, index)
        return x_user.to(dtype), x_item.to(dtype, copy=True)

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_user: Tensor, grad_item: Tensor
    ) -> tuple[Tensor | None, ...]:
        index, *saved = ctx.saved_tensors
        grad = torch.empty(
            sum(ctx.sizes),
            sum(ctx.widths),
            dtype=ctx.adj_t.dtype,
            device=ctx.adj_t.device,
        )
        user, item = grad.split(ctx.sizes)
        item.copy_(grad_item)
        if index is None:
            user.copy_(grad_user)
        else:
            user.zero_().index_add_(0, index, grad_user.to(grad.dtype))
        grad = hop_sum_(grad, ctx.adj_t, ctx.K)

        half = len(saved) // 2
        blocks = _blocks(grad, ctx.sizes, ctx.widths)
        grads = []
        for x, norm, g in zip(saved[:half], saved[half:], blocks):
            # Below eps the divisor is a constant.
            dot = torch.linalg.vecdot(g, x.to(g.dtype)).unsqueeze(-1)
            dot = torch.where(norm < ctx.eps, 0.0, dot / norm.square())
            g = torch.addcmul(g, x.to(g.dtype), dot, value=-1)
            grads.append(g.div_(norm.clamp_min(ctx.eps)).to(x.dtype))
        return (None,) * 6 + tuple(grads)


def _blocks(
    x: Tensor, sizes: Sequence[int], widths: Sequence[int]
) -> list[Tensor]:
    # Those of users first.
    return [
        block for rows in x.split(sizes) for block in rows.split(widths, 1)
    ]
