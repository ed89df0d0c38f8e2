"""The one place where a dataset becomes a `HeteroData` of local ids."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_sea.datasets._interactions import SPLITS, Interactions

EDGE_TYPE = ('user', 'buys', 'item')


def build_data(
    interactions: Interactions,
    features: dict[str, Tensor],
    user_ids: Sequence[Any] | NDArray[Any] | None = None,
    item_ids: Sequence[Any] | NDArray[Any] | None = None,
) -> HeteroData:
    """Assemble checked interactions and cleaned features.

    Args:
        interactions: Pairs of local ids with their split.
        features: `[num_items, width]` per modality; its rows are the items.
        user_ids: External ids, by local id (default: `None`).
        item_ids: External ids, by local id (default: `None`).

    Raises a `ValueError` if a split is empty or an item has no features.
    """
    num_items = next(iter(features.values())).size(0)
    largest = int(interactions.item.max())
    if largest >= num_items:
        raise ValueError(
            f'item ids reach {largest:,}, but the feature matrices have '
            f'{num_items:,} rows only; every item needs a row (of NaN if it '
            'has no such modality)'
        )
    count = np.bincount(interactions.split, minlength=3)
    for name, num in zip(SPLITS, count, strict=True):
        if num == 0:
            raise ValueError(
                f'the {name} split is empty (train, validation, test: '
                f'{count.tolist()}); it needs at least one interaction'
            )

    data = HeteroData()
    data['user'].num_nodes = int(interactions.user.max()) + 1
    data['item'].num_nodes = num_items
    for name, x in features.items():
        data['item'][f'x_{name}'] = x
    if user_ids is not None:
        data['user'].external_id = user_ids
    if item_ids is not None:
        data['item'].external_id = item_ids

    edges = torch.from_numpy(np.stack([interactions.user, interactions.item]))
    split = torch.tensor(interactions.split)
    store = data[EDGE_TYPE]
    store.edge_index = edges[:, split == 0]
    if interactions.weight is not None:
        store.edge_weight = torch.tensor(interactions.weight)[split == 0]
    store.val_edge_index = edges[:, split == 1]
    store.test_edge_index = edges[:, split == 2]
    return data


def warn_isolated(data: HeteroData) -> None:
    """Count users and items without a train edge, and warn about them."""
    store = data[EDGE_TYPE]
    for row, node_type in enumerate(('user', 'item')):
        isolated = torch.ones(data[node_type].num_nodes, dtype=torch.bool)
        isolated[store.edge_index[row]] = False
        num = int(isolated.sum())
        if num == 0:
            continue
        held_out = [
            int(isolated[torch.unique(edges[row])].sum())
            for edges in (store.val_edge_index, store.test_edge_index)
        ]
        fate = (
            'they stay in the data and out of the evaluation'
            if node_type == 'user'
            else 'only their features place them'
        )
        warnings.warn(
            f'{num:,} of {isolated.numel():,} {node_type}s have no train '
            f'edge ({held_out[0]:,} of them have validation, {held_out[1]:,} '
            f'test edges); {fate}',
            stacklevel=3,
        )
