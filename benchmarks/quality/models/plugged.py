"""Other recommenders with separate learning of item features, as in
`examples/plug_into_*.py`: the parts of every modality stand in place of its
features, and the loss of :class:`SeparateLearning` is added.
"""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_sea.nn import (
    FREEDOM,
    SEA,
    VBPR,
    ModalParts,
    Recommender,
    SeparateLearning,
)

from .defaults import default
from .lightgcn import LightGCN

ALPHA = default('alpha', SeparateLearning)
BETA = default('beta', SeparateLearning)
NUM_ANCHORS = default('num_anchors', SEA)


class Plugged(Recommender):
    """What the plug-ins share.

    Args:
        model: The recommender.
        separate: The losses, and the maps from features to parts.
    """

    def __init__(self, model: Recommender, separate: SeparateLearning) -> None:
        super().__init__(model.num_users, model.num_items)
        self.model = model
        self.separate = separate

    def get_parts(
        self, modal_x, edge_index=None, edge_weight=None
    ) -> dict[str, ModalParts]:
        return self.separate.split(modal_x)

    def get_embedding(self, modal_x, edge_index, *args, **kwargs) -> Tensor:
        x = joined(self.separate.split(modal_x))
        return self.model.get_embedding(x, edge_index, *args, **kwargs)

    def loss(
        self, modal_x, edge_index, triplets, *args, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor]]:
        parts = self.separate.split(modal_x)
        rank, terms = self.rank(parts, edge_index, triplets, *args, **kwargs)
        loss, more = self.separate.loss(parts)
        return rank + loss, terms | more

    def rank(
        self, parts, edge_index, triplets, *args, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of the recommender alone."""
        return self.model.loss(
            joined(parts), edge_index, triplets, *args, **kwargs
        )


class VBPRSeparate(Plugged):
    """VBPR of generic and unique parts, `part_channels` wide each. What the
    weight of its maps is there covers those to the parts, too.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: Mapping[str, int],
        hidden_channels: int = default('hidden_channels', VBPR),
        lambda_reg: float = default('lambda_reg', VBPR),
        lambda_map: float = default('lambda_map', VBPR),
        part_channels: int = 64,
        alpha: float = ALPHA,
        beta: float = BETA,
        num_anchors: int | None = NUM_ANCHORS,
    ) -> None:
        separate = equal_parts(
            in_channels, part_channels, alpha, beta, num_anchors
        )
        sizes = dict.fromkeys(in_channels, 2 * part_channels)
        model = VBPR(
            num_users,
            num_items,
            sizes,
            hidden_channels,
            lambda_reg,
            lambda_map,
        )
        super().__init__(model, separate)

    def rank(
        self, parts, edge_index, triplets, *args, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = super().rank(
            parts, edge_index, triplets, *args, **kwargs
        )
        if self.model.lambda_map > 0:
            maps = [
                weight.square().sum()
                for weight in self.separate.splits.parameters()
                if weight.dim() == 2
            ]
            more = torch.stack(maps).sum() / 2
            loss = loss + self.model.lambda_map * more
            terms = terms | {'map': terms['map'] + more}
        return loss, terms


class FREEDOMSeparate(Plugged):
    """FREEDOM, whose ranking by single modalities reads generic and unique
    parts, `part_channels` wide each. Its item-item graph is that of the
    features.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: Mapping[str, int],
        hidden_channels: int = default('hidden_channels', FREEDOM),
        num_layers: int = default('num_layers', FREEDOM),
        num_item_layers: int = default('num_item_layers', FREEDOM),
        dropout: float = default('dropout', FREEDOM),
        lambda_modal: float = default('lambda_modal', FREEDOM),
        part_channels: int = 64,
        alpha: float = ALPHA,
        beta: float = BETA,
        num_anchors: int | None = NUM_ANCHORS,
    ) -> None:
        separate = equal_parts(
            in_channels, part_channels, alpha, beta, num_anchors
        )
        model = FREEDOM(
            num_users,
            num_items,
            dict.fromkeys(in_channels, 2 * part_channels),
            hidden_channels,
            num_layers,
            num_item_layers,
            dropout,
            lambda_modal,
        )
        super().__init__(model, separate)


class LightGCNSeparate(Plugged):
    """PyG's LightGCN, to whose item rows the parts of all modalities side by
    side are added, of equal widths. Columns that are left over get nothing.
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: Mapping[str, int],
        hidden_channels: int = default('hidden_channels', LightGCN),
        num_layers: int = default('num_layers', LightGCN),
        lambda_reg: float = default('lambda_reg', LightGCN),
        alpha: float = ALPHA,
        beta: float = BETA,
        num_anchors: int | None = NUM_ANCHORS,
    ) -> None:
        width = hidden_channels // (2 * len(in_channels))
        separate = equal_parts(in_channels, width, alpha, beta, num_anchors)
        super().__init__(
            LightGCN(
                num_users, num_items, hidden_channels, num_layers, lambda_reg
            ),
            separate,
        )

    def get_embedding(self, modal_x, edge_index, *args, **kwargs) -> Tensor:
        out = self.model.get_embedding(modal_x, edge_index, *args, **kwargs)
        return out + self._features(self.separate.split(modal_x), out)

    def rank(
        self, parts, edge_index, triplets, *args, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor]]:
        x = self.model.get_embedding(None, edge_index, *args, **kwargs)
        x = x + self._features(parts, x)
        x_user, x_item = x.split([self.num_users, self.num_items])
        users = x_user.index_select(0, triplets[0])
        return self.model.rank(users, x_item, triplets)

    def _features(self, parts: Mapping[str, ModalParts], x: Tensor) -> Tensor:
        item = torch.cat([*joined(parts).values()], dim=1)
        free = x.size(1) - item.size(1)
        return F.pad(item, (0, free, self.num_users, 0))


def equal_parts(
    in_channels: Mapping[str, int],
    width: int,
    alpha: float,
    beta: float,
    num_anchors: int | None,
) -> SeparateLearning:
    """The losses, with parts that are all of one width."""
    return SeparateLearning(
        in_channels,
        width,
        width,
        alpha=alpha,
        beta=beta,
        num_anchors=num_anchors,
    )


def joined(parts: Mapping[str, ModalParts]) -> dict[str, Tensor]:
    """The parts of each modality side by side."""
    return {name: torch.cat(pair, dim=1) for name, pair in parts.items()}
