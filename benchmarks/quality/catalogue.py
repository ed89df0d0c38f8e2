"""The data of a run, from its command line."""

import argparse
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from models.mgcn import normalized
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_sea.datasets import MMRecDataset
from pyg_sea.transforms import ModalKNNGraph, model_inputs, read_knn_graph


class Catalogue(NamedTuple):
    """A catalogue with its item-item graph.

    Args:
        name: Its name.
        inputs: What decides it: files and their hashes, and how they are
            read. Part of the key of a run.
        data: Interactions, features and the item-item graph.
        neighbors: Ready-made neighbours `[2, E]` by modality.
        similarity: Their similarities `[E]`, where the files have them.
    """

    name: str
    inputs: dict[str, Any]
    data: HeteroData
    neighbors: dict[str, Tensor]
    similarity: dict[str, Tensor]

    def item_graphs(self) -> dict[str, tuple[Tensor, Tensor]]:
        """The normalised graph of each modality, edges weighing their cosine:
        that of its features, or that which came with its neighbours.
        """
        out = {}
        for name, x in model_inputs(self.data)['modal_x'].items():
            if name in self.similarity:
                edge_index = self.neighbors[name]
                similarity = self.similarity[name]
            else:
                transform = ModalKNNGraph(
                    self.inputs['k'], {name: 1.0}, neighbors=self.neighbors
                )
                graph = transform(self.data)['item', 'similar', 'item']
                edge_index = graph.edge_index
                unit = F.normalize(x)
                similarity = (unit[edge_index[0]] * unit[edge_index[1]]).sum(1)
            out[name] = normalized(edge_index, similarity, x.size(0))
        return out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        '--data',
        type=Path,
        required=True,
        help='a folder in the MMRec format, or the one above it',
    )
    add('--name', help='that of the .inter file, if there are several')
    add(
        '--modality',
        action='append',
        required=True,
        metavar='NAME=FILE',
        help='a feature file; may be repeated',
    )
    add(
        '--normalize',
        action='append',
        default=[],
        metavar='[NAME=]HOW',
        help="'standard', 'l2' or 'none', for all modalities or for one; "
        "may be repeated (default: 'standard')",
    )
    add('--k', type=int, default=10, help='neighbours per item (default: 10)')
    add(
        '--graph-weight',
        action='append',
        default=[],
        metavar='NAME=WEIGHT',
        help='the weight of a modality in the item-item graph; may be '
        'repeated (default: equal ones)',
    )
    add(
        '--neighbors',
        action='append',
        default=[],
        metavar='NAME=FILE',
        help='a ready-made item-item graph of a modality (.npz); may be '
        'repeated',
    )


def read(args: argparse.Namespace) -> Catalogue:
    """Reads what :func:`add_arguments` asked for."""
    modalities = pairs(args.modality)
    how: dict[str, str | None] = dict.fromkeys(modalities, 'standard')
    for value in args.normalize:
        names = [value.split('=', 1)[0]] if '=' in value else [*modalities]
        value = value.split('=', 1)[-1]
        how |= dict.fromkeys(names, None if value == 'none' else value)
    weights = {m: float(w) for m, w in pairs(args.graph_weight).items()}
    dataset = MMRecDataset(args.data, args.name, modalities, how)

    folder = Path(args.data)
    if not (folder / f'{dataset.name}.inter').is_file():
        folder = folder / dataset.name
    files = pairs(args.neighbors)
    neighbors = {m: read_knn_graph(folder / f) for m, f in files.items()}
    similarity = {}
    for name, file in files.items():
        with np.load(folder / file, allow_pickle=False) as fields:
            if 'cos' in fields:
                similarity[name] = torch.from_numpy(fields['cos']).float()
    inputs = {
        'modalities': modalities,
        'normalize': how,
        'k': args.k,
        'graph_weights': weights or None,
        'neighbors': files,
        'sha256': {
            file: digest(folder / file)
            for file in (
                f'{dataset.name}.inter',
                *modalities.values(),
                *files.values(),
            )
        },
    }
    graph = ModalKNNGraph(args.k, weights or None, neighbors=neighbors)
    data = graph(dataset[0])
    return Catalogue(dataset.name, inputs, data, neighbors, similarity)


def pairs(values: list[str]) -> dict[str, str]:
    """The dictionary in `['NAME=VALUE', ...]`."""
    for value in values:
        if '=' not in value:
            raise ValueError(f"needs NAME=VALUE (got '{value}')")
    return dict(value.split('=', 1) for value in values)


def digest(path: Path) -> str:
    """The first half of the SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
