"""Steps, epochs and evaluation on a GPU, beside what its figures allow.

python benchmarks/speed/gpu.py baby --out benchmarks/results/speed_gpu.json

A variant of `SEA` as it comes is `fp32`, or some of `tf32`, `bf16` (autocast
of the loss, features held in it), `compile` (`torch.compile` of the loss) and
`graph` (the whole step as one CUDA graph), joined by `+`; each runs in a
process of its own. Reports seconds of an epoch with its sampling, waited for
once at its end, of the median step and of an evaluation, peak memory, the
lines that made the host wait for the device, and the calls of the CUDA
runtime. `bound` is the time that operations and bytes, counted part by part
with nothing kept in the cache in between, take at the published figures of
one H200.

`--recall "$PYG_SEA_DATA/lfm2k" --modality text=all-MiniLM-L6-v2.npy
--modality audio=vggish.npy --modality speech=whisper.npy` trains with each
precision as well, and reports validation Recall@20. `--device cpu --size
small` exercises what needs no GPU.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bound import BANDWIDTH, PEAK, bound
from catalogues import SIZES, Size, catalogue
from on_device import (
    all_waits,
    elapsed,
    epoch,
    first_wait,
    runtime_calls,
    wait,
)
from precision import recall
from torch import Tensor
from torch_geometric import seed_everything

sys.path.insert(0, str(Path(__file__).parents[1]))
from _record import environment, write_json

from pyg_sea.evaluate import evaluate
from pyg_sea.loader import BPRLoader
from pyg_sea.nn import SEA
from pyg_sea.recommend import EmbeddingScorer

VARIANTS = {
    'cpu': ['fp32', 'bf16'],
    'cuda': [
        *('fp32', 'tf32', 'bf16', 'compile', 'graph'),
        *('tf32+graph', 'bf16+graph'),
    ],
}
FLAGS = {'fp32', 'tf32', 'bf16', 'compile', 'graph'}
# Seconds on one H200 at Baby's size.
GOAL = {'epoch': 0.3, 'evaluation': 0.05}


class Step:
    """Changes the weights; returns the loss, which stays on the device."""

    def __init__(
        self, model: SEA, inputs: dict[str, Any], flags: list[str]
    ) -> None:
        self.inputs, self.bf16 = inputs, 'bf16' in flags
        compiled = 'compile' in flags
        self.loss = torch.compile(model.loss) if compiled else model.loss
        self.optimizer = torch.optim.Adam(
            model.parameters(), 1e-3, fused=True, capturable='graph' in flags
        )

    def __call__(self, triplets: Tensor) -> Tensor:
        self.optimizer.zero_grad()
        device = triplets.device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.bf16):
            loss, _ = self.loss(**self.inputs, triplets=triplets)
        loss.backward()
        self.optimizer.step()
        return loss.detach()


class GraphStep:
    """A step recorded as a CUDA graph, replayed for batches of one size."""

    def __init__(self, step: Step, triplets: Tensor) -> None:
        self.step, self.triplets = step, triplets.clone()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3):
                step(self.triplets)
        torch.cuda.current_stream().wait_stream(stream)
        # Else the gradients would not lie in the memory of the graph.
        step.optimizer.zero_grad()
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.loss = step(self.triplets)

    def __call__(self, triplets: Tensor) -> Tensor:
        if triplets.shape != self.triplets.shape:  # The last batch.
            return self.step(triplets)
        self.triplets.copy_(triplets)
        self.graph.replay()
        return self.loss


def evaluation(
    model: SEA, data: dict[str, Any], inputs: dict[str, Any], bf16: bool
) -> dict[str, float]:
    device = data['train'].device.type
    model.eval()
    with (
        torch.no_grad(),
        torch.autocast(device, torch.bfloat16, enabled=bf16),
    ):
        out = model.get_embedding(**inputs).float()
    model.train()
    scorer = EmbeddingScorer(*out.split([model.num_users, model.num_items]))
    return evaluate(scorer, data['held_out'], data['train'])


def measure(
    variant: str, size: Size, device: str, rounds: int
) -> dict[str, Any]:
    """One variant, in this process."""
    flags = variant.split('+')
    if 'tf32' in flags:
        torch.set_float32_matmul_precision('high')
    data = catalogue(size, device=device)
    inputs = data['inputs']
    if 'bf16' in flags:
        inputs = inputs | {
            'modal_x': {m: x.bfloat16() for m, x in inputs['modal_x'].items()}
        }
    seed_everything(0)
    model = SEA(size.num_users, size.num_items, size.channels).to(device)
    loader = BPRLoader(data['train'], size.num_users, size.num_items, seed=0)
    step: Any = Step(model, inputs, flags)
    epoch(step, loader, device)  # Compiles, and converts the graphs.
    if 'graph' in flags:
        step = GraphStep(step, next(iter(loader)))

    def train() -> tuple[Tensor, list[Any]]:
        return epoch(step, loader, device)

    def test() -> dict[str, float]:
        return evaluation(model, data, inputs, 'bf16' in flags)

    test()
    row: dict[str, Any] = {
        'epoch waits at': first_wait(train, device),
        'evaluation waits at': all_waits(test, device),
        'runtime calls of an epoch': runtime_calls(train),
    }
    epochs, steps, evaluations = [], [], []
    for _ in range(rounds):
        wait(device)
        start = time.perf_counter()
        loss, marks = train()
        wait(device)
        epochs.append(time.perf_counter() - start)
        steps += [elapsed(*pair) for pair in pairwise(marks)]
        start = time.perf_counter()
        test()  # Its result is on the host.
        evaluations.append(time.perf_counter() - start)
    kind = next((f for f in ('bf16', 'tf32') if f in flags), 'fp32')
    seconds = {
        'step': float(np.median(steps)),
        'epoch': float(np.median(epochs)),
        'evaluation': float(np.median(evaluations)),
    }
    least = bound(model, data, loader, kind)
    return row | {
        **seconds,
        'loss': float(loss) / len(loader),
        'peak memory': peak_memory(device),
        'bound': least,
        'times the bound': {
            name: value / least[name] for name, value in seconds.items()
        },
    }


def peak_memory(device: str) -> float:
    """GB; of the whole process on CPU."""
    if device != 'cpu':
        return torch.cuda.max_memory_allocated() / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def in_new_process(variant: str, args: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, __file__, args.size, '--device', args.device]
    command += ['--rounds', str(args.rounds), '--one', variant]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        # Messages, without the traceback.
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        return {'failed': [line for line in lines if line[0] != ' '][-5:]}
    return json.loads(done.stdout.splitlines()[-1])


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add('name', metavar='size', nargs='?', choices=SIZES)
    add('--size', choices=SIZES, default='baby')
    add('--device', choices=VARIANTS, default='cuda')
    add('--variants', nargs='*', help='default: all that the device has')
    add('--rounds', type=int, default=5)
    add('--recall', type=Path, metavar='DATA_DIR')
    add('--modality', action='append', default=[], metavar='NAME=FILE')
    add('--seeds', type=int, default=5)
    add('--epochs', type=int, default=1000)
    add('--out', type=Path)
    add('--one', metavar='VARIANT', help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.size = args.name or args.size
    if args.variants is None:
        args.variants = VARIANTS[args.device]
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('--device cuda needs a GPU (got none): try --device cpu')
    for variant in args.variants:
        flags = set(variant.split('+'))
        if not flags <= FLAGS:
            parser.error(
                f'--variants needs {sorted(FLAGS)}, joined by + (got '
                f'{variant!r})'
            )
        if args.device == 'cpu' and flags & {'graph', 'tf32'}:
            parser.error(f'{variant!r} needs --device cuda')
    return args


def main() -> None:
    args = arguments()
    size = SIZES[args.size]
    if args.one:
        row = measure(args.one, size, args.device, args.rounds)
        print(json.dumps(row))
        return

    cuda = args.device == 'cuda'
    result = {
        **environment(),
        'threads': torch.get_num_threads(),
        'device': torch.cuda.get_device_name() if cuda else 'cpu',
        'cuda': torch.version.cuda,
        'size': args.size,
        **size._asdict(),
        'batch_size': 2048,
        'rounds': args.rounds,
        'goal': GOAL,
        'peak': PEAK,
        'bandwidth': BANDWIDTH,
        'variants': {},
    }
    for variant in args.variants:
        result['variants'][variant] = row = in_new_process(variant, args)
        shown = {k: v for k, v in row.items() if k != 'bound'}
        print(variant, json.dumps(shown, indent=1), flush=True)
    if args.recall:
        result['recall'] = recall(args)
        print(json.dumps(result['recall'], indent=1))
    if args.out is not None:
        write_json(args.out, result)
    sys.exit(any('failed' in row for row in result['variants'].values()))


if __name__ == '__main__':
    main()
