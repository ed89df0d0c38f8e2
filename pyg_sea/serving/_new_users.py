"""Users that were not there in training, folded in through the graph."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyg_sea.serving._ids import as_index
from pyg_sea.serving._state import Seen, State, weighted_sum


def received(state: State, users: Tensor, scale: Tensor) -> Tensor:
    """What the rows of users get from their items.

    Shapes: `users` is `[B]`, `scale` `[B, M]`, the output `[B, D]`.
    """
    terms, _ = state.require_terms('received')
    position, item, weight = state.seen.of(users)
    total = weighted_sum(terms.message, position, item, weight, len(users))
    degree = torch.zeros(len(users)).index_add_(0, position, weight)
    scale = scale * degree.clamp_min(1e-12).rsqrt().unsqueeze(1)
    return total * scale.repeat_interleave(state.widths, dim=1)


@torch.no_grad()
def fold_in(state: State, items: Tensor, weight: Tensor | None) -> Tensor:
    """The row of a user who is nothing but these items.

    Shapes: `items` and `weight` are `[E]`, the output `[1, D]`.
    """
    terms, _ = state.require_terms('recommend_for')
    pairs = torch.stack([torch.zeros_like(items), items])
    one = replace(state, seen=Seen(pairs, weight, 1))
    row = received(one, torch.tensor([0]), terms.new_scale.unsqueeze(0))
    row = torch.nn.functional.normalize(row) if terms.unit else row
    return state.with_ones(row)


@torch.no_grad()
def add_interactions(
    state: State, interactions: Any, user: str, item: str, weight: str | None
) -> State:
    """A recommender that knows of further interactions. The arguments are
    those of :meth:`~pyg_sea.serving.Recommender.add_interactions`.
    """
    terms, _ = state.require_terms('add_interactions')
    ids, items, weights = _read(state, interactions, user, item, weight)
    unknown = ids[state.users.index.get_indexer(ids) < 0].unique()
    num = len(state.users) + len(unknown)
    users = state.users.plus(unknown) if len(unknown) > 0 else state.users
    local = torch.from_numpy(users.local(ids))
    pairs = torch.stack([local, items])

    new = state.with_ones(torch.zeros(len(unknown), state.num_columns))
    scale = torch.cat([terms.scale, terms.new_scale.expand(len(unknown), -1)])
    old = state.seen
    wider = replace(state, seen=Seen(old.pairs, old.weight, num))
    touched = local.unique()
    # What the users are but for their items stays.
    rows = torch.cat([state.user, new])
    own = rows[touched, : state.num_columns]
    own = own - received(wider, touched, scale[touched])

    seen = Seen(*_merge(old, pairs, weights, len(state.items)), num)
    after = replace(state, seen=seen)
    out = own + received(after, touched, scale[touched])
    if terms.unit:
        norm = torch.linalg.vector_norm(out, dim=1, keepdim=True)
        norm = norm.clamp_min(1e-12)
        out, scale[touched] = out / norm, scale[touched] / norm
    rows[touched] = state.with_ones(out)
    return replace(
        state,
        user=rows,
        users=users,
        seen=seen,
        terms=replace(terms, scale=scale),
    )


def _read(
    state: State, interactions: Any, user: str, item: str, weight: str | None
) -> tuple['pd.Index[Any]', Tensor, Tensor | None]:
    names = [user, item] + ([] if weight is None else [weight])
    there = (
        list(interactions) if isinstance(interactions, pd.DataFrame) else None
    )
    if there is None or not set(names) <= set(there):
        raise ValueError(
            f"'interactions' needs to be a DataFrame with the columns {names} "
            f'(got {type(interactions).__name__ if there is None else there})'
        )
    if interactions[names].isna().to_numpy().any():
        raise ValueError(f"'interactions' lacks values in the columns {names}")
    items = torch.from_numpy(state.items.local(interactions[item].tolist()))
    weights = None
    if weight is not None:
        values = interactions[weight].to_numpy(np.float32, copy=True)
        weights = check_weight(f"the column '{weight}'", values, items)
    return as_index(interactions[user].tolist()), items, weights


def check_weight(name: str, values: Any, items: Tensor) -> Tensor:
    """Weights as a tensor.

    Raises a `ValueError` unless there is a positive one per item.
    """
    weight = torch.as_tensor(values, dtype=torch.float32)
    if weight.shape != items.shape or not bool(
        ((weight > 0) & weight.isfinite()).all()
    ):
        raise ValueError(
            f'{name} needs {items.numel()} positive numbers, one per item '
            f'(got {values!r})'
        )
    return weight


def _merge(
    old: Seen, pairs: Tensor, weights: Tensor | None, num_items: int
) -> tuple[Tensor, Tensor]:
    if weights is None:
        # Without weights, an interaction is there or not.
        pairs = pairs.unique(dim=1)
        new, known = (x[0] * num_items + x[1] for x in (pairs, old.pairs))
        pairs = pairs[:, ~torch.isin(new, known)]
        weights = torch.ones(pairs.size(1))
    return (
        torch.cat([old.pairs, pairs], dim=1),
        torch.cat([old.weight, weights]),
    )
