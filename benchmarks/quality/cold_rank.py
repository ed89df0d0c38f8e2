"""Scores of items that a model was not trained on, and their metrics."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from cold_split import Draw
from torch import Tensor

from pyg_sea import Recommender
from pyg_sea.baselines import ContentKNN, Popularity
from pyg_sea.evaluate import evaluate, with_history
from pyg_sea.nn import SEA, VBPR
from pyg_sea.recommend import EmbeddingScorer, Scorer, top_k
from pyg_sea.transforms import model_inputs


class Shuffled:
    """Ranks by a scorer, equal scores in random order: without, the ids of
    items would decide.

    Args:
        scorer: The scores of all items.
        candidates: Which items to rank, `[I]` of booleans; the others score
            minus infinity.
        seed: Decides the order of equal scores.
    """

    def __init__(self, scorer: Scorer, candidates: Tensor, seed: int) -> None:
        self.scorer = scorer
        self.columns = candidates.nonzero().view(-1)
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, users: Tensor) -> Tensor:
        """Minus the place of each item, `[B, I]`."""
        scores = self.scorer(users)
        chosen = scores[:, self.columns]
        order = torch.rand(chosen.shape, generator=self.generator).argsort(1)
        ranked = chosen.gather(1, order).argsort(
            dim=1, descending=True, stable=True
        )
        places = -torch.arange(chosen.size(1)).expand_as(order).float()
        chosen = torch.empty_like(chosen).scatter_(
            1, order.gather(1, ranked), places
        )
        out = torch.full_like(scores, float('-inf'))
        out[:, self.columns] = chosen
        return out


def scorer(
    model: str, trained: Any, settings: Mapping[str, Any], draw: Draw
) -> Scorer:
    """Scores of the warm items, then of the cold ones."""
    if isinstance(trained, SEA):
        return _sea(trained, draw)
    if isinstance(trained, VBPR):
        return _vbpr(trained, draw)
    edges = draw.shop.data['user', 'buys', 'item'].edge_index
    total = draw.warm.numel() + draw.cold.items.numel()
    if model == 'popularity':
        return Popularity(edges, total)
    return content_knn(draw, **settings)


def _sea(model: SEA, draw: Draw) -> Scorer:
    recommender = Recommender.from_model(
        model, draw.shop.data, item_ids=draw.warm.numpy(), graph=draw.graph
    )
    ids = draw.cold.items.numpy()
    state = recommender.add_items(draw.cold.features, ids).state
    return EmbeddingScorer(state.user, state.item)


@torch.no_grad()
def _vbpr(model: VBPR, draw: Draw) -> Scorer:
    num_cold = draw.cold.items.numel()
    sizes = [model.num_users, model.num_items + num_cold]
    grown = VBPR(
        *sizes, model.in_channels, model.hidden_channels, model.lambda_reg
    )
    state = model.state_dict()
    for name in ('item_embedding', 'item_bias'):
        state[name] = F.pad(state[name], (0, 0, 0, num_cold))
    grown.load_state_dict(state)
    inputs = model_inputs(draw.shop.data)
    modal_x = {
        name: torch.cat([x, draw.cold.features[name]])
        for name, x in inputs['modal_x'].items()
    }
    embedding = grown.get_embedding(modal_x, inputs['edge_index'])
    return EmbeddingScorer(*embedding.split(sizes))


def content_knn(
    draw: Draw, k: int = 10, weighted: bool = False, centered: bool = False
) -> Scorer:
    """Adds up the cosines between an item and those that a user has, as far
    as these are among the `k` warm items nearest to it.

    Args:
        draw: The items.
        k: Neighbours per item; 0 for all.
        weighted: Whether modalities count as in the item-item graph, else
            alike.
        centered: Whether features go less the mean of the warm items. Rows
            of zeros, which lack a modality, neither count for it nor move.
    """
    weights = draw.graph.weights if weighted else None
    warm: list[Tensor] = []
    cold: list[Tensor] = []
    for name, x in model_inputs(draw.shop.data)['modal_x'].items():
        count = x.any(dim=1).sum().clamp_min(1)
        mean = x.sum(dim=0) / count if centered else 0.0
        weight = 1.0 if weights is None else weights.get(name, 0.0)
        for rows, out in ((x, warm), (draw.cold.features[name], cold)):
            there = rows.any(dim=1, keepdim=True)
            out.append(weight**0.5 * F.normalize(rows - mean) * there)
    old = F.normalize(torch.cat(warm, dim=1))
    every = torch.cat([old, F.normalize(torch.cat(cold, dim=1))])
    num_warm, num_items = old.size(0), every.size(0)
    own = torch.arange(num_warm)
    k = min(k or num_warm, num_warm)
    near, similarity = top_k(
        EmbeddingScorer(every, old),
        torch.arange(num_items),
        k,
        exclude=torch.stack([own, own]),
    )
    item = torch.arange(num_items).repeat_interleave(k)
    there = near.flatten() >= 0
    return ContentKNN(
        draw.shop.data['user', 'buys', 'item'].edge_index,
        torch.stack([near.flatten(), item])[:, there],
        draw.shop.data['user'].num_nodes,
        num_items,
        similarity.flatten()[there],
    )


def measure(
    scorer: Scorer, draw: Draw, part: str, seed: int
) -> dict[str, dict[str, Any]]:
    """The metrics of cold items among themselves (`cold`), and of warm and
    cold ones among all (`overall`), there also with either as the only
    targets; and how many items, users and targets there are (`counts`).

    Args:
        scorer: As of :func:`scorer`.
        draw: The items.
        part: `'val'` or `'test'`: the edges of warm items.
        seed: Decides the order of equal scores.
    """
    store = draw.shop.data['user', 'buys', 'item']
    train, num_warm = store.edge_index, draw.warm.numel()
    user, item = draw.cold.edge_index
    targets = {
        'warm': store[f'{part}_edge_index'],
        'cold': torch.stack([user, item + num_warm]),
    }
    targets = {n: with_history(e, train) for n, e in targets.items()}
    targets['all'] = torch.cat([*targets.values()], dim=1)
    total = num_warm + draw.cold.items.numel()
    every = torch.ones(total, dtype=torch.bool)
    is_cold = torch.arange(total) >= num_warm
    among = Shuffled(scorer, is_cold, seed)
    overall = ranked(Shuffled(scorer, every, seed), targets['all'][0], train)
    return {
        'cold': evaluate(among, targets['cold'], train),
        'overall': {n: evaluate(overall, e) for n, e in targets.items()},
        'counts': {
            'items': {'warm': num_warm, 'cold': total - num_warm},
            'users': {n: e[0].unique().numel() for n, e in targets.items()},
            'targets': {n: e.size(1) for n, e in targets.items()},
        },
    }


def ranked(
    scorer: Scorer, users: Tensor, train: Tensor, k: int = 20
) -> Scorer:
    """A scorer that knows the `k` best items of some users, to be evaluated
    several times.
    """
    num_items = scorer(users[:1]).size(1)
    users = users.unique()
    items = top_k(scorer, users, k, train).items
    row = torch.full((int(users[-1]) + 1,), -1)
    row[users] = torch.arange(users.numel())

    def score(some: Tensor) -> Tensor:
        # What candidates ran out of goes into a column of its own.
        out = torch.full((some.numel(), num_items + 1), float('-inf'))
        index = items[row[some]]
        index = index.masked_fill(index < 0, num_items)
        places = -torch.arange(index.size(1)).expand_as(index).float()
        return out.scatter_(1, index, places)[:, :-1]

    return score
