"""Rows of items by their features, without the rest of the model."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import Module, ModuleDict

from pyg_sea.nn import SEA, GenericUniqueSplit, ModalGCNConv
from pyg_sea.nn.modality import modality_key
from pyg_sea.nn.unit_rows import unit_rows


class ItemEncoder(Module):
    """The encoders and splits of :class:`~pyg_sea.nn.SEA`.

    Args:
        in_channels: The width of each modality.
        out_channels: The width of the encoded rows.
        hidden_channels: The hidden width of the encoders, 0 for none.
        generic_channels: The width of generic parts.
        mode: How rows are split.
        id_channels: The width of the block of items' own vectors, 0 for none.
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        out_channels: int,
        hidden_channels: int,
        generic_channels: int,
        mode: str,
        id_channels: int,
    ) -> None:
        super().__init__()
        self.config = {
            'in_channels': dict(in_channels),
            'out_channels': out_channels,
            'hidden_channels': hidden_channels,
            'generic_channels': generic_channels,
            'mode': mode,
            'id_channels': id_channels,
        }
        self.in_channels = dict(in_channels)
        self.id_channels = id_channels
        self.convs, self.splits = ModuleDict(), ModuleDict()
        for name, size in in_channels.items():
            key = modality_key(name)
            self.convs[key] = ModalGCNConv(size, out_channels, hidden_channels)
            self.splits[key] = GenericUniqueSplit(
                out_channels, generic_channels, mode=mode
            )

    @classmethod
    def from_sea(cls, model: SEA) -> 'ItemEncoder':
        """A copy of those of a model, on the CPU."""
        encoder = model.encoder
        ids = encoder.item_embedding
        key = modality_key(encoder.modalities[0])
        split = cast(GenericUniqueSplit, model.separate.splits[key])
        out = cls(
            encoder.in_channels,
            encoder.out_channels,
            cast(ModalGCNConv, encoder.convs[key]).hidden_channels,
            split.generic_channels,
            split.mode,
            0 if ids is None else ids.size(1),
        )
        out.convs.load_state_dict(encoder.convs.state_dict())
        out.splits.load_state_dict(model.separate.splits.state_dict())
        return out.eval().requires_grad_(False)

    def forward(
        self, modal_x: Mapping[str, Tensor], missing: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The rows of items before the first hop, as users see them, and
        their own rows, as scores see them: those of zeros where a modality is
        missing.

        Shapes: features are `[N, F_m]`, `missing` is `[N]` of booleans, the
        output `[N, D]` twice.
        """
        before, own = [], []
        for name in self.in_channels:
            key = modality_key(name)
            conv: Any = self.convs[key]
            x = unit_rows(conv.encode_items(modal_x[name]))
            x = x.masked_fill(missing[name].unsqueeze(1), 0)
            before.append(x)
            own.append(torch.cat(self.splits[key](x), dim=1))
        none = before[0].new_zeros(before[0].size(0), self.id_channels)
        before.append(none)
        own.append(none)
        return torch.cat(before, dim=1), torch.cat(own, dim=1)
