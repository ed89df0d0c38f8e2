from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn.init import xavier_normal_

from .distributed import broadcast


@torch.no_grad()
def start_rows(rows: Iterable[Tensor], norm: float | None) -> None:
    r"""Draws the first values of free rows that are brought to unit length
    before use: the shorter one is, the further a step of Adam turns it.

    Args:
        rows (list[torch.Tensor]): The matrices to overwrite.
        norm (float, optional): The length of a row, about. If set to
            :obj:`None`, they become Xavier-normal.

    Shapes:
        - **input:** :math:`(N, D)` each

    Example:
        >>> import torch
        >>> from pyg_sea.nn.free_rows import start_rows
        >>> x = torch.empty(100, 64)
        >>> start_rows([x], norm=0.01)
        >>> bool((x.norm(dim=1).mean() - 0.01).abs() < 1e-3)
        True
    """
    for weight in rows:
        if norm is None:
            xavier_normal_(weight)
        else:
            weight.normal_(std=norm / weight.size(1) ** 0.5)


def drop_rows(x: Tensor, p: float, sync: bool = False) -> Tensor:
    r"""Sets whole rows to zero, each with probability :obj:`p`, and leaves
    the others as they are: they are told apart by direction.

    Args:
        x (torch.Tensor): Rows.
        p (float): The share of rows to drop.
        sync (bool, optional): If set to :obj:`True`, all processes of
            :mod:`torch.distributed` drop the rows that the first of them
            draws. (default: :obj:`False`)

    Shapes:
        - **input:** :math:`(N, D)`
        - **output:** :math:`(N, D)`

    Example:
        >>> import torch
        >>> from pyg_sea.nn.free_rows import drop_rows
        >>> drop_rows(torch.ones(1, 2), p=0.0)
        tensor([[1., 1.]])
    """
    if p == 0:
        return x
    draw = torch.rand(x.size(0), 1, device=x.device)
    draw = broadcast(draw) if sync else draw
    return x * (draw >= p)
