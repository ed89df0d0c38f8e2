"""Seconds, memory and recall of the graph of similar items, by size.

python benchmarks/speed/neighbors.py --sizes 10000 100000 1000000 \\
    --out benchmarks/results/speed_neighbors.json

Features are random: clusters of 100 items on average, in a few dimensions,
mapped to many, and noise. Each size runs in a process of its own, so that its
peak memory, features and graph included, is its own. Recall is the share of
the ten best others of 1,000 items that are their neighbours in the graph, by
a product with all rows in double precision; `reported` is what the transform
says.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import normalize
from torch_geometric.data import HeteroData

sys.path.insert(0, str(Path(__file__).parents[1]))
from _record import environment, write_json

from pyg_sea.transforms import ModalKNNGraph

LATENT = 32


def features(num_items: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)

    def normal(*size: int) -> Tensor:
        return torch.randn(size, generator=generator)

    centre = normal(max(1, num_items // 100), LATENT)
    cluster = torch.randint(len(centre), (num_items,), generator=generator)
    weight = normal(LATENT, width) / LATENT**0.5
    out = torch.empty(num_items, width)
    for rows in torch.arange(num_items).split(65_536):
        z = centre[cluster[rows]] + 0.5 * normal(len(rows), LATENT)
        out[rows] = torch.tanh(z @ weight) + 0.3 * normal(len(rows), width)
    return out


def recall_of(edge_index: Tensor, x: Tensor, k: int) -> float:
    """Recall at `k` on a sample that the transform did not see."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randperm(len(x), generator=generator)[:1000]
    query = normalize(x[rows].double())
    score = query.new_full((len(rows), k), -2)
    true = torch.full_like(score, -1, dtype=torch.long)
    for block in torch.arange(len(x)).split(8192):
        part = query @ normalize(x[block].double()).t()
        part[rows.unsqueeze(1) == block] = -2
        both = torch.cat([score, part], dim=1)
        score, best = both.topk(k)
        true = torch.cat([true, block.expand(len(rows), -1)], 1).gather(
            1, best
        )
    # Edges are sorted by item, and all items have as many.
    neighbors = edge_index[0].view(len(x), -1)[rows]
    hit = (true.unsqueeze(2) == neighbors.unsqueeze(1)).any(dim=2)
    return float(hit.double().mean())


def memory() -> float:
    """The most that this process has held, in GB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak * 1024 / 1e9, 3)


def measure(num_items: int, width: int, k: int, backend: Any) -> dict:
    data = HeteroData()
    data['user'].num_nodes = 1
    data['item'].num_nodes = num_items
    data['item'].x_image = features(num_items, width)
    before = memory()
    transform = ModalKNNGraph(k, include_self=False, backend=backend)
    start = time.perf_counter()
    with warnings.catch_warnings(record=True) as record:
        warnings.simplefilter('always')
        graph = transform(data)['item', 'similar', 'item']
    seconds = time.perf_counter() - start
    after = memory()
    return {
        'items': num_items,
        'seconds': round(seconds, 2),
        'peak memory in GB': after,
        'with features only': before,
        'recall': recall_of(graph.edge_index, data['item'].x_image, k),
        'reported': transform.recall_['image'],
        'warnings': [str(warning.message) for warning in record],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--sizes', type=int, nargs='+', default=[10_000, 100_000, 1_000_000]
    )
    parser.add_argument('--width', type=int, default=128)
    parser.add_argument('--k', type=int, default=10)
    parser.add_argument(
        '--backend', choices=['auto', 'faiss', 'torch'], default='auto'
    )
    parser.add_argument('--out', type=Path)
    parser.add_argument('--here', action='store_true', help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.here:
        run = measure(args.sizes[0], args.width, args.k, args.backend)
        print(json.dumps(run))
        return

    result = {
        **environment(),
        'threads': torch.get_num_threads(),
        'width': args.width,
        'k': args.k,
        'backend': args.backend,
        'runs': [],
    }
    options = ['--width', args.width, '--k', args.k, '--backend', args.backend]
    for size in args.sizes:
        command = [sys.executable, __file__, '--here', '--sizes', size]
        done = subprocess.run(
            [str(part) for part in [*command, *options]],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        result['runs'].append(json.loads(done.stdout))
        print(result['runs'][-1], flush=True)
        if args.out is not None:
            write_json(args.out, result)


if __name__ == '__main__':
    main()
