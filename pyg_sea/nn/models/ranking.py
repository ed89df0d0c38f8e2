from typing import Any

from torch import Tensor
from torch.nn import Module

from ..loss import BPRLoss, SampledSoftmaxLoss
from ..unit_rows import unit_rows


class Ranking(Module):
    r"""How a model that scores by inner products is taught to rank: by
    :class:`~pyg_sea.nn.SampledSoftmaxLoss`, which makes scores cosines, or by
    :class:`~pyg_sea.nn.BPRLoss`.

    Args:
        name (str): :obj:`"softmax"` or :obj:`"bpr"`.
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

    def __init__(self, name: str, sync: bool = False, **kwargs: Any) -> None:
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
            return self.loss(x_user, x_item, items[0], users)
        return self.loss(
            *((x_user * x_item.index_select(0, i)).sum(dim=-1) for i in items)
        )

    def rows(self, x: Tensor) -> Tensor:
        r"""Returns the rows whose inner products are the scores.

        Args:
            x (torch.Tensor): Rows :math:`(N, D)`.
        """
        return unit_rows(x) if self.name == 'softmax' else x

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.name!r})'
