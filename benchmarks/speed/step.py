"""Steps of the released arithmetic and of ours, in turns in one process.

python benchmarks/speed/step.py baby --out benchmarks/results/speed_baby.json

Contestants, on the same tensors: (a) the literal released step, (b)
`ReleasedSEA`, (c) `SEA.paper`, (d) `SEA` as it comes, (e) the same under
bfloat16 autocast. Reports medians in
seconds of forward, backward, estimator and optimiser, of the sampling of an
epoch and of one evaluation, ratios to (a), and peak memory in GB, each in a
process of its own. Features, interactions and neighbours are random, of the
published sizes.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from catalogues import SIZES, Size, catalogue
from literal import LiteralStep, sample
from literal import evaluate as literal_evaluate
from torch_geometric import seed_everything

sys.path.insert(0, str(Path(__file__).parents[1]))
from _record import environment, write_json

from pyg_sea.evaluate import evaluate
from pyg_sea.loader import BPRLoader
from pyg_sea.nn import SEA, CLUBLoss, ReleasedSEA
from pyg_sea.recommend import EmbeddingScorer

NAMES = {
    'literal': '(a) released arithmetic',
    'released': '(b) `ReleasedSEA`',
    'paper': '(c) `SEA.paper`',
    'sea': '(d) `SEA`',
    'bf16': '(e) `SEA`, bfloat16 autocast',
}
PHASES = ('forward', 'backward', 'estimator', 'optimizer')


class Clock:
    """Seconds per phase of one step."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PHASES, 0.0)

    @contextmanager
    def __call__(self, phase: str) -> Any:
        start = time.perf_counter()
        yield
        self.seconds[phase] += time.perf_counter() - start


class Literal:
    def __init__(self, size: Size, inputs: dict[str, Any]) -> None:
        model = ReleasedSEA(size.num_users, size.num_items, size.channels)
        self.step = LiteralStep(model, inputs)

    def __call__(self, triplets: torch.Tensor) -> Clock:
        clock = Clock()
        with clock('forward'):
            loss = self.step.forward(triplets)
        with clock('backward'):
            loss.backward()
        with clock('estimator'):
            self.step.fit_estimator()
        with clock('optimizer'):
            self.step.update()
        return clock

    def embedding(self) -> torch.Tensor:
        return self.step.embedding.detach()


class Ours:
    def __init__(
        self,
        model: Any,
        inputs: dict[str, Any],
        lr: float,
        autocast: bool = False,
    ) -> None:
        self.model, self.inputs = model, inputs
        self.autocast = autocast
        self.optimizer = torch.optim.Adam(
            model.parameters(), lr=lr, fused=True
        )
        self.clock = Clock()
        for module in model.modules():
            if isinstance(module, CLUBLoss):
                module.fit = self.timed(module.fit)  # type: ignore

    def timed(self, fit: Callable[..., None]) -> Callable[..., None]:
        def timed_fit(*args: Any) -> None:
            with self.clock('estimator'):
                fit(*args)

        return timed_fit

    def __call__(self, triplets: torch.Tensor) -> Clock:
        self.clock = clock = Clock()
        precision = torch.autocast(
            'cpu', torch.bfloat16, enabled=self.autocast
        )
        with clock('forward'), precision:
            loss, _ = self.model.loss(**self.inputs, triplets=triplets)
        # The estimators of `SEA` are fitted in the forward pass.
        clock.seconds['forward'] -= clock.seconds['estimator']
        with clock('backward'):
            loss.backward()
        if hasattr(self.model, 'after_backward'):
            with clock('estimator'):
                self.model.after_backward()
        with clock('optimizer'):
            self.optimizer.step()
            self.optimizer.zero_grad()
        return clock

    @torch.no_grad()
    def embedding(self) -> torch.Tensor:
        self.model.eval()
        out = self.model.get_embedding(**self.inputs)
        self.model.train()
        return out


def contestant(name: str, size: Size, inputs: dict[str, Any]) -> Any:
    seed_everything(0)
    args = (size.num_users, size.num_items, size.channels)
    if name == 'literal':
        return Literal(size, inputs)
    if name == 'released':
        return Ours(ReleasedSEA(*args), inputs, lr=1e-4)
    if name == 'paper':
        return Ours(SEA.paper(*args), inputs, lr=1e-4)
    return Ours(SEA(*args), inputs, lr=1e-3, autocast=name == 'bf16')


def median(values: list[float]) -> float:
    return float(np.median(values))


