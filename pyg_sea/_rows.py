import torch
from torch import Tensor
from torch_geometric.utils import cumsum


class Rows:
    """The entries of a sparse matrix, grouped by row.

    Args:
        index: Rows and columns of the entries, in any order.
        num_rows: The number of rows.

    Shapes:
        - `index`: `[2, N]`

    Example:
        >>> import torch
        >>> rows = Rows(torch.tensor([[2, 0, 2], [7, 8, 9]]), num_rows=3)
        >>> position, entry = rows.of(torch.tensor([1, 2]))
        >>> position.tolist(), rows.col[entry].tolist()
        ([1, 1], [7, 9])
    """

    def __init__(self, index: Tensor, num_rows: int) -> None:
        row, self.col = index
        self.perm: Tensor | None = None
        if bool((row[1:] < row[:-1]).any()):
            self.perm = row.argsort(stable=True)
            row, self.col = row[self.perm], self.col[self.perm]
        # `bincount` would wait for the device.
        starts = torch.arange(num_rows + 1, device=row.device)
        self.ptr = torch.searchsorted(row.contiguous(), starts)
        self.degree = self.ptr.diff()

    def of(
        self, rows: Tensor, num_entries: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """The entries of some rows, one after the other: the position of
        their row within `rows`, and their own positions in `col`.

        Args:
            rows: The numbers of these rows.
            num_entries: How many entries they have, if that is known: to
                count them takes a wait for the device (default: `None`).
        """
        degree = self.degree[rows]
        position = torch.arange(rows.numel(), device=rows.device)
        position = position.repeat_interleave(degree, output_size=num_entries)
        entry = torch.arange(position.numel(), device=rows.device)
        entry += (self.ptr[rows] - cumsum(degree)[:-1])[position]
        return position, entry


def check_pairs(
    name: str, pairs: Tensor, num_rows: int | None, num_cols: int | None
) -> None:
    """Raises unless `pairs` is an int64 tensor of shape `[2, N]` of ids from
    0 to below the bounds (`None` for none).
    """
    if pairs.dim() != 2 or pairs.size(0) != 2 or pairs.dtype != torch.long:
        raise ValueError(
            f"'{name}' needs to be an int64 tensor of shape [2, N] "
            f'(got {pairs.dtype} of shape {list(pairs.shape)})'
        )
    if pairs.numel() == 0:
        return
    low, high = torch.stack(torch.aminmax(pairs, dim=1)).tolist()
    for axis, bound in enumerate((num_rows, num_cols)):
        if low[axis] < 0 or (bound is not None and high[axis] >= bound):
            raise ValueError(
                f"'{name}' needs ids from 0 to "
                f'{"any" if bound is None else bound - 1} in row {axis} '
                f'(got {low[axis]} to {high[axis]})'
            )
