"""Reading the modalities of a `HeteroData`, in one place."""

from typing import Any

from torch import Tensor
from torch_geometric.data import HeteroData

PREFIX = 'x_'


def num_nodes_of(data: Any, node_type: str) -> int:
    """Return how many nodes of a type there are.

    Raises a `TypeError` for anything but a `HeteroData`, and a `ValueError`
    if it does not say.
    """
    if not isinstance(data, HeteroData):
        raise TypeError(
            "'data' needs to be a torch_geometric.data.HeteroData (got "
            f'{type(data).__name__})'
        )
    if node_type not in data.node_types:
        raise ValueError(
            f"'data' needs nodes of type '{node_type}' (got {data.node_types})"
        )
    if not data[node_type].can_infer_num_nodes:
        raise ValueError(
            f"'data' does not say how many nodes of type '{node_type}' there "
            f"are; set data['{node_type}'].num_nodes"
        )
    return int(data[node_type].num_nodes)


def modal_features(data: HeteroData) -> dict[str, Tensor]:
    """Return the item features of each modality, in their order.

    Shapes: `[num_items, width]` each.

    Raises a `ValueError` or `TypeError` unless `data['item']` has `x_*`
    entries, all of them matrices of floats with one row per item.
    """
    num_items = num_nodes_of(data, 'item')
    out = {
        key.removeprefix(PREFIX): value
        for key, value in data['item'].items()
        if key.startswith(PREFIX)
    }
    for name, x in out.items():
        if not isinstance(x, Tensor) or not x.is_floating_point():
            got = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise TypeError(
                f"data['item']['{PREFIX}{name}'] needs to be a tensor of "
                f'floats (got {got})'
            )
        if x.dim() != 2 or x.size(0) != num_items:
            raise ValueError(
                f"data['item']['{PREFIX}{name}'] needs the shape "
                f'[{num_items}, width], one row per item (got '
                f'{list(x.shape)})'
            )
    if not out:
        raise ValueError(
            "data['item'] has no features; each modality is an entry "
            f"'{PREFIX}<modality>' of shape [{num_items}, width] (got "
            f'{list(data["item"].keys())})'
        )
    return out
