from typing import Any

import torch
from torch import Tensor
from torch.nn import Module, Parameter
from torch_geometric.typing import OptTensor

from ..item_bias import with_bias
from ..loss import BPRLoss, SampledSoftmaxLoss
from ..unit_rows import unit_rows

#: What a bias is of its parameter. Adam moves all parameters alike: biases are
#: to follow what rows cannot say, not to run ahead of them.
BIAS_SCALE = 0.2


class Ranking(Module):
    r"""How a model that scores by inner products is taught to rank: by
    :class:`~pyg_sea.nn.SampledSoftmaxLoss`, for which rows have unit length,
    or by :class:`~pyg_sea.nn.BPRLoss`; and what every item has beside that.

    Args:
        name (str): :obj:`"softmax"` or :obj:`"bpr"`.
        num_items (int, optional): If given, each item has a bias
            :math:`b_i`, a learnable number that is added to its scores, zero
            at the start: a fifth of a parameter, so that Adam moves it more
            slowly than rows. (default: :obj:`None`)
        sync (bool, optional): As in the losses. (default: :obj:`False`)
        **kwargs (optional): Arguments of
            :class:`~pyg_sea.nn.SampledSoftmaxLoss`.

    Shapes:
        - **input:** rows of the users of a batch :math:`(B, D)`, rows of all
          items :math:`(I, D)`, triplets :math:`(3, B)`
        - **output:** a scalar

    Raises:
        ValueError: If the name is unknown, or has no such arguments.

    Example:
        >>> import torch
        >>> from pyg_sea.nn.models.ranking import Ranking
        >>> x_user, x_item = torch.zeros(1, 2), torch.eye(2)
        >>> Ranking('bpr')(x_user, x_item, torch.tensor([[0], [0], [1]]))
        tensor(0.6931)
    """

    def __init__(
        self,
        name: str,
        num_items: int | None = None,
        sync: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__()

        if name not in ('softmax', 'bpr'):
            raise ValueError(
                f"'ranking' needs to be 'softmax' or 'bpr' (got {name!r})"
            )
        if name == 'bpr' and kwargs:
            raise ValueError(
                f"ranking='bpr' takes no 'ranking_kwargs' "
                f'(got {sorted(kwargs)})'
            )
        self.name = name
        self.loss: Module = (
            BPRLoss(sync)
            if name == 'bpr'
            else SampledSoftmaxLoss(sync=sync, **kwargs)
        )
        bias = None if num_items is None else Parameter(torch.zeros(num_items))
        self.item_bias: Parameter | None
        self.register_parameter('item_bias', bias)

    @property
    def bias(self) -> OptTensor:
        r"""The biases of items :math:`(I)`, if they have any."""
        if self.item_bias is None:
            return None
        return BIAS_SCALE * self.item_bias

    @torch.no_grad()
    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        if self.item_bias is not None:
            self.item_bias.zero_()

    def forward(
        self, x_user: Tensor, x_item: Tensor, triplets: Tensor
    ) -> Tensor:
        r"""Returns the loss of one batch.

        Args:
            x_user (torch.Tensor): Rows of the users of the triplets, in their
                order, :math:`(B, D)`.
            x_item (torch.Tensor): Rows of all items :math:`(I, D)`.
            triplets (torch.Tensor): Local ids of users, positive items and
                negative items, :math:`(3, B)`.
        """
        users, *items = triplets
        if self.name == 'softmax':
            return self.loss(x_user, x_item, items[0], users, self.bias)
        scores = [
            (x_user * x_item.index_select(0, i)).sum(dim=-1) for i in items
        ]
        bias = self.bias
        if bias is not None:
            scores = [
                score + bias.index_select(0, i)
                for score, i in zip(scores, items)
            ]
        return self.loss(*scores)

    def rows(
        self, x_user: Tensor, x_item: Tensor, known: bool = True
    ) -> tuple[Tensor, Tensor]:
        r"""Returns the rows whose inner products are the scores.

        Args:
            x_user (torch.Tensor): Rows of users :math:`(U, D)`.
            x_item (torch.Tensor): Rows of items :math:`(N, D)`.
            known (bool, optional): If set to :obj:`False`, the items are not
                those of training, and have the mean of their biases.
                (default: :obj:`True`)
        """
        if self.name == 'softmax':
            x_user, x_item = unit_rows(x_user), unit_rows(x_item)
        bias = self.bias
        if bias is not None and not known:
            bias = bias.mean().expand(x_item.size(0))
        return with_bias(x_user, x_item, bias)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.name!r})'
