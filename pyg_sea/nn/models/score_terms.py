from typing import NamedTuple

import torch
from torch import Tensor

from ..unit_rows import unit_rows


class ScoreTerms(NamedTuple):
    r"""What the rows behind a score are made of, an item's own row and what
    its neighbors in the item-item graph add.

    .. math::
        \mathbf{e}_u^\top \mathbf{e}_i = \mathbf{e}_u^\top \left(
        \frac{\mathbf{h}_i}{n_i} + \frac{\sum_j S_{ij} \mathbf{h}_j}{n_i}
        \right)

    Here :math:`n_i` is the length of the sum if scores are cosines, and 1 if
    they are not.

    Args:
        user (torch.Tensor): The rows of users.
        item (torch.Tensor): The own rows of items, divided by :math:`n_i`.
        similar (torch.Tensor): What neighbors add, divided by :math:`n_i`.
        user_norm (torch.Tensor): What the rows of users were divided by.
        item_norm (torch.Tensor): The :math:`n_i`.

    Shapes:
        - **user:** :math:`(U, D)`
        - **item, similar:** :math:`(I, D)`
        - **user_norm, item_norm:** :math:`(U, 1)` and :math:`(I, 1)`

    Example:
        >>> import torch
        >>> from pyg_sea.nn.models.score_terms import ScoreTerms
        >>> rows = torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 4.0]])
        >>> terms = ScoreTerms.of(torch.ones(1, 2), *rows, unit=True)
        >>> terms.item + terms.similar
        tensor([[0.6000, 0.8000]])
    """

    user: Tensor
    item: Tensor
    similar: Tensor
    user_norm: Tensor
    item_norm: Tensor

    @classmethod
    def of(
        cls, user: Tensor, item: Tensor, similar: Tensor, unit: bool
    ) -> 'ScoreTerms':
        r"""Returns the terms of rows that are not divided yet.

        Args:
            user (torch.Tensor): Rows of users :math:`(U, D)`.
            item (torch.Tensor): Own rows of items :math:`(I, D)`.
            similar (torch.Tensor): What neighbors add, :math:`(I, D)`.
            unit (bool): Whether scores are cosines.
        """
        if not unit:
            one = [x.new_ones(x.size(0), 1) for x in (user, item)]
            return cls(user, item, similar, *one)
        user_norm, item_norm = (
            torch.linalg.vector_norm(x, dim=-1, keepdim=True).clamp_min(1e-12)
            for x in (user, item + similar)
        )
        return cls(
            unit_rows(user),
            item / item_norm,
            similar / item_norm,
            user_norm,
            item_norm,
        )