def measure_steps(
    size: Size, data: dict[str, Any], names: list[str], rounds: int
) -> dict[str, dict[str, float]]:
    loader = BPRLoader(data['train'], size.num_users, size.num_items, seed=0)
    triplets = next(iter(loader))
    steps = {name: contestant(name, size, data['inputs']) for name in names}
    clocks: dict[str, list[Clock]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            clock = step(triplets)
            if turn > 0:  # The first one allocates.
                clocks[name].append(clock)
    out = {}
    for name, runs in clocks.items():
        out[name] = {
            phase: median([run.seconds[phase] for run in runs])
            for phase in PHASES
        }
        totals = [sum(run.seconds.values()) for run in runs]
        out[name]['step'] = median(totals)
        out[name]['fastest'], out[name]['slowest'] = min(totals), max(totals)
    return out


def measure_passes(
    size: Size, data: dict[str, Any], names: list[str], rounds: int
) -> dict[str, list[float]]:
    """Sampling an epoch and evaluating once, the released way and ours."""
    train, held_out = data['train'], data['held_out']
    generator = torch.Generator().manual_seed(1)
    user = torch.randn(size.num_users, 128, generator=generator)
    item = torch.randn(size.num_items, 128, generator=generator)
    loader = BPRLoader(train, size.num_users, size.num_items, seed=0)
    scorer = EmbeddingScorer(user, item)
    passes: dict[str, Callable[[], Any]] = {
        'sampling': lambda: list(loader),
        'evaluation': lambda: evaluate(scorer, held_out, train),
    }
    if 'literal' in names:
        passes |= {
            'literal sampling': lambda: list(
                sample(train, size.num_users, loader.batch_size)
            ),
            'literal evaluation': lambda: literal_evaluate(
                user, item, held_out, train
            ),
        }
    seconds: dict[str, list[float]] = {name: [] for name in passes}
    for _ in range(rounds):
        for name, run in passes.items():
            start = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - start)
    return {name: median(values) for name, values in seconds.items()}


def full_width_map(size: Size, rounds: int) -> float:
    """Seconds of the widest map, there and back: what this machine can do.

    At Baby's size 2.29 s on the machine on which the released step took 4.77.
    """
    width = max(size.channels.values())
    x = torch.randn(size.num_items, width)
    linear = torch.nn.Linear(width, width)
    grad = torch.ones(size.num_items, width)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        linear(x).backward(grad)
        seconds.append(time.perf_counter() - start)
    return median(seconds)


def peak_memory(name: str, size: Size) -> tuple[float, float]:
    """GB that a process holds before and at most in two steps; call it in a
    new one.
    """
    data = catalogue(size)
    step = contestant(name, size, data['inputs'])
    loader = BPRLoader(data['train'], size.num_users, size.num_items, seed=0)
    triplets = next(iter(loader))
    with open('/proc/self/statm') as file:
        before = int(file.read().split()[1]) * resource.getpagesize()
    for _ in range(2):
        step(triplets)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return before / 1e9, peak / 1e9


def in_new_process(name: str, size: str) -> list[float]:
    command = [sys.executable, __file__, size, '--memory', name]
    out = subprocess.run(command, capture_output=True, text=True, check=True)
    return [float(value) for value in out.stdout.split()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('size', choices=SIZES)
    parser.add_argument('--models', nargs='+', default=list(NAMES))
    parser.add_argument('--rounds', type=int, default=7)
    parser.add_argument('--out', type=Path)
    parser.add_argument('--memory', metavar='NAME', help=argparse.SUPPRESS)
    args = parser.parse_args()
    size = SIZES[args.size]
    if args.memory:
        print(*peak_memory(args.memory, size))
        return

    memory = {name: in_new_process(name, args.size) for name in args.models}
    data = catalogue(size)
    steps = measure_steps(size, data, args.models, args.rounds)
    passes = measure_passes(size, data, args.models, args.rounds)
    for name, row in steps.items():
        row['memory before'], row['peak memory'] = memory[name]
        if 'literal' in steps:
            row['times faster'] = steps['literal']['step'] / row['step']
    result = {
        **environment(),
        'threads': torch.get_num_threads(),
        'size': args.size,
        **size._asdict(),
        'batch_size': 2048,
        'rounds': args.rounds,
        'full-width map': full_width_map(size, 3),
        'steps': steps,
        'passes': passes,
    }
    print(json.dumps(result, indent=1))
    if args.out is not None:
        write_json(args.out, result)


if __name__ == '__main__':
    main()
