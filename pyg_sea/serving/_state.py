"""What a recommender holds: plain tensors, and ids."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch_geometric.utils import coalesce

from pyg_sea._rows import Rows
from pyg_sea.nn.models.sea import BIAS
from pyg_sea.serving._ids import Ids
from pyg_sea.serving._item_encoder import ItemEncoder

Block = tuple[str, str]
ALL: Block = ('all', 'all')


class Seen:
    """Which items each user has, and what they weigh.

    Args:
        pairs: Local ids of users and items; repeated pairs add up.
        weight: Their weights; `None` for 1.
        num_users: The number of users.

    Shapes: `pairs` is `[2, E]`, `weight` is `[E]`.
    """

    def __init__(
        self, pairs: Tensor, weight: Tensor | None, num_users: int
    ) -> None:
        if weight is None:
            weight = torch.ones(pairs.size(1))
        if pairs.size(1) > 0:
            pairs, weight = coalesce(pairs, weight.float(), reduce='sum')
        self.pairs = pairs
        self.weight = weight
        self.rows = Rows(pairs, num_users)

    def of(self, users: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For the items of some users: the position of the user in `users`,
        the item, and the weight.
        """
        position, entry = self.rows.of(users)
        return position, self.rows.col[entry], self.weight[entry]


@dataclass(frozen=True)
class Graph:
    """How the graph of similar items was made."""

    k: int
    weights: Mapping[str, float]
    include_self: bool


#: There is a graph, and no word of how it was made.
UNKNOWN = Graph(0, {}, False)


@dataclass(frozen=True, eq=False, repr=False)
class Terms:
    """What rows are made of, in a model that tells.

    The row of an item is `own / norm`, and what its neighbours add. That of
    a user is a free vector, and `scale / sqrt(d) * sum(weight * message)`
    over the items of the user, whose weights add up to `d`.

    Args:
        own: Own rows of items, not divided.
        norm: What rows of items were divided by.
        message: What an item passes on to the users who chose it.
        scale: The weight of each modality for each user, divided by what the
            user's row was divided by.
        new_scale: The mean weight of each modality over users.
        trained: The items that users had in training.
        unit: Whether rows are of unit length.

    Biases of items are not among them.

    Shapes: `own` and `message` are `[I, D]`, `norm` is `[I, 1]`, `scale` is
    `[U, M]`, `new_scale` is `[M]` and `trained` is `[K]`.
    """

    own: Tensor
    norm: Tensor
    message: Tensor
    scale: Tensor
    new_scale: Tensor
    trained: Tensor
    unit: bool


@dataclass(frozen=True, eq=False, repr=False)
class State:
    """All that a recommender holds.

    Args:
        user: Rows of users.
        item: Rows of items; scores are the inner products. The last column
            may be the biases of items, ones for users.
        users: The ids of users.
        items: The ids of items.
        blocks: The columns of each modality and part.
        seen: The items of users.
        terms: What rows are made of (of :class:`~pyg_sea.nn.SEA`).
        encoder: Makes rows of features (of :class:`~pyg_sea.nn.SEA`).
        graph: How neighbours are found; `None` without neighbours.
        features: Unit rows of features in half precision, by modality.

    Shapes: `user` is `[U, D]` and `item` is `[I, D]`, or `D + 1` columns with
    biases, features are `[I, F_m]`.
    """

    user: Tensor
    item: Tensor
    users: Ids
    items: Ids
    blocks: Mapping[Block, slice]
    seen: Seen
    terms: Terms | None = None
    encoder: ItemEncoder | None = None
    graph: Graph | None = None
    features: Mapping[str, Tensor] | None = None

    @property
    def widths(self) -> Tensor:
        """The columns of each modality, parts together, `[M]`."""
        out: dict[str, int] = {}
        for (name, _), cols in self.vectors.items():
            out[name] = out.get(name, 0) + cols.stop - cols.start
        return torch.tensor([*out.values()])

    @property
    def vectors(self) -> dict[Block, slice]:
        """The blocks but that of biases."""
        return {
            block: cols for block, cols in self.blocks.items() if block != BIAS
        }

    @property
    def num_columns(self) -> int:
        """The columns of all modalities, `D`."""
        return max(cols.stop for cols in self.vectors.values())

    def with_ones(self, rows: Tensor) -> Tensor:
        """Rows of users, given those of all modalities, `[N, D]`."""
        width = self.item.size(1) - self.num_columns
        return torch.nn.functional.pad(rows, (0, width), value=1.0)

    def require_terms(self, method: str) -> tuple[Terms, ItemEncoder]:
        """Raise unless rows can be made anew."""
        if self.terms is None or self.encoder is None:
            raise ValueError(
                f"'{method}' needs a recommender made from pyg_sea.nn.SEA "
                'with normalize=True and one hop or more: other models have '
                'no rows for what they were not trained on. Train the model '
                'again with the new data'
            )
        return self.terms, self.encoder


def weighted_sum(
    x: Tensor, position: Tensor, row: Tensor, weight: Tensor, num: int
) -> Tensor:
    """Sums of weighted rows of `x`: `out[position] += weight * x[row]`, for
    positions in rising order.

    Shapes: `x` is `[N, D]`, positions, rows and weights are `[E]`, the output
    is `[num, D]`.
    """
    starts = torch.searchsorted(position, torch.arange(num))
    return torch.nn.functional.embedding_bag(
        row, x, starts, mode='sum', per_sample_weights=weight.to(x.dtype)
    )
