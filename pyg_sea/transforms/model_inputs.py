from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from pyg_sea.transforms._modal_x import modal_features, num_nodes_of

ITEM_EDGE_TYPE = ('item', 'similar', 'item')


def model_inputs(
    data: HeteroData, edge_type: EdgeType | None = None
) -> dict[str, Any]:
    r"""Converts a :class:`~torch_geometric.data.HeteroData` of local ids into
    what every model of `pyg_sea` takes: one homogeneous graph, users first.

    Item :math:`i` becomes node :math:`U + i`, and each train edge appears in
    both directions. The result is splatted into the model:
    `model.get_embedding(**model_inputs(data))`.

    Args:
        data: Nodes `'user'` and `'item'`, features `data['item']['x_<m>']`,
            and train edges. The graph of similar items is taken from
            `data['item', 'similar', 'item']`, if it is there.
        edge_type: The type of the train edges (default: `None`, the only type
            from `'user'` to `'item'`).

    Shapes:
        - `modal_x`: `{modality: [I, width]}`
        - `edge_index`: `[2, 2E]` over U + I nodes
        - `edge_weight`: `[2E]`, or `None` without weights; weights of any
          real type, such as counts, become floats of the features' precision
        - `item_edge_index`: `[2, E']` over I items, from neighbour to item,
          or `None`
        - `item_edge_weight`: `[E']`, or `None`

    Raises a `TypeError` if `data` is no `HeteroData`, and a `ValueError` if
    nodes, features or train edges are missing, ambiguous or do not fit.

    Example:
        >>> from pyg_sea.datasets import FakeMultimodal
        >>> from pyg_sea.transforms import model_inputs
        >>> data = FakeMultimodal(num_users=50, num_items=40)[0]
        >>> inputs = model_inputs(data)
        >>> list(inputs['modal_x'])
        ['image', 'text']
        >>> num_edges = data['user', 'buys', 'item'].num_edges
        >>> inputs['edge_index'].size(1) == 2 * num_edges
        True
    """
    num_users = num_nodes_of(data, 'user')
    modal_x = modal_features(data)
    num_items = num_nodes_of(data, 'item')

    edge_type = _find_edge_type(data, edge_type)
    x = next(iter(modal_x.values()))
    dtype = torch.promote_types(x.dtype, torch.float32)
    edge_index, weight = _edges_of(
        data, edge_type, num_users, num_items, dtype
    )
    user, item = edge_index[0], edge_index[1] + num_users
    item_edge_index = item_weight = None
    if ITEM_EDGE_TYPE in data.edge_types:
        item_edge_index, item_weight = _edges_of(
            data, ITEM_EDGE_TYPE, num_items, num_items, dtype
        )
    return {
        'modal_x': modal_x,
        'edge_index': torch.stack(
            [torch.cat([user, item]), torch.cat([item, user])]
        ),
        'edge_weight': None if weight is None else weight.repeat(2),
        'item_edge_index': item_edge_index,
        'item_edge_weight': item_weight,
    }


def _find_edge_type(data: HeteroData, edge_type: EdgeType | None) -> EdgeType:
    known = [
        key for key in data.edge_types if key[0] == 'user' and key[2] == 'item'
    ]
    if edge_type is None and len(known) == 1:
        return known[0]
    if edge_type is None:
        raise ValueError(
            "'edge_type' needs to name the train edges unless there is "
            f"exactly one type from 'user' to 'item' (got {known})"
        )
    if tuple(edge_type) not in known:
        raise ValueError(
            f"'edge_type' needs to be one of the types from 'user' to 'item', "
            f'{known} (got {edge_type})'
        )
    return edge_type


def _edges_of(
    data: HeteroData,
    edge_type: EdgeType,
    num_src: int,
    num_dst: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor | None]:
    store = data[edge_type]
    edge_index = store.get('edge_index')
    if (
        not isinstance(edge_index, Tensor)
        or edge_index.dim() != 2
        or edge_index.size(0) != 2
        or edge_index.dtype != torch.long
    ):
        raise ValueError(
            f'data[{edge_type}].edge_index needs to be an int64 tensor of '
            f'shape [2, E] (got {_describe(edge_index)})'
        )
    if edge_index.numel() > 0:
        limit = edge_index.new_tensor([[num_src], [num_dst]])
        if bool(((edge_index < 0) | (edge_index >= limit)).any()):
            raise ValueError(
                f'data[{edge_type}].edge_index needs local ids in [0, '
                f'{num_src}) and [0, {num_dst}) (got '
                f'{edge_index.min(dim=1).values.tolist()} to '
                f'{edge_index.max(dim=1).values.tolist()})'
            )
    weight = store.get('edge_weight')
    if weight is None:
        return edge_index, None
    if (
        not isinstance(weight, Tensor)
        or weight.shape != edge_index.shape[1:]
        or weight.is_complex()
    ):
        raise ValueError(
            f'data[{edge_type}].edge_weight needs to be numbers of shape '
            f'[{edge_index.size(1)}], one per edge (got {_describe(weight)})'
        )
    return edge_index, weight.to(dtype)


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f'{value.dtype} {list(value.shape)}'
    return type(value).__name__
