"""Seconds per training step of one process, of two threads, of two processes.

python benchmarks/speed/processes.py \\
    --out benchmarks/results/speed_processes.json

Trains `SEA` on a random catalogue of Baby's size with batches of 2048 triplets
and reports medians over steps. The processes of one world share each batch
and the items through gloo and `DistributedDataParallel`; one process does the
same work alone. Efficiency is the time of one process with one thread over
that of all threads in use times their number. Every world is started several
times, in turns.
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from catalogues import SIZES, catalogue
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[1]))
from _record import environment, write_json

from pyg_sea.loader import BPRLoader
from pyg_sea.nn import SEA

# Processes and threads of each.
WORLDS = [(1, 1), (1, 2), (2, 1)]
PHASES = ('forward', 'backward', 'optimizer')


class Step(torch.nn.Module):
    """What DDP wraps: the loss of a batch."""

    def __init__(self, model: SEA, inputs: dict[str, Any]) -> None:
        super().__init__()
        self.model = model
        self.inputs = inputs

    def forward(self, triplets: torch.Tensor) -> torch.Tensor:
        return self.model.loss(**self.inputs, triplets=triplets)[0]


def seconds(
    step: torch.nn.Module, batches: Iterator[torch.Tensor]
) -> Iterator[list[float]]:
    """Those of each phase, step by step."""
    optimizer = torch.optim.Adam(step.parameters(), lr=1e-3, fused=True)
    for triplets in batches:
        times = [time.perf_counter()]
        loss = step(triplets)
        times.append(time.perf_counter())
        loss.backward()
        times.append(time.perf_counter())
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter())
        yield np.diff(times).tolist()


def work(index: int, world: tuple[int, int], folder: str, args: Any) -> None:
    """The main function of a process."""
    processes, threads = world
    torch.set_num_threads(threads)
    size = SIZES[args.size]
    data = catalogue(size)
    torch.manual_seed(0)
    make = {'SEA': SEA, 'SEA.paper': SEA.paper}[args.model]
    model = make(size.num_users, size.num_items, size.channels)
    step: torch.nn.Module = Step(model, data['inputs'])
    if processes > 1:
        store = f'file://{folder}/store'
        dist.init_process_group(
            'gloo', store, rank=index, world_size=processes
        )
        step = DistributedDataParallel(step)

    loader = BPRLoader(
        data['train'], size.num_users, size.num_items, args.batch_size, seed=0
    )
    batches = (batch for _ in iter(int, 1) for batch in loader)
    timer = seconds(step, batches)
    for _ in range(args.warmup):
        next(timer)
    found = [next(timer) for _ in range(args.steps)]
    if index == 0:
        np.save(f'{folder}/seconds.npy', np.array(found))
    if processes > 1:
        # Not destroyed: if gloo's threads have yet to free what belongs to
        # the interpreter, both wait for each other.
        dist.barrier()


def run(world: tuple[int, int], args: argparse.Namespace) -> np.ndarray:
    """Seconds per step and phase in a world that is started anew."""
    with tempfile.TemporaryDirectory() as folder:
        torch.multiprocessing.start_processes(
            work,
            (world, folder, args),
            nprocs=world[0],
            start_method='forkserver',
        )
        return np.load(f'{folder}/seconds.npy', allow_pickle=False)


def summary(worlds: dict[tuple[int, int], np.ndarray]) -> list[dict[str, Any]]:
    alone = float(np.median(worlds[1, 1].sum(axis=1)))
    rows = []
    for (processes, threads), found in worlds.items():
        total = float(np.median(found.sum(axis=1)))
        rows.append(
            {
                'processes': processes,
                'threads': threads,
                'seconds': total,
                **dict(
                    zip(PHASES, np.median(found, axis=0).tolist(), strict=True)
                ),
                'quartiles': np.quantile(
                    found.sum(axis=1), [0.25, 0.75]
                ).tolist(),
                'speedup': alone / total,
                'efficiency': alone / total / (processes * threads),
            }
        )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--size', choices=[*SIZES], default='baby')
    parser.add_argument('--model', choices=['SEA', 'SEA.paper'], default='SEA')
    parser.add_argument('--batch-size', type=int, default=2048)
    parser.add_argument('--steps', type=int, default=20)
    parser.add_argument('--warmup', type=int, default=3)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()

    rounds = [
        {world: run(world, args) for world in WORLDS}
        for _ in range(args.rounds)
    ]
    rows = summary(
        {world: np.concatenate([r[world] for r in rounds]) for world in WORLDS}
    )
    for row in rows:
        print(
            f'{row["processes"]} x {row["threads"]} threads: '
            f'{1000 * row["seconds"]:.1f} ms a step, '
            f'speed-up {row["speedup"]:.2f}, '
            f'efficiency {row["efficiency"]:.0%}'
        )
    if args.out is not None:
        settings = {
            name: getattr(args, name)
            for name in ('size', 'model', 'batch_size', 'steps', 'rounds')
        }
        write_json(args.out, {**environment(), **settings, 'worlds': rows})


if __name__ == '__main__':
    main()
