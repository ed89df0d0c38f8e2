"""Step time and peak memory against the size of the catalogue.

python benchmarks/speed/scale.py --out benchmarks/results/speed_scale.json

Two sweeps, each point in a process of its own: `catalogue` grows users, items
and interactions together (as many users as items, 30 interactions an item);
`edges` adds interactions to 100,000 users and items. Two modalities of 128
random features. Writes a log-log plot beside the result file, and the slope
of a straight line through the logarithms: 1 is linear.
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
from catalogues import Size, catalogue
from torch_geometric import seed_everything

sys.path.insert(0, str(Path(__file__).parents[1]))
from _record import environment, write_json

from pyg_sea.evaluate import evaluate
from pyg_sea.loader import BPRLoader
from pyg_sea.nn import SEA
from pyg_sea.recommend import EmbeddingScorer

CHANNELS = {'image': 128, 'text': 128}
SWEEPS = {
    'catalogue': [
        (7_000, 210_000),
        (20_000, 600_000),
        (70_000, 2_100_000),
        (200_000, 6_000_000),
        (1_000_000, 30_000_000),
    ],
    'edges': [
        (100_000, 100_000),
        (100_000, 1_000_000),
        (100_000, 5_000_000),
        (100_000, 30_000_000),
    ],
    'small': [(500, 5_000), (1_000, 10_000)],
}


def measure(num_items: int, num_edges: int, steps: int) -> dict[str, float]:
    """One point, in this process."""
    size = Size(num_items, num_items, num_edges, CHANNELS)
    data = catalogue(size)
    seed_everything(0)
    model = SEA(size.num_users, size.num_items, size.channels)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    loader = BPRLoader(data['train'], size.num_users, size.num_items, seed=0)
    seconds = []
    for triplets, _ in zip(loader, range(steps + 1)):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss, _ = model.loss(**data['inputs'], triplets=triplets)
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9

    model.eval()
    with torch.no_grad():
        embedding = model.get_embedding(**data['inputs'])
    user, item = embedding.split([size.num_users, size.num_items])
    # 2,000 users: a pass over all of them is U x I for anybody.
    users = data['held_out'][0].unique()[:2000]
    held_out = data['held_out'][:, torch.isin(data['held_out'][0], users)]
    start = time.perf_counter()
    evaluate(EmbeddingScorer(user, item), held_out, data['train'])
    evaluation = time.perf_counter() - start
    return {
        'items': num_items,
        'edges': num_edges,
        'step': float(np.median(seconds[1:])),
        'first step': seconds[0],
        'peak memory': peak,
        'evaluation of 2,000 users': evaluation,
        'peak memory with evaluation': resource.getrusage(
            resource.RUSAGE_SELF
        ).ru_maxrss
        * 1024
        / 1e9,
    }


def slope(x: list[float], y: list[float]) -> float:
    return float(np.polyfit(np.log(x), np.log(y), 1)[0])


def plot(sweeps: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use('Agg')
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(8, 3.2))
    for name, sweep in sweeps.items():
        edges = [point['edges'] for point in sweep['points']]
        for axis, key, unit in (
            (axes[0], 'step', 's'),
            (axes[1], 'peak memory', 'GB'),
        ):
            values = [point[key] for point in sweep['points']]
            label = f'{name} (slope {sweep["slopes"][key]:.2f})'
            axis.loglog(edges, values, 'o-', label=label)
            axis.set(xlabel='train interactions', ylabel=f'{key} [{unit}]')
    for axis in axes:
        axis.grid(True, which='both', alpha=0.2)
        axis.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--sweeps', nargs='+', default=['catalogue', 'edges'])
    parser.add_argument('--steps', type=int, default=3)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--point', nargs=2, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.point:
        print(json.dumps(measure(*args.point, args.steps)))
        return

    sweeps: dict[str, Any] = {}
    for name in args.sweeps:
        points = []
        for point in SWEEPS[name]:
            command = [sys.executable, __file__, '--steps', str(args.steps)]
            command += ['--point', *map(str, point)]
            out = subprocess.run(
                command, stdout=subprocess.PIPE, text=True, check=True
            )
            points.append(json.loads(out.stdout.splitlines()[-1]))
            print(name, points[-1], flush=True)
        edges = [point['edges'] for point in points]
        slopes = {
            key: slope(edges, [point[key] for point in points])
            for key in ('step', 'peak memory')
        }
        sweeps[name] = {'slopes': slopes, 'points': points}
        print(name, slopes, flush=True)
    if args.out is not None:
        threads = torch.get_num_threads()
        write_json(
            args.out, {**environment(), 'threads': threads, 'sweeps': sweeps}
        )
        plot(sweeps, args.out.with_suffix('.png'))


if __name__ == '__main__':
    main()
