"""Peers of `SEA` with its ranking loss: how much of what `SEA` is ahead by is
due to that loss, and not to the model?
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from pyg_sea.nn import Recommender, SampledSoftmaxLoss
from pyg_sea.nn.models.ranking import Ranking

from .defaults import default
from .lightgcn import LightGCN
from .mgcn import MGCN

TEMPERATURE = default('temperature', SampledSoftmaxLoss)


class RanksBySoftmax(Recommender):
    """In front of a model with a method `rank`."""

    ranking: Ranking

    def get_embedding(self, *args, **kwargs) -> Tensor:
        x = super().get_embedding(*args, **kwargs)
        sizes = [self.num_users, self.num_items]
        return torch.cat(self.ranking.rows(*x.split(sizes)))

    def rank(
        self, x_user: Tensor, x_item: Tensor, triplets: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of a batch, given the rows of its users `[B, D]`, in their
        order, and of all items.
        """
        loss = self.ranking(x_user, x_item, triplets)
        return loss, {'softmax': loss}


class LightGCNSoftmax(RanksBySoftmax, LightGCN):
    """LightGCN, which ranks by the sampled softmax and the biases of items of
    `SEA`, without regularization of rows, whose lengths do not count.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        hidden_channels: int = default('hidden_channels', LightGCN),
        num_layers: int = default('num_layers', LightGCN),
        temperature: float = TEMPERATURE,
    ) -> None:
        super().__init__(num_users, num_items, hidden_channels, num_layers, 0)
        self.ranking = Ranking('softmax', num_items, temperature=temperature)


class MGCNSoftmax(RanksBySoftmax, MGCN):
    """MGCN, likewise; its contrast of views stays, with its own temperature.
    `temperature` is that of the ranking.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: Mapping[str, int],
        item_graphs: Mapping[str, tuple[Tensor, Tensor]],
        hidden_channels: int = default('hidden_channels', MGCN),
        num_layers: int = default('num_layers', MGCN),
        num_item_layers: int = default('num_item_layers', MGCN),
        lambda_cl: float = default('lambda_cl', MGCN),
        temperature: float = TEMPERATURE,
    ) -> None:
        super().__init__(
            num_users,
            num_items,
            in_channels,
            item_graphs,
            hidden_channels,
            num_layers,
            num_item_layers,
            lambda_cl,
            lambda_reg=0,
        )
        self.ranking = Ranking('softmax', num_items, temperature=temperature)
