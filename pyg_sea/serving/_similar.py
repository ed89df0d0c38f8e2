"""Items like others, by all that is known of them or by a part of it."""

import pandas as pd
import torch

from pyg_sea.nn.unit_rows import unit_rows
from pyg_sea.serving._rank import ExactSearch, Local, frame
from pyg_sea.serving._state import ALL, State


def columns(state: State, part: str, modality: str | None) -> torch.Tensor:
    """The columns of a part and a modality.

    Raises a `ValueError` if there are none.
    """
    chosen = [
        cols
        for (name, kind), cols in state.vectors.items()
        if part in ('all', kind) and modality in (None, name)
    ]
    if not chosen:
        there = [f'{name} {kind}' for name, kind in state.vectors]
        only = '; only pyg_sea.nn.SEA has parts' if ALL in state.blocks else ''
        raise ValueError(
            f"'part' and 'modality' need to name some of {there}, or 'all' "
            f'and None (got {part!r} and {modality!r}){only}'
        )
    return torch.cat([torch.arange(c.start, c.stop) for c in chosen])


@torch.no_grad()
def similar(
    state: State, items: Local, k: int, part: str, modality: str | None
) -> pd.DataFrame:
    """A table of the nearest other items by cosine: item, similar, rank,
    score.
    """
    chosen = columns(state, part, modality)
    x = unit_rows(state.item[:, chosen])
    local = torch.from_numpy(items)
    own = torch.stack([torch.arange(local.numel()), local])
    found = ExactSearch(x)(x[local], k, own)
    return frame('item', state.items, items, 'similar', state.items, found)
