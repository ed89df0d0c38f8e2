"""Users by how much they did, items by how often they were chosen."""

from typing import NamedTuple

import torch
from torch import Tensor


class Groups(NamedTuple):
    """A partition of users or items by their number of train edges.

    Args:
        of: The group of each of them.
        labels: The numbers of train edges in each group, e.g. `'3-7'`.

    Shapes: `of` is `[N]`.
    """

    of: Tensor
    labels: list[str]

    @property
    def sizes(self) -> list[int]:
        """How many are in each group."""
        sizes: list[int] = self.of.bincount(
            minlength=len(self.labels)
        ).tolist()
        return sizes


def by_degree(degree: Tensor, num: int = 4) -> Groups:
    """Those without a train edge, if there are any, and the others in up to
    `num` groups, cut at the quantiles. Equal degrees stay together, so that
    groups may differ in size and be fewer.

    Args:
        degree: Train edges of each user or item.
        num: How many groups (default: 4).

    Shapes: `degree` is `[N]`.
    """
    known = degree[degree > 0].sort().values
    last = torch.arange(1, num + 1) * known.numel() + num - 1
    bounds = known[last // num - 1].unique() if known.numel() else known
    if known.numel() < degree.numel():
        bounds = torch.cat([bounds.new_zeros(1), bounds])
    of = torch.searchsorted(bounds, degree)
    labels = []
    for group in range(bounds.numel()):
        low, high = torch.aminmax(degree[of == group])
        same = bool(low == high)
        labels.append(f'{low:,}' if same else f'{low:,}-{high:,}')
    return Groups(of, labels)
