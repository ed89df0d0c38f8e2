"""Splits a catalogue into items to train on, and items that come later."""

import argparse
from collections.abc import Mapping
from typing import NamedTuple

import catalogue
import torch
import torch.nn.functional as F
from catalogue import Catalogue
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_sea.datasets._moments import Moments
from pyg_sea.transforms import ModalKNNGraph, model_inputs

# Which half of the items an item is in does not depend on the seed.
_HALVES = 2406


class Cold(NamedTuple):
    """Items that nothing was trained on, and who chose them.

    Args:
        items: Their ids in the catalogue, ascending.
        features: By modality, as those of training were prepared.
        edge_index: All users of each, of any split: users, and places in
            `items`.

    Shapes: `items` is `[C]`, features are `[C, F_m]`, `edge_index` is
    `[2, L]`.
    """

    items: Tensor
    features: dict[str, Tensor]
    edge_index: Tensor


class Draw(NamedTuple):
    """What a seed makes of a catalogue.

    Args:
        shop: What is left of it, to train on.
        warm: The ids in the catalogue of the items that are left.
        cold: The items that are held out.
        graph: Makes the item-item graph.
    """

    shop: Catalogue
    warm: Tensor
    cold: Cold
    graph: ModalKNNGraph


class Source(NamedTuple):
    """A catalogue whose features are not normalized yet.

    Args:
        shop: Its name and what decides it.
        data: Its interactions and features as they are in the files.
    """

    shop: Catalogue
    data: HeteroData


def read(args: argparse.Namespace) -> Source:
    """Reads what :func:`catalogue.add_arguments` asked for."""
    if args.neighbors:
        raise ValueError(
            "'--neighbors' were found with the items that are to be held out: "
            'leave it away, neighbours are found anew among the others'
        )
    plain = argparse.Namespace(**{**vars(args), 'normalize': ['none']})
    return Source(catalogue.read(args), catalogue.read(plain).data)


def draw(
    source: Source, seed: int, share: float = 0.2, select: bool = False
) -> Draw:
    """Holds items out.

    Args:
        source: The catalogue.
        seed: Decides the items.
        share: How many of the items to hold out.
        select: Whether to take items to select settings by. They are out of
            the one half of all items, those to report out of the other one,
            with every seed.

    Raises a `ValueError` unless some items are held out, and half of them or
    fewer.
    """
    num_items = source.data['item'].num_nodes
    fixed = torch.Generator().manual_seed(_HALVES)
    halves = torch.randperm(num_items, generator=fixed).tensor_split(2)
    half, count = halves[int(select)], round(num_items * share)
    if not 0 < count <= half.numel():
        raise ValueError(
            f"'share' needs to hold out 1 to {half.numel()} of {num_items} "
            f'items (got {share}, which is {count} items)'
        )
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(half.numel(), generator=generator)
    items = half[order[:count]].sort().values
    is_warm = torch.ones(num_items, dtype=torch.bool)
    is_warm[items] = False
    warm = is_warm.nonzero().view(-1)

    modal_x = model_inputs(source.data)['modal_x']
    features = {
        name: prepare(x, warm, source.shop.inputs['normalize'][name])
        for name, x in modal_x.items()
    }
    inputs = source.shop.inputs
    graph = ModalKNNGraph(inputs['k'], inputs['graph_weights'])
    data = graph(_without(source.data, warm, features))
    shop = Catalogue(source.shop.name, inputs, data, {}, {})
    return Draw(shop, warm, _cold(source.data, items, features), graph)


def prepare(x: Tensor, warm: Tensor, how: str | None) -> Tensor:
    """Normalizes features, with the statistics of the warm items. Rows of
    zeros stay so.

    Args:
        x: Features as they are in the file, `[I, F]`.
        warm: The ids of the warm items.
        how: `'standard'`, `'l2'` or `None`.
    """
    if how == 'l2':
        return F.normalize(x)
    if how is None:
        return x
    there = x.any(dim=1)
    moments = Moments()
    moments.add(x[warm][there[warm]].double().numpy())
    out = torch.zeros_like(x)
    rows = moments.standardize(x[there].numpy())
    out[there] = torch.from_numpy(rows).to(x.dtype)
    return out


def _without(
    data: HeteroData, warm: Tensor, features: Mapping[str, Tensor]
) -> HeteroData:
    out = HeteroData()
    out['user'].num_nodes = data['user'].num_nodes
    out['item'].num_nodes = warm.numel()
    for name, x in features.items():
        out['item'][f'x_{name}'] = x[warm]
    store, kept = data['user', 'buys', 'item'], out['user', 'buys', 'item']
    for name in ('edge_index', 'val_edge_index', 'test_edge_index'):
        kept[name] = _among(store[name], warm)
    return out


def _cold(
    data: HeteroData, items: Tensor, features: Mapping[str, Tensor]
) -> Cold:
    store = data['user', 'buys', 'item']
    names = ('edge_index', 'val_edge_index', 'test_edge_index')
    edges = torch.cat([store[name] for name in names], dim=1)
    rows = {name: x[items] for name, x in features.items()}
    return Cold(items, rows, _among(edges, items))


def _among(edges: Tensor, items: Tensor) -> Tensor:
    # Items in ascending order, so their places are too.
    edges = edges[:, torch.isin(edges[1], items)]
    return torch.stack([edges[0], torch.searchsorted(items, edges[1])])
