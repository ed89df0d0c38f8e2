r"""Rows that are spread over the processes of :mod:`torch.distributed`.

Every process holds a *share* of the rows, and all shares in the order of
ranks are all rows. Gradients follow :class:`DistributedDataParallel
<torch.nn.parallel.DistributedDataParallel>`, which averages them: a loss is
right if its **mean over processes** is the loss of one process on all rows.
So the functions here hand the gradients of all processes back to where the
values came from.

Where no process group is running, all rows are one share.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


def world_size() -> int:
    r"""Returns the number of processes, 1 where no group is running."""
    running = dist.is_available() and dist.is_initialized()
    return dist.get_world_size() if running else 1


def rank() -> int:
    r"""Returns the number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def share_sizes(num_rows: int, num_shares: int | None = None) -> list[int]:
    r"""Returns the sizes of the shares of :obj:`num_rows` rows, as equal as
    can be, in the order of ranks.

    Args:
        num_rows (int): The number of rows in all.
        num_shares (int, optional): The number of shares. If set to
            :obj:`None`, is the number of processes. (default: :obj:`None`)

    Example:
        >>> from pyg_sea.nn.distributed import share_sizes
        >>> share_sizes(8, num_shares=3)
        [3, 3, 2]
    """
    num_shares = num_shares or world_size()
    size, rest = divmod(num_rows, num_shares)
    return [size + (i < rest) for i in range(num_shares)]


def share(
    num_rows: int, num_shares: int | None = None, index: int | None = None
) -> slice:
    r"""Returns the share of this process, contiguous rows.

    Args:
        num_rows (int): The number of rows in all.
        num_shares (int, optional): The number of shares. If set to
            :obj:`None`, is the number of processes. (default: :obj:`None`)
        index (int, optional): Which of them. If set to :obj:`None`, is the
            rank of this process. (default: :obj:`None`)

    Example:
        >>> from pyg_sea.nn.distributed import share
        >>> share(8, num_shares=3, index=1)
        slice(3, 6, None)
    """
    return own_rows(share_sizes(num_rows, num_shares), index)


def own_rows(sizes: Sequence[int], index: int | None = None) -> slice:
    r"""Returns where the rows of this process stand among all rows, given
    the sizes of all shares.
    """
    index = rank() if index is None else index
    start = sum(sizes[:index])
    return slice(start, start + sizes[index])


def row_sizes(
    x: Tensor, sizes: Sequence[int] | None = None
) -> list[int] | None:
    r"""Returns the number of rows in every process, and :obj:`None` where
    there is one process.

    Args:
        x (torch.Tensor): The rows of this process.
        sizes (list[int], optional): The numbers, if they are known, *e.g.*,
            as :func:`share_sizes`. They are asked for otherwise, and the
            answer is waited for. (default: :obj:`None`)

    Raises:
        ValueError: If :obj:`sizes` do not fit :obj:`x`.
    """
    if world_size() == 1:
        return None
    if sizes is None:
        count = torch.full((1,), x.size(0), device=x.device)
        return _GatherRows.apply(count, [1] * world_size()).tolist()
    if len(sizes) != world_size() or sizes[rank()] != x.size(0):
        raise ValueError(
            f"'sizes' needs the number of rows in each of {world_size()} "
            f'processes, here {x.size(0)} (got {list(sizes)} in process '
            f'{rank()})'
        )
    return list(sizes)


def gather_rows(x: Tensor, sizes: Sequence[int] | None = None) -> Tensor:
    r"""Returns the rows of all processes, in the order of ranks. In the
    backward pass every process gets the sum of all gradients of its rows.

    Args:
        x (torch.Tensor): The rows of this process, any number of them.
        sizes (list[int], optional): As in :func:`row_sizes`.
            (default: :obj:`None`)

    Shapes:
        - **input:** :math:`(N_r, *)` in process :math:`r`
        - **output:** :math:`(\sum_r N_r, *)`

    Example:
        >>> import torch
        >>> from pyg_sea.nn.distributed import gather_rows
        >>> gather_rows(torch.ones(2, 1)).shape  # in a single process
        torch.Size([2, 1])
    """
    sizes = row_sizes(x, sizes)
    return x if sizes is None else _GatherRows.apply(x, sizes)


def sum_over_ranks(*xs: Tensor) -> list[Tensor]:
    r"""Returns the sums over processes of tensors that have one shape in all
    of them, in one message. In the backward pass every process gets the sum
    of all gradients.

    Args:
        *xs (torch.Tensor): Tensors of one type.

    Example:
        >>> import torch
        >>> from pyg_sea.nn.distributed import sum_over_ranks
        >>> sum_over_ranks(torch.ones(2))  # in a single process
        [tensor([1., 1.])]
    """
    if world_size() == 1:
        return list(xs)
    flat = _SumOverRanks.apply(torch.cat([x.reshape(-1) for x in xs]))
    parts = flat.split([x.numel() for x in xs])
    return [part.view(x.shape) for part, x in zip(parts, xs)]


def mean_rows(sizes: Sequence[int] | None, *xs: Tensor) -> list[Tensor]:
    r"""Returns the means over the rows of all processes.

    Args:
        sizes (list[int], optional): The number of rows in every process. If
            set to :obj:`None`, only the rows of this process count.
        *xs (torch.Tensor): Rows :math:`(N_r, *)` of one type.
    """
    if sizes is None:
        return [x.mean(dim=0) for x in xs]
    sums = sum_over_ranks(*(x.sum(dim=0) for x in xs))
    return [x / sum(sizes) for x in sums]


def share_of_mean(x: Tensor, num_rows: int | None = None) -> Tensor:
    r"""Returns what this process contributes to a mean over the values of
    all: a scalar whose mean over processes is that mean.

    Args:
        x (torch.Tensor): The values of this process, any number of them.
        num_rows (int, optional): The number of values in all. If set to
            :obj:`None`, they are counted. (default: :obj:`None`)

    Example:
        >>> import torch
        >>> from pyg_sea.nn.distributed import share_of_mean
        >>> share_of_mean(torch.tensor([1.0, 2.0]))  # in a single process
        tensor(1.5000)
    """
    if world_size() == 1:
        return x.mean()
    # The mean of no rows is 0, with a graph: others wait for its gradients.
    mean = x.mean() if x.numel() > 0 else x.sum()
    if num_rows is not None:
        return mean * (world_size() * x.numel() / num_rows)
    # Not waited for, unlike `row_sizes`.
    count = torch.full((), x.numel(), dtype=torch.double, device=x.device)
    [total] = sum_over_ranks(count)
    return mean * (world_size() * x.numel() / total).to(x.dtype)


def broadcast(x: Tensor) -> Tensor:
    r"""Returns :obj:`x` after it was overwritten by that of process 0."""
    if world_size() > 1:
        dist.broadcast(x, src=0)
    return x


def broadcast_int(value: int) -> int:
    r"""Returns the number that process 0 has passed."""
    values = [value]
    if world_size() > 1:
        dist.broadcast_object_list(values, src=0)
    return values[0]


class _GatherRows(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: list[int]) -> Tensor:
        ctx.sizes = sizes
        out = x.new_empty(len(sizes), max(sizes), *x.shape[1:])
        # All messages need one length: the shorter ones are padded.
        padded = x.new_zeros(out.shape[1:])
        padded[: x.size(0)] = x
        dist.all_gather(list(out), padded)
        return torch.cat([rows[:size] for rows, size in zip(out, sizes)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        # All backends sum up for all; not all of them for one.
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad[own_rows(ctx.sizes)], None


class _SumOverRanks(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        grad = grad.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(grad)
        return grad
