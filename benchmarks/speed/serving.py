"""Seconds and memory of recommending to everybody, by the number of users.

python benchmarks/speed/serving.py --out benchmarks/results/speed_serving.json

Rows are random. Each number of users runs in a process of its own: `before`
is what it holds with the recommender made, `peak` the most while all users
stream through `recommend_iter`, each part of the table dropped when the next
one comes.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

sys.path.insert(0, str(Path(__file__).parents[1]))
from _record import environment, write_json

from pyg_sea import Recommender

EDGES_PER_USER = 8


class Rows(torch.nn.Module):
    """A trained model, for what serving asks of it."""

    def __init__(self, num_nodes: int, channels: int) -> None:
        super().__init__()
        self.x = torch.nn.Parameter(torch.randn(num_nodes, channels))

    def get_embedding(self, **_: Any) -> Tensor:
        return self.x


def peak() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_maxrss * 1024 / 1e9


def measure(num_users: int, num_items: int, channels: int) -> dict[str, Any]:
    torch.manual_seed(0)
    data = HeteroData()
    data['user'].num_nodes, data['item'].num_nodes = num_users, num_items
    data['item'].x_text = torch.randn(num_items, 8)
    size = (num_users * EDGES_PER_USER,)
    data['user', 'buys', 'item'].edge_index = torch.stack(
        [torch.randint(num_users, size), torch.randint(num_items, size)]
    )
    model = Rows(num_users + num_items, channels)
    recommender = Recommender.from_model(model, data)
    del model, data
    before, start, rows, firsts = peak(), time.perf_counter(), 0, []
    for part in recommender.recommend_iter(k=20):
        rows += len(part)
        firsts.append(time.perf_counter() - start)
    return {
        'users': num_users,
        'seconds': time.perf_counter() - start,
        'first part after': firsts[0],
        'parts': len(firsts),
        'rows': rows,
        'before': before,
        'peak': peak(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('--users', type=int, nargs='+', default=[10_000, 100_000, 1_000_000])
    add('--items', type=int, default=20_000)
    add('--channels', type=int, default=256)
    add('--out', type=Path)
    add('--one', type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.one, args.items, args.channels)))
        return
    points = []
    for num_users in args.users:
        command = [sys.executable, __file__, '--one', str(num_users)]
        command += ['--items', str(args.items)]
        command += ['--channels', str(args.channels)]
        out = subprocess.run(
            command, stdout=subprocess.PIPE, text=True, check=True
        )
        points.append(json.loads(out.stdout.splitlines()[-1]))
        print(points[-1], flush=True)
    seconds = [point['seconds'] for point in points]
    users = [point['users'] for point in points]
    result = {
        **environment(),
        'threads': torch.get_num_threads(),
        'items': args.items,
        'channels': args.channels,
        'k': 20,
        'seed': 0,
        'slope of seconds': float(
            np.polyfit(np.log(users), np.log(seconds), 1)[0]
        ),
        'points': points,
    }
    if args.out is not None:
        write_json(args.out, result)


if __name__ == '__main__':
    main()
