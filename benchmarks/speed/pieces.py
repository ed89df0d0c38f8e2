"""What each idea gains by itself, and where the rest of a step goes.

python benchmarks/speed/pieces.py --out benchmarks/results/speed_pieces.json

Pairs of ways to compute the same thing, in turns, at Baby's size on random
data: medians of forward and backward together, in milliseconds. Then a
profile of one step of `SEA`: the operations that take the most time of their
own.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from catalogues import SIZES, Size, catalogue
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch_geometric.nn import LGConv
from torch_geometric.utils import to_torch_csr_tensor

sys.path.insert(0, str(Path(__file__).parents[1]))
from _record import environment, write_json

from pyg_sea.loader import BPRLoader
from pyg_sea.nn import (
    SEA,
    BPRLoss,
    CLUBLoss,
    SampledSoftmaxLoss,
    SoloSimLoss,
)
from pyg_sea.nn.adjacency import AdjacencyCache
from pyg_sea.nn.hop_sum import hop_sum
from pyg_sea.nn.loss.rival_cross_entropy import rival_cross_entropy
from pyg_sea.nn.propagate_blocks import propagate_blocks
from pyg_sea.nn.unit_rows import unit_rows

Piece = Callable[[], Tensor]


def rows(*shape: int) -> Tensor:
    return torch.randn(*shape, requires_grad=True)


def propagation(size: Size, data: dict[str, Any]) -> dict[str, Piece]:
    """Two hops of 128 channels."""
    num_nodes = size.num_users + size.num_items
    cache = AdjacencyCache(normalize=True)
    edge_index = data['inputs']['edge_index']
    adj, _ = cache(edge_index, None, num_nodes, torch.float)
    adj_t = cache.transposed(adj)
    index = torch.stack(
        [
            torch.arange(num_nodes).repeat_interleave(
                adj.crow_indices().diff().long()
            ),
            adj.col_indices().long(),
        ]
    )
    csr = to_torch_csr_tensor(index, adj.values(), size=adj.shape)
    x = rows(num_nodes, 128)
    scattered, sparse = LGConv(), LGConv(normalize=False)

    def hops(conv: LGConv, graph: Tensor) -> Tensor:
        once = conv(x, graph)
        return x + once + conv(once, graph)

    return {
        'degrees and scatter in every step': lambda: hops(
            scattered, edge_index
        ),
        'CSR through MessagePassing': lambda: hops(sparse, csr),
        'hop_sum': lambda: hop_sum(x, adj, adj_t, 2),
    }


def blocks(size: Size, data: dict[str, Any]) -> dict[str, Piece]:
    """Two modalities and items' own vectors, two hops, a batch of users."""
    widths = (64, 64, 128)
    users = [rows(size.num_users, width) for width in widths]
    items = [rows(size.num_items, width) for width in widths]
    index = torch.randint(size.num_users, (2048,))
    num_nodes = size.num_users + size.num_items
    cache = AdjacencyCache(normalize=True)
    adj, _ = cache(data['inputs']['edge_index'], None, num_nodes, torch.float)
    adj_t = cache.transposed(adj)

    def composed() -> Tensor:
        parts = [unit_rows(torch.cat(pair)) for pair in zip(users, items)]
        h = hop_sum(torch.cat(parts, dim=1), adj, adj_t, 2)
        x_user, x_item = h.split([size.num_users, size.num_items])
        return torch.cat([x_user.index_select(0, index), x_item])

    return {
        'unit_rows, cat, hop_sum, index_select': composed,
        'propagate_blocks': lambda: torch.cat(
            propagate_blocks(users, items, adj, adj_t, 2, index)
        ),
    }


def rivals(size: Size) -> dict[str, Piece]:
    """2,048 positives against 1,024 drawn rows of 256 channels."""
    x, y = rows(2048, 256), rows(1024, 256)
    positive = torch.randn(2048, requires_grad=True)
    x_ids = torch.randint(size.num_items, (2048,))
    y_ids = torch.randint(size.num_items, (1024,))
    scale = size.num_items / 1024

    def written() -> Tensor:
        others = x @ y.t() / 16
        same = y_ids == x_ids.unsqueeze(-1)
        others = others.masked_fill(same, -math.inf).logsumexp(dim=-1)
        others = others + math.log(scale)
        return (torch.logaddexp(positive, others) - positive).mean()

    return {
        'by autograd': written,
        'rival_cross_entropy': lambda: rival_cross_entropy(
            positive, x / 16, y, x_ids, y_ids, scale, 2048
        ),
    }


