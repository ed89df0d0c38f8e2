"""Steps, epochs and evaluation on a GPU, beside the least time they can take.

python benchmarks/speed/gpu.py baby --out benchmarks/results/speed_gpu.json

A variant of `SEA` as it comes is `fp32`, or some of `tf32`, `bf16` (autocast
of the loss, features held in it), `compile` (`torch.compile` of the loss) and
`graph` (the whole step as one CUDA graph), joined by `+`; each runs in a
process of its own. Reports seconds of an epoch with its sampling, waited for
once at its end, of the median step and of an evaluation, peak memory, the
lines that made the host wait for the device, and the calls of the CUDA
runtime. `bound` is what operations and bytes, counted part by part, take at
the published figures of one H200. With `--recall "$PYG_SEA_DATA/lfm2k"
--modality text=all-MiniLM-L6-v2.npy --modality audio=vggish.npy
--modality speech=whisper.npy` trains with each precision as well, and reports
validation Recall@20. `--device cpu --size small` exercises all of it.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import combinations, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from catalogues import SIZES, Size, catalogue
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
# Of one H200 SXM, dense: operations per second, bytes per second.
PEAK = {'fp64': 67e12, 'fp32': 67e12, 'tf32': 494e12, 'bf16': 989e12}
BANDWIDTH = 4.8e12
# Seconds on one H200 at Baby's size.
GOAL = {'epoch': 0.3, 'evaluation': 0.05}


class Part(NamedTuple):
    flops: float
    bytes: float
    precision: str = 'fp32'

    def seconds(self) -> float:
        return max(self.flops / PEAK[self.precision], self.bytes / BANDWIDTH)


def product(
    n: int, a: int, b: int, passes: int, kind: str, result: bool = True
) -> Part:
    """[n, a] times [a, b], as often forward and backward as there are passes,
    each of which moves both operands, and the result unless it can be used up
    where it is made.
    """
    moved = n * a + a * b + result * n * b
    word = 2 if kind == 'bf16' else 4
    return Part(passes * 2 * n * a * b, passes * moved * word, kind)


def hops(rows: int, entries: int, width: int, times: int) -> Part:
    """Products with a sparse matrix that are added to other rows."""
    moved = 3 * rows * width * 4 + entries * 8 + rows * 4
    return Part(times * 2 * entries * width, times * moved)


def parts(
    model: SEA, edges: int, item_edges: int, batch: int, kind: str
) -> dict[str, Part]:
    """The least that a step of `SEA` with softmax and linear CLUB computes
    and moves: forward, and backward once for every operand with a gradient.
    """
    num_items, D = model.num_items, model.encoder.out_channels
    num_nodes = model.num_users + num_items
    width = D * len(model.modalities)
    out = {}
    for name, conv in zip(model.modalities, model.encoder.convs.values()):
        sizes = [conv.in_channels, conv.hidden_channels, D]
        sizes = [size for size in sizes if size > 0]
        for i, (a, b) in enumerate(pairwise(sizes)):
            # Features have no gradient.
            out[f'encode/{name}/{i}'] = product(
                num_items, a, b, 3 if i > 0 else 2, kind
            )
    K = model.encoder.K
    out['propagate'] = hops(num_nodes, 2 * edges, width, 2 * K)
    out['similar items'] = hops(num_items, item_edges, width, 2)
    # Forward a row is read and written, backward two are read, one written.
    out['unit rows'] = Part(0, 5 * num_nodes * width * 4)
    drawn = min(model.rank.num_negatives or num_items, num_items)
    out['rank'] = product(batch, width, drawn, 3, kind, False)

    parts = model.separate.splits.values()
    generic = next(iter(parts)).generic_channels
    anchors = min(model.separate.align.num_anchors or num_items, num_items)
    for a, b in combinations(model.modalities, 2):
        out[f'align/{b}-{a}'] = product(
            anchors, generic, num_items, 3, kind, False
        )
    for name, part in zip(model.modalities, parts):
        g, u = part.generic_channels, part.unique_channels
        # Covariances and residuals; mean, and its gradient.
        flops = 2 * num_items * g * (g + 2 * u), 2 * 2 * num_items * g * u
        moved = num_items * (g + u) * 4
        out[f'fit/{name}'] = Part(flops[0], 2 * moved, 'fp64')
        out[f'distance/{name}'] = Part(flops[1], 3 * moved)
    # Adam reads weight, gradient and two moments, and writes all but one.
    weights = sum(p.numel() for p in model.parameters())
    out['optimizer'] = Part(0, 7 * 4 * weights)
    return out


def bound(
    model: SEA, data: dict[str, Any], loader: BPRLoader, kind: str
) -> dict[str, Any]:
    """Seconds that an H200 needs at least: sums over parts of the longer of
    computing and moving.
    """
    edges = data['train'].size(1)
    item_edges = data['inputs']['item_edge_index'].size(1)
    step = parts(model, edges, item_edges, loader.batch_size, kind)
    total = sum(part.seconds() for part in step.values())
    users = data['held_out'][0].unique().numel()
    width = model.encoder.out_channels * len(model.modalities)
    # Scores, made and looked at; of the forward pass a third of its products.
    scores = product(users, width, model.num_items, 1, kind, False)
    scores = Part(scores.flops, scores.bytes + 8 * users * model.num_items)
    forward = [part for name, part in step.items() if name[:6] == 'encode']
    forward = [Part(p.flops / 3, p.bytes / 3, p.precision) for p in forward]
    return {
        'parts': {
            name: {**part._asdict(), 'seconds': part.seconds()}
            for name, part in step.items()
        },
        'flops of a step': sum(part.flops for part in step.values()),
        'bytes of a step': sum(part.bytes for part in step.values()),
        'step': total,
        'epoch': total * loader.edge_index.size(1) / loader.batch_size,
        'evaluation': sum(part.seconds() for part in [scores, *forward]),
    }


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


def mark(device: str) -> Any:
    """A point in time, that of the device, which is not waited for."""
    if device == 'cpu':
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def elapsed(start: Any, end: Any) -> float:
    if isinstance(start, float):
        return end - start
    return start.elapsed_time(end) / 1000


def epoch(
    step: Callable[[Tensor], Tensor], loader: Iterable[Tensor], device: str
) -> tuple[Tensor, list[Any]]:
    """The sum of the losses, and the points in time between steps."""
    total, marks = torch.zeros((), device=device), [mark(device)]
    for triplets in loader:
        total += step(triplets)
        marks.append(mark(device))
    return total, marks


def wait(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize()


def first_wait(run: Callable[[], Any], device: str) -> str | None:
    """The first line at which `run` waits for the device."""
    if device == 'cpu':
        return None
    torch.cuda.set_sync_debug_mode('error')
    try:
        run()
    except RuntimeError as error:
        if 'synchronizing' not in str(error):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if 'site-packages' not in f.filename]
        return f'{own[-1].filename}:{own[-1].lineno}: {own[-1].line}'
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return None


def all_waits(run: Callable[[], Any], device: str) -> dict[str, int]:
    """The lines at which `run` waits for the device, and how often."""
    if device == 'cpu':
        return {}
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            run()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return Counter(
        f'{warning.filename}:{warning.lineno}'
        for warning in caught
        if 'synchronizing' in str(warning.message)
    )


def runtime_calls(run: Callable[[], Any]) -> dict[str, int]:
    """Calls of the CUDA runtime, sparse products included, which the debug
    mode of torch does not see. Ends with one wait of the profiler's own.
    """
    with torch.profiler.profile() as profile:
        run()
    rows = profile.key_averages()
    return {row.key: row.count for row in rows if row.key.startswith('cu')}


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
        return {'failed': done.stderr.strip().splitlines()[-20:]}
    return json.loads(done.stdout.splitlines()[-1])


def recall(args: argparse.Namespace) -> dict[str, Any]:
    """The best validation Recall@20 of every seed, by precision."""
    from pyg_sea.datasets import MMRecDataset
    from pyg_sea.training import train
    from pyg_sea.transforms import ModalKNNGraph, model_inputs

    modalities = dict(value.split('=', 1) for value in args.modality)
    dataset = MMRecDataset(
        args.recall, modalities=modalities or None, normalize='standard'
    )
    data = ModalKNNGraph(k=10)(dataset[0])
    modal_x = model_inputs(data)['modal_x']
    sizes = {name: x.size(1) for name, x in modal_x.items()}
    num_nodes = data['user'].num_nodes, data['item'].num_nodes
    values: dict[str, list[float]] = {}
    for kind in ['fp32', 'bf16', *(['tf32'] if args.device == 'cuda' else [])]:
        torch.set_float32_matmul_precision(
            'high' if kind == 'tf32' else 'highest'
        )
        values[kind] = []
        for seed in range(args.seeds):
            seed_everything(seed)
            result = train(
                SEA(*num_nodes, sizes),
                data,
                seed=seed,
                max_epochs=args.epochs,
                precision='bf16-mixed' if kind == 'bf16' else '32-true',
                progress=False,
                accelerator='gpu' if args.device == 'cuda' else 'cpu',
                devices=1,
            )
            values[kind].append(result.val['recall@20'])
            print('recall', kind, seed, values[kind][-1], flush=True)

    def summary(sample: np.ndarray) -> dict[str, float | None]:
        std = float(sample.std(ddof=1)) if sample.size > 1 else None
        return {'mean': float(sample.mean()), 'std': std}

    least = np.array(values['fp32'])
    return {
        'data': args.recall.name,
        'modalities': modalities,
        'max_epochs': args.epochs,
        'metric': 'validation recall@20 of the best epoch',
        'precisions': {
            kind: {
                'values': sample,
                **summary(np.array(sample)),
                'minus fp32': summary(np.array(sample) - least),
            }
            for kind, sample in values.items()
        },
    }


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
