"""From a trained model and its data to what a recommender holds."""

from collections.abc import Mapping
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from pyg_sea.nn import SEA, Recommender
from pyg_sea.nn.item_bias import with_bias
from pyg_sea.nn.models.score_terms import ScoreTerms
from pyg_sea.serving._ids import Ids
from pyg_sea.serving._item_encoder import ItemEncoder
from pyg_sea.serving._state import (
    ALL,
    UNKNOWN,
    Graph,
    Seen,
    State,
    Terms,
)
from pyg_sea.transforms._unit_rows import directions
from pyg_sea.transforms.modal_knn_graph import ModalKNNGraph
from pyg_sea.transforms.model_inputs import ITEM_EDGE_TYPE, model_inputs

# Half precision takes two bytes.
_MAX_FEATURES = 2**29
_BLOCK_NUMEL = 2**24


@torch.inference_mode(False)
@torch.no_grad()
def build(
    model: Any,
    data: HeteroData,
    user_ids: Any = None,
    item_ids: Any = None,
    graph: ModalKNNGraph | None = None,
    features: bool | None = None,
    edge_type: EdgeType | None = None,
) -> State:
    """Compute all rows once. The arguments are those of
    :meth:`~pyg_sea.serving.Recommender.from_model`.
    """
    inputs = model_inputs(data, edge_type)
    num_users, num_items = data['user'].num_nodes, data['item'].num_nodes
    users = _ids('user', user_ids, data['user'], num_users)
    items = _ids('item', item_ids, data['item'], num_items)
    edge_index = inputs['edge_index'].chunk(2, dim=1)[0].cpu()
    pairs = edge_index - torch.tensor([[0], [num_users]])
    weight = inputs['edge_weight']
    if weight is not None:
        weight = weight.chunk(2)[0].cpu()
    seen = Seen(pairs, weight, num_users)

    was_training = model.training
    model.eval()
    try:
        inputs = _to_device(inputs, model)
        if not isinstance(model, SEA):
            rows = model.get_embedding(**inputs).float().cpu()
            user, item = rows.split([num_users, num_items])
            block = {ALL: slice(0, rows.size(1))}
            return State(user.clone(), item.clone(), users, items, block, seen)
        found = model.get_terms(**inputs)
        parts = found.user, found.item + found.similar
        parts = with_bias(*parts, model.ranking.bias)
        user, item = (x.float().cpu() for x in parts)
        state = State(user, item, users, items, model.blocks, seen)
        if not model.encoder.normalize or model.encoder.K == 0:
            return state
        message = _messages(model, inputs, seen, num_items)
    finally:
        model.train(was_training)
    return State(
        **vars(state)
        | {
            'terms': _terms(model, found, message, seen.pairs[1].unique()),
            'encoder': ItemEncoder.from_sea(model),
            'graph': _graph(inputs, data, graph),
            'features': _features(inputs['modal_x'], features),
        }
    )


def _ids(kind: str, given: Any, store: Any, num: int) -> Ids:
    if given is None:
        given = store.get('external_id')
    ids = Ids(kind, range(num) if given is None else given)
    if len(ids) != num:
        raise ValueError(
            f"'{kind}_ids' needs {num:,} ids, one per {kind} of 'data' (got "
            f'{len(ids):,})'
        )
    return ids


def _to_device(inputs: dict[str, Any], model: Any) -> dict[str, Any]:
    parameter = next(iter(model.parameters()), None)
    if parameter is None:
        return inputs
    moved: dict[str, Any] = {
        key: value.to(parameter.device)
        for key, value in inputs.items()
        if isinstance(value, Tensor)
    }
    if not isinstance(model, Recommender):  # Ours read them where they are.
        moved['modal_x'] = {
            name: x.to(parameter.device)
            for name, x in inputs['modal_x'].items()
        }
    return inputs | moved


def _messages(
    model: SEA, inputs: dict[str, Any], seen: Seen, num_items: int
) -> Tensor:
    # All hops but the last one, which takes them from items to users.
    encoder: Any = copy(model.encoder)
    encoder.K -= 1
    edges = inputs['edge_index'], inputs['edge_weight']
    x_item = encoder(inputs['modal_x'], *edges)[1]
    h = torch.cat([*x_item.values()], dim=1)
    degree = torch.zeros(num_items)
    degree.index_add_(0, seen.pairs[1], seen.weight)
    # An item without users has as many as the first one makes.
    degree = torch.where(degree > 0, degree, torch.ones_like(degree))
    return h.float().cpu() * degree.rsqrt().unsqueeze(1)


def _terms(
    model: SEA, found: ScoreTerms, message: Tensor, trained: Tensor
) -> Terms:
    weight = model.encoder.user_weight
    return Terms(
        (found.item * found.item_norm).float().cpu(),
        found.item_norm.float().cpu(),
        message,
        (weight / found.user_norm).float().cpu(),
        weight.mean(dim=0).float().cpu(),
        trained,
        model.ranking.name == 'softmax',
    )


def _graph(
    inputs: dict[str, Any], data: HeteroData, given: ModalKNNGraph | None
) -> Graph | None:
    edge_index, weight = inputs['item_edge_index'], inputs['item_edge_weight']
    if edge_index is None or edge_index.size(1) == 0:
        return None
    settings = data[ITEM_EDGE_TYPE].get('settings')
    if given is not None:
        names = list(inputs['modal_x'])
        weights = given.weights or dict.fromkeys(names, 1 / len(names))
        settings = {
            'k': given.k,
            'weights': weights,
            'include_self': given.include_self,
        }
    if settings is None:
        return UNKNOWN
    graph = Graph(**settings)
    total = sum(graph.weights.values())
    sums = torch.zeros(int(edge_index.max()) + 1)
    if weight is None:
        weight = torch.ones(edge_index.size(1))
    sums.index_add_(0, edge_index[1].cpu(), weight.float().cpu())
    found = float(sums.max())
    if abs(found - total) < 1e-3 * total:
        return graph
    if given is None:
        return UNKNOWN
    raise ValueError(
        f"'graph' needs to be the transform that made the graph of similar "
        f"items in 'data', whose weights add up to {found:.4g} per item "
        f'(those of {given} to {total:.4g})'
    )


def _features(
    modal_x: Mapping[str, Tensor], keep: bool | None
) -> dict[str, Tensor] | None:
    size = sum(x.numel() for x in modal_x.values())
    if keep is False or (keep is None and size > _MAX_FEATURES):
        return None
    return {name: half_rows(x) for name, x in modal_x.items()}


def half_rows(x: Tensor) -> Tensor:
    """Rows of unit length in half precision, in blocks.

    Shapes: `x` and the output are `[N, F]`.
    """
    out = torch.empty(x.shape, dtype=torch.float16)
    step = max(1, _BLOCK_NUMEL // x.size(1))
    for start in range(0, x.size(0), step):
        part = slice(start, start + step)
        out[part] = directions(x[part])
    return out