def pieces(size: Size, data: dict[str, Any]) -> dict[str, dict[str, Piece]]:
    x = rows(size.num_users + size.num_items, 2, 64)
    a, b = rows(size.num_items, 32), rows(size.num_items, 32)
    paper = CLUBLoss(32, 32, 'mlp', num_steps=50, lr=1e-4)
    linear = CLUBLoss(32, 32)
    solo = {
        name: SoloSimLoss(num_anchors=2048, chunk_size=chunk_size)
        for name, chunk_size in (('at once', None), ('in chunks', 'auto'))
    }
    users, items = rows(2048, 128), rows(size.num_items, 128)
    chosen = torch.randint(size.num_items, (2048,))
    other = torch.randint(size.num_items, (2048,))
    softmax, bpr = SampledSoftmaxLoss(), BPRLoss()

    def score(index: Tensor) -> Tensor:
        return (users * items.index_select(0, index)).sum(dim=-1)

    return {
        'propagation': propagation(size, data),
        'propagation of a step': blocks(size, data),
        'rows of unit length': {
            'F.normalize': lambda: F.normalize(x, dim=-1),
            'unit_rows': lambda: unit_rows(x),
        },
        'estimator of one modality': {
            '50 steps of Adam': lambda: paper(a, b),
            'closed form': lambda: linear(a, b),
        },
        '2,048 anchors against all items': {
            name: lambda loss=loss: loss(a, b) for name, loss in solo.items()
        },
        '2,048 positives against 1,024 rivals': rivals(size),
        'ranking loss of a batch': {
            'BPR, one negative': lambda: bpr(score(chosen), score(other)),
            'softmax, 1,024 negatives': lambda: softmax(users, items, chosen),
        },
    }


def milliseconds(ways: dict[str, Piece], rounds: int) -> dict[str, float]:
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            out = way()
            out.backward(torch.ones_like(out))
            seconds[name].append(time.perf_counter() - start)
    return {
        name: 1000 * float(np.median(values[1:]))
        for name, values in seconds.items()
    }


def step_profile(
    size: Size, data: dict[str, Any], steps: int = 5
) -> list[dict[str, Any]]:
    """Operations of a step by the share of time they take themselves."""
    model = SEA(size.num_users, size.num_items, size.channels)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    loader = BPRLoader(data['train'], size.num_users, size.num_items, seed=0)

    def step(triplets: Tensor) -> None:
        optimizer.zero_grad()
        loss, _ = model.loss(**data['inputs'], triplets=triplets)
        loss.backward()
        optimizer.step()

    batches = list(loader)[: steps + 2]
    for triplets in batches[:2]:
        step(triplets)
    with profile(
        activities=[ProfilerActivity.CPU], record_shapes=True
    ) as record:
        for triplets in batches[2:]:
            step(triplets)
    averages = record.key_averages(group_by_input_shape=True)
    total = sum(row.self_cpu_time_total for row in averages)
    averages = sorted(averages, key=lambda row: -row.self_cpu_time_total)
    return [
        {
            'operation': row.key,
            'shapes': [shape for shape in row.input_shapes if shape],
            'calls': row.count // steps,
            'share': row.self_cpu_time_total / total,
        }
        for row in averages[:14]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--size', choices=SIZES, default='baby')
    parser.add_argument('--rounds', type=int, default=9)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    size = SIZES[args.size]
    torch.manual_seed(0)
    data = catalogue(size)
    result = {
        **environment(),
        'threads': torch.get_num_threads(),
        'size': args.size,
        'milliseconds': {
            name: milliseconds(ways, args.rounds)
            for name, ways in pieces(size, data).items()
        },
        'profile': step_profile(size, data),
    }
    print(json.dumps(result, indent=1))
    if args.out is not None:
        write_json(args.out, result)


if __name__ == '__main__':
    main()
