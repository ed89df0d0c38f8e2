"""What a model has to beat: popularity, and nearest neighbours by content."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_sea._rows import Rows, check_pairs
from pyg_sea._weights import check_weights
from pyg_sea.recommend import EmbeddingScorer, top_k

__all__ = ['ContentKNN', 'Popularity']

classes = __all__


class Popularity:
    """Scores every item by its number of train edges, alike for all users.

    Args:
        edge_index: Train (user, item) pairs, local ids.
        num_items: The number of items.

    Shapes:
        - `edge_index`: `[2, E]`
        - a call: users `[B]`, their scores `[B, I]`

    Raises a `ValueError` if `edge_index` is malformed.

    Example:
        >>> import torch
        >>> from pyg_sea.baselines import Popularity
        >>> scorer = Popularity(torch.tensor([[0, 1, 1], [2, 2, 0]]), 3)
        >>> scorer(torch.tensor([5])).tolist()
        [[1.0, 0.0, 2.0]]
    """

    def __init__(self, edge_index: Tensor, num_items: int) -> None:
        check_pairs('edge_index', edge_index, None, num_items)
        self.count = torch.bincount(edge_index[1], minlength=num_items).float()

    def __call__(self, users: Tensor) -> Tensor:
        """The scores `[B, I]` of all items for the users `[B]`."""
        return self.count.repeat(users.numel(), 1)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.count.numel()})'


class ContentKNN:
    r"""Scores an item by how similar it is to what the user has chosen.

    .. math::
        s(u, i) = \sum_{j \in \mathcal{N}(u)} S_{ij}

    Args:
        edge_index: Train (user, item) pairs, local ids.
        item_edge_index: The item graph, from neighbour j to item i, as
            :class:`~pyg_sea.transforms.ModalKNNGraph` makes it.
        num_users: The number of users.
        num_items: The number of items.
        item_edge_weight: The similarities :math:`S_{ij}` (default: `None`,
            all 1).

    Shapes:
        - `edge_index`: `[2, E]`
        - `item_edge_index`: `[2, E']`
        - `item_edge_weight`: `[E']`
        - a call: users `[B]`, their scores `[B, I]`

    Raises a `ValueError` if an argument is malformed.

    Example:
        >>> import torch
        >>> from pyg_sea.baselines import ContentKNN
        >>> train = torch.tensor([[0, 0], [0, 1]])
        >>> modal_x = {'text': torch.tensor([[1.0, 0], [0, 1], [3, 4]])}
        >>> scorer = ContentKNN.from_features(train, modal_x, 1, k=2)
        >>> scorer(torch.tensor([0]))  # the last one: .6 + .8
        tensor([[0.0000, 0.0000, 1.4000]])
    """

    def __init__(
        self,
        edge_index: Tensor,
        item_edge_index: Tensor,
        num_users: int,
        num_items: int,
        item_edge_weight: Tensor | None = None,
    ) -> None:
        check_pairs('edge_index', edge_index, num_users, num_items)
        check_pairs('item_edge_index', item_edge_index, num_items, num_items)
        if item_edge_weight is None:
            item_edge_weight = torch.ones(
                item_edge_index.size(1), device=item_edge_index.device
            )
        if item_edge_weight.shape != item_edge_index.shape[1:]:
            raise ValueError(
                f"'item_edge_weight' needs one weight per edge "
                f'(got {list(item_edge_weight.shape)} weights for '
                f'{item_edge_index.size(1)} edges)'
            )
        self.num_items = num_items
        self.history = Rows(edge_index, num_users)
        self.graph = Rows(item_edge_index, num_items)
        if self.graph.perm is not None:
            item_edge_weight = item_edge_weight[self.graph.perm]
        self.weight = item_edge_weight

    @classmethod
    def from_features(
        cls,
        edge_index: Tensor,
        modal_x: Mapping[str, Tensor],
        num_users: int,
        k: int = 10,
        weights: Mapping[str, float] | None = None,
    ) -> 'ContentKNN':
        """Takes the k nearest other items by the cosine between the
        concatenation of all modalities, each L2-normalised.

        Args:
            edge_index: Train (user, item) pairs, local ids.
            modal_x: Item features per modality.
            num_users: The number of users.
            k: Neighbours per item (default: 10).
            weights: What the cosine of each modality weighs; those left out
                are not used (default: `None`, all alike).

        Shapes:
            - `edge_index`: `[2, E]`
            - `modal_x`: `[I, F_m]` each

        Raises a `ValueError` if weights are negative, not finite, all zero or
        of unknown modalities.
        """
        if weights is None:
            weights = dict.fromkeys(modal_x, 1.0)
        check_weights(weights, modal_x)
        rows = [w**0.5 * F.normalize(modal_x[m]) for m, w in weights.items()]
        x = F.normalize(torch.cat(rows, dim=1))
        item = torch.arange(x.size(0), device=x.device)
        neighbour, similarity = top_k(
            EmbeddingScorer(x, x), item, k, exclude=torch.stack([item, item])
        )
        mask = neighbour.flatten() >= 0
        graph = torch.stack([neighbour.flatten(), item.repeat_interleave(k)])
        return cls(
            edge_index,
            graph[:, mask],
            num_users,
            x.size(0),
            similarity.flatten()[mask],
        )

    def __call__(self, users: Tensor) -> Tensor:
        """The scores `[B, I]` of all items for the users `[B]`."""
        users = users.to(self.weight.device)
        user, entry = self.history.of(users)
        chosen, edge = self.graph.of(self.history.col[entry])
        scores = self.weight.new_zeros(users.numel() * self.num_items)
        cell = user[chosen] * self.num_items + self.graph.col[edge]
        scores.index_add_(0, cell, self.weight[edge])
        return scores.view(-1, self.num_items)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_items}, '
            f'num_edges={self.weight.numel()})'
        )
