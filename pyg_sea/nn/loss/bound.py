r"""What :class:`~pyg_sea.nn.CLUBLoss` checks and computes, but for its
estimators.
"""

import torch
from torch import Tensor

from ..distributed import (
    broadcast,
    gather_rows,
    mean_rows,
    own_rows,
    share_of_mean,
)


def matched_rows(
    x: Tensor, y: Tensor, widths: list[int], sizes: list[int] | None = None
) -> tuple[Tensor, Tensor]:
    r"""Returns the rows in one type, of full precision, or says what is
    wrong with them.

    Args:
        x (torch.Tensor): The rows that predict, :math:`(N, C)`.
        y (torch.Tensor): The rows that are predicted, :math:`(N, D)`.
        widths (list[int]): What :math:`C` and :math:`D` need to be.
        sizes (list[int], optional): The number of rows in every process, if
            these are a share of all rows. (default: :obj:`None`)

    Raises:
        ValueError: If they are no matched rows of these widths, or too few.
    """
    if (
        x.dim() != 2
        or y.dim() != 2
        or x.size(0) != y.size(0)
        or (x.size(0) if sizes is None else sum(sizes)) < 2
        or [x.size(1), y.size(1)] != widths
    ):
        raise ValueError(
            f"'x' and 'y' need to be matched rows of shapes [N, {widths[0]}] "
            f'and [N, {widths[1]}], N > 1 (got {list(x.shape)} and '
            f'{list(y.shape)})'
        )
    dtype = torch.promote_types(x.dtype, y.dtype)
    if dtype in (torch.float16, torch.bfloat16):
        dtype = torch.float32
    return x.to(dtype), y.to(dtype)


def contrastive_bound(
    y: Tensor,
    mean: Tensor,
    log_var: Tensor,
    negatives: str,
    sizes: list[int] | None = None,
) -> Tensor:
    r"""Returns the mean over rows of :math:`\log q(\mathbf{y}_i \mid
    \mathbf{x}_i) - \tfrac{1}{N} \sum_j \log q(\mathbf{y}_j \mid
    \mathbf{x}_i)` for a Gaussian :math:`q`.

    Args:
        y (torch.Tensor): The rows that are predicted, :math:`(N, D)`.
        mean (torch.Tensor): Their means under :math:`q`, :math:`(N, D)`.
        log_var (torch.Tensor): Their log variances, :math:`(N, D)` or
            :math:`(D)`.
        negatives (str): :obj:`"all"` or :obj:`"permute"`.
        sizes (list[int], optional): The number of rows in every process, if
            these are a share of all rows. (default: :obj:`None`)
    """
    # log q(y_i | x_i) - log q(y_j | x_i): only the squares differ.
    positive = (mean - y).square()
    if negatives == 'all':
        [y_mean] = mean_rows(sizes, y)
        [y_var] = mean_rows(sizes, (y - y_mean).square())
        negative = (mean - y_mean).square() + y_var
    else:
        negative = (mean - _partners(y, sizes)).square()
    gap = ((negative - positive) * (-log_var).exp()).sum(dim=-1)
    if sizes is None:
        return 0.5 * gap.mean()
    return 0.5 * share_of_mean(gap, sum(sizes))


def _partners(y: Tensor, sizes: list[int] | None) -> Tensor:
    if sizes is None:
        perm = torch.randperm(y.size(0), device=y.device)
        return y.index_select(0, perm)
    perm = broadcast(torch.randperm(sum(sizes), device=y.device))
    return gather_rows(y, sizes).index_select(0, perm[own_rows(sizes)])


def unbiased(
    bound: Tensor, num_rows: int, in_channels: int, out_channels: int
) -> Tensor:
    r"""Returns the bound less what it is too high on the rows of the fit, on
    which :math:`(N - C - 1) / C \cdot R^2 / (1 - R^2)` follows a noncentral F
    distribution whose mean is known.

    Args:
        bound (torch.Tensor): The bound of a linear fit.
        num_rows (int): The number of rows :math:`N`.
        in_channels (int): The number of predictors :math:`C`.
        out_channels (int): The number of predicted columns :math:`D`.

    Raises:
        ValueError: If there are too few rows.
    """
    C, D = in_channels, out_channels
    if num_rows <= C + 3:
        raise ValueError(
            f"'unbiased' needs more than {C + 3} rows (got {num_rows})"
        )
    return ((num_rows - C - 3) * bound - D * C) / (num_rows - 1)
