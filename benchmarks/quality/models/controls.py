"""What `SEA` cannot do by its arguments, to hold it against."""

from copy import deepcopy
from functools import wraps
from itertools import combinations

import torch
from torch import Tensor
from torch.nn import Module

from pyg_sea.nn import SEA, CLUBLoss, ModalParts, SeparateLearning


class SplitBeforeSEA(SEA):
    """Splits before the graph: the losses read the parts of the items' encoded
    rows, before the first hop, as in the released code. The graph reads the
    unsplit rows, and :meth:`get_parts` returns what is recommended by.

    With `mode='linear'` the losses have maps of their own, so that nothing
    they learn there reaches the score but through the encoder.
    """

    @wraps(SEA.__init__)
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.before = deepcopy(self.separate)
        self.separate.alpha = self.separate.beta = 0.0

    def reset_parameters(self) -> None:
        super().reset_parameters()
        self.before.reset_parameters()

    def loss(
        self, modal_x, edge_index, triplets, *args, **kwargs
    ) -> tuple[Tensor, dict[str, Tensor]]:
        out, terms = super().loss(
            modal_x, edge_index, triplets, *args, **kwargs
        )
        _, loss, more = self.before(self.encoder.encode_items(modal_x))
        return out + loss, terms | more


class MispairedSEA(SEA):
    """Fits one estimator for all modalities on the pairs that the released
    code takes, see :class:`Mispaired`.
    """

    @wraps(SEA.__init__)
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.separate = Mispaired(self.separate)


class Mispaired(Module):
    """Separate learning, with CLUB fitted from the generic (unique) part of a
    later modality to that of an earlier one, and taken between generic and
    unique part. That is no bound, and can be negative: it is clamped at 0, as
    in the released code.

    Args:
        separate: The losses. Needs two modalities, and parts of equal widths.
    """

    def __init__(self, separate: SeparateLearning) -> None:
        super().__init__()
        clubs = [*separate.distances.values()]
        sizes = {
            size
            for club in clubs
            if isinstance(club, CLUBLoss)
            for size in (club.in_channels, club.out_channels)
        }
        if len(clubs) < 2 or len(sizes) != 1:
            raise ValueError(
                "'sea_mispaired' needs two modalities, distance='club' and "
                f'parts of equal widths (got {clubs})'
            )
        self.club = clubs[0]
        self.separate = separate
        self.beta, separate.beta = separate.beta, 0.0

    def reset_parameters(self) -> None:
        self.separate.reset_parameters()

    def split(self, modal_x) -> dict[str, ModalParts]:
        return self.separate.split(modal_x)

    def loss(
        self, parts, sizes=None, missing=None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        loss, terms = self.separate.loss(parts, sizes, missing)
        if self.beta == 0:
            return loss, terms
        if self.training:
            self.club.fit(*mispaired(parts))
        for name, pair in parts.items():
            term = self.club.bound(*pair).clamp(min=0)
            terms[f'distance/{name}'] = term
            loss = loss + self.beta * term
        return loss, terms


def mispaired(parts) -> tuple[Tensor, Tensor]:
    """Generic and unique parts of later modalities below each other, and
    those of earlier ones.
    """
    later, earlier = zip(
        *(
            (torch.cat(parts[b]), torch.cat(parts[a]))
            for a, b in combinations(parts, 2)
        )
    )
    return torch.cat(later), torch.cat(earlier)
