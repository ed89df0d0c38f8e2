from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch_geometric.typing import OptTensor

from .hop_sum import hop_sum_

#: How many columns take a hop at a time; elsewhere, those of a block.
STRIP = {'cpu': 64}


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
    between, and work on a strip of columns at a time: on CPU two matrices of
    all nodes and 64 columns are alive at most, three from three hops on, and
    their rows lie in caches. None of it is kept between the passes.

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
          :math:`(I, \sum_b D_b)` of items, in the data type to which those
          of all blocks are promoted

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
        num_users, num_items = users[0].size(0), items[0].size(0)
        ctx.widths = [x.size(1) for x in users]
        dtype = reduce(torch.promote_types, [x.dtype for x in rows])
        num_picked = num_users if index is None else index.numel()
        out_user, out_item = (
            torch.empty(
                num_rows, sum(ctx.widths), dtype=dtype, device=adj.device
            )
            for num_rows in (num_picked, num_items)
        )
        norms = [
            torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=adj.dtype)
            for x in rows
        ]
        scales = [norm.clamp_min(eps) for norm in norms]
        for b, own, joined in _strips(ctx.widths, adj.device):
            h = torch.empty(
                num_users + num_items,
                own.stop - own.start,
                dtype=adj.dtype,
                device=adj.device,
            )
            for part, i in zip(
                h.split([num_users, num_items]), (b, num_blocks + b)
            ):
                torch.div(rows[i][:, own].to(h.dtype), scales[i], out=part)
            user, item = hop_sum_(h, adj, K).split([num_users, num_items])
            user = user if index is None else user.index_select(0, index)
            out_user[:, joined] = user
            out_item[:, joined] = item
        # Rows as they came: most are parameters, which take no memory more.
        ctx.save_for_backward(index, *rows, *norms)
        return out_user, out_item

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, grad_user: Tensor, grad_item: Tensor
    ) -> tuple[Tensor | None, ...]:
        index, *saved = ctx.saved_tensors
        rows, norms = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        num_blocks = len(ctx.widths)
        sizes = [rows[0].size(0), rows[-1].size(0)]
        dtype = ctx.adj_t.dtype
        grads = [torch.empty_like(x, dtype=dtype) for x in rows]
        dots = [torch.zeros_like(norm) for norm in norms]
        # Autocast would take the dots in half precision.
        with torch.autocast(grad_item.device.type, enabled=False):
            for b, own, joined in _strips(ctx.widths, grad_item.device):
                h = grad_item.new_empty(
                    sum(sizes), own.stop - own.start, dtype=dtype
                )
                user, item = h.split(sizes)
                item.copy_(grad_item[:, joined])
                if index is None:
                    user.copy_(grad_user[:, joined])
                else:
                    part = grad_user[:, joined].to(dtype)
                    user.zero_().index_add_(0, index, part)
                parts = hop_sum_(h, ctx.adj_t, ctx.K).split(sizes)
                for part, i in zip(parts, (b, num_blocks + b)):
                    grads[i][:, own] = part
                    x = rows[i][:, own].to(dtype)
                    dots[i] += torch.linalg.vecdot(part, x).unsqueeze(-1)

        for x, norm, dot, grad in zip(rows, norms, dots, grads):
            # Below eps the divisor is a constant.
            dot = torch.where(norm < ctx.eps, 0.0, dot / norm.square())
            grad.addcmul_(x.to(dtype), dot, value=-1)
            grad.div_(norm.clamp_min(ctx.eps))
        grads = [grad.to(x.dtype) for x, grad in zip(rows, grads)]
        return (None,) * 6 + tuple(grads)


def _strips(
    widths: Sequence[int], device: torch.device
) -> Iterator[tuple[int, slice, slice]]:
    """The block of each strip, and its columns in it and among all."""
    first = 0
    for b, width in enumerate(widths):
        step = STRIP.get(device.type, width)
        for start in range(0, width, step):
            stop = min(start + step, width)
            yield b, slice(start, stop), slice(first + start, first + stop)
        first += width
