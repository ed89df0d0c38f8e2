"""Items that were not there in training, by features and neighbours."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyg_sea.serving._build import half_rows
from pyg_sea.serving._row_regression import RowRegression
from pyg_sea.serving._state import UNKNOWN, Graph, State, weighted_sum
from pyg_sea.transforms._unit_rows import directions

_BLOCK_NUMEL = 2**24


@torch.no_grad()
def add_items(state: State, features: Mapping[str, Any], ids: Any) -> State:
    """A recommender with further items. The arguments are those of
    :meth:`~pyg_sea.serving.Recommender.add_items`.
    """
    terms, encoder = state.require_terms('add_items')
    items = state.items.plus(ids)
    num = len(items) - len(state.items)
    if num == 0:
        return state
    modal_x, missing = _read(features, encoder.in_channels, num)
    before, own = encoder(modal_x, missing)
    kept = None
    if state.features is not None:
        kept = {
            name: torch.cat([x, half_rows(modal_x[name])])
            for name, x in state.features.items()
        }
    links = None
    if state.graph is not None:
        links = _links(state.graph, kept, num)
    known = terms.trained
    bias = state.item[:, state.num_columns :]
    seen = known if known.numel() > 0 else slice(None)
    new_bias = bias[seen].mean(dim=0).expand(num, -1)
    if kept is not None and known.numel() > 0:
        weights = {} if state.graph is None else state.graph.weights
        target = torch.cat([terms.own, bias], dim=1)
        found = torch.empty(num, target.size(1))
        for names, chosen in _alike(missing):
            some = {name: kept[name] for name in names}
            found[chosen] = _learned(target, some, known, weights, links, num)[
                chosen
            ]
        own, new_bias = found.tensor_split([own.size(1)], dim=1)
    rows = torch.cat([terms.own, own])
    joined = own
    if links is not None:
        joined = own + links.sum(rows)
    norm = torch.ones(num, 1)
    if terms.unit:
        norm = torch.linalg.vector_norm(joined, dim=1, keepdim=True)
        norm = norm.clamp_min(1e-12)
    return replace(
        state,
        item=torch.cat([state.item, torch.cat([joined / norm, new_bias], 1)]),
        items=items,
        features=kept,
        terms=replace(
            terms,
            own=rows,
            norm=torch.cat([terms.norm, norm]),
            # Its first user is the only one who has it.
            message=torch.cat([terms.message, before]),
        ),
    )


def _read(
    features: Mapping[str, Any], in_channels: Mapping[str, int], num: int
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    unknown = [name for name in features if name not in in_channels]
    if unknown or not features:
        raise ValueError(
            f"'features' needs some of the modalities {list(in_channels)} "
            f'(got {list(features)})'
        )
    out, missing = {}, {}
    for name, width in in_channels.items():
        x = torch.full((num, width), float('nan'))
        if name in features:
            given = features[name]
            if not isinstance(given, Tensor):
                given = torch.from_numpy(np.array(given, dtype=np.float32))
            x = given.detach().float().cpu()
        if x.shape != (num, width):
            raise ValueError(
                f"'features[{name!r}]' needs the shape [{num}, {width}], one "
                f'row per new item (got {list(x.shape)})'
            )
        missing[name] = x.isnan().all(dim=1) | (x == 0).all(dim=1)
        out[name] = x.masked_fill(missing[name].unsqueeze(1), 0.0)
        bad = (~out[name].isfinite().all(dim=1)).nonzero().view(-1)
        if bad.numel() > 0:
            raise ValueError(
                f"'features[{name!r}]' needs finite rows, or all NaN where "
                f'an item has no {name} (row {int(bad[0])} is neither, and '
                f'{bad.numel() - 1} more)'
            )
    nothing = torch.stack([*missing.values()]).all(dim=0).nonzero().view(-1)
    if nothing.numel() > 0:
        raise ValueError(
            f'a new item needs at least one modality (row {int(nothing[0])} '
            f'has none, and {nothing.numel() - 1} more)'
        )
    return out, missing


class _Links(NamedTuple):
    """The edges of the graph of similar items into new ones."""

    position: Tensor
    item: Tensor
    share: Tensor
    num: int

    def sum(self, rows: Tensor) -> Tensor:
        """What neighbours add, `[N, D]`."""
        return weighted_sum(
            rows, self.position, self.item, self.share, self.num
        )


def _links(
    graph: Graph, features: Mapping[str, Tensor] | None, num: int
) -> _Links:
    if graph == UNKNOWN:
        raise ValueError(
            "'add_items' needs to know how the graph of similar items was "
            "made: pass 'graph', the ModalKNNGraph, to 'from_model'"
        )
    if features is None:
        raise ValueError(
            "'add_items' needs the features of the old items to find "
            "neighbours among them: pass features=True to 'from_model'"
        )
    total = next(iter(features.values())).size(0)
    own = torch.arange(total - num, total).unsqueeze(1)
    indices, shares = [], []
    for name, weight in graph.weights.items():
        if weight == 0 or name not in features:
            continue
        index = nearest(features[name], num, graph.k - graph.include_self)
        if graph.include_self:
            index = torch.cat([own, index], dim=1)
        there = index >= 0
        count = there.sum(dim=1, keepdim=True).clamp_min(1)
        indices.append(index)
        shares.append(weight * there / count)
    index, share = torch.cat(indices, dim=1), torch.cat(shares, dim=1)
    there = index >= 0
    return _Links(there.nonzero()[:, 0], index[there], share[there], num)


def _alike(
    missing: Mapping[str, Tensor],
) -> Iterator[tuple[list[str], Tensor]]:
    """New items that have the same modalities: their names, and which items
    these are.
    """
    there = ~torch.stack([*missing.values()], dim=1)
    patterns, which = there.unique(dim=0, return_inverse=True)
    for index, pattern in enumerate(patterns.tolist()):
        names = [name for name, has in zip(missing, pattern) if has]
        yield names, (which == index).nonzero().view(-1)


def _learned(
    rows: Tensor,
    features: Mapping[str, Tensor],
    known: Tensor,
    weights: Mapping[str, float],
    links: _Links | None,
    num: int,
) -> Tensor:
    """Own rows and biases of new items, as users would have made them: what
    these features say by regression, modalities weighing what they do among
    neighbours, and by how much neighbours with users differ from that.
    """
    some = {name: weights.get(name, 0.0) for name in features}
    regression = RowRegression(
        features, rows, known, some if any(some.values()) else None
    )
    total = rows.size(0) + num
    own = regression(torch.arange(rows.size(0), total))
    if links is None:
        return own
    near = links.item.unique()
    near = near[torch.isin(near, known)]
    place = torch.full((total,), near.numel())
    place[near] = torch.arange(near.numel())
    # All others differ by nothing.
    nothing = rows.new_zeros(1, rows.size(1))
    differ = torch.cat([rows[near] - regression(near), nothing])
    return own + links._replace(item=place[links.item]).sum(differ)


def nearest(x: Tensor, num: int, k: int) -> Tensor:
    """The `k` nearest others of the last `num` rows; -1 where there is none:
    all-zero rows have no neighbours and are none.

    Shapes: `x` is `[N, F]`, of unit rows, the output `[num, k]`.
    """
    query = directions(x[-num:])
    first = x.size(0) - num
    value = torch.full((num, k), float('-inf'))
    index = torch.full((num, k), -1)
    step = max(1, _BLOCK_NUMEL // max(num, x.size(1)))
    own = torch.arange(first, x.size(0))
    for start in range(0, x.size(0), step):
        block = x[start : start + step].float()
        score = query @ block.t()
        where = torch.arange(start, start + block.size(0))
        score.masked_fill_(own.unsqueeze(1) == where, float('-inf'))
        score.masked_fill_(~block.any(dim=1), float('-inf'))
        value = torch.cat([value, score], dim=1)
        index = torch.cat([index, where.expand(num, -1)], dim=1)
        value, order = value.topk(k, dim=1)
        index = index.gather(1, order)
    is_zero = ~query.any(dim=1, keepdim=True)
    return index.masked_fill(value.isinf() | is_zero, -1)
