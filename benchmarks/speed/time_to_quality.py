"""Wall time of `SEA` to the best quality of the released settings.

python benchmarks/speed/time_to_quality.py "$PYG_SEA_DATA/lfm2k" \\
    --modality image=vggish.npy --modality text=all-MiniLM-L6-v2.npy \\
    --graph-weight image=0.1 --graph-weight text=0.9 \\
    --work runs/time_to_quality \\
    --out benchmarks/results/speed_quality_lfm2k.json

Three parts, each skipped if its result is in the folder `--work`:
`released` trains `ReleasedSEA` as released (Adam at 1e-4, alpha .012, ureg
.006) and notes the epoch with the best validation Recall@20; `literal` times
steps and evaluation of the released arithmetic on the same data; `sea` trains
`SEA` as it comes with several seeds and notes when each reached that Recall.
Only validation is looked at. What the released arithmetic would need is its
epochs times its measured time per epoch.
"""

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from literal import LiteralStep, sample
from literal import evaluate as literal_evaluate
from torch_geometric import seed_everything
from torch_geometric.data import HeteroData

sys.path.insert(0, str(Path(__file__).parents[1]))
from _record import environment, write_json

from pyg_sea.datasets import MMRecDataset
from pyg_sea.nn import SEA, ReleasedSEA
from pyg_sea.training import train
from pyg_sea.transforms import ModalKNNGraph, model_inputs, read_knn_graph


def load(args: argparse.Namespace) -> HeteroData:
    def pairs(values: list[str]) -> dict[str, str]:
        return dict(value.split('=', 1) for value in values)

    dataset = MMRecDataset(
        args.data, modalities=pairs(args.modality), normalize='standard'
    )
    weights = {m: float(w) for m, w in pairs(args.graph_weight).items()}
    neighbors = {
        name: read_knn_graph(args.data / file)
        for name, file in pairs(args.neighbors).items()
    }
    transform = ModalKNNGraph(
        k=10, weights=weights or None, neighbors=neighbors
    )
    return transform(dataset[0])


def make(cls: Any, data: HeteroData) -> Any:
    modal_x = model_inputs(data)['modal_x']
    return cls(
        data['user'].num_nodes,
        data['item'].num_nodes,
        {name: x.size(1) for name, x in modal_x.items()},
    )


def run(
    model: Any, data: HeteroData, folder: Path, **kwargs: Any
) -> dict[str, Any]:
    """Trains; validation and seconds of every epoch."""
    start = time.perf_counter()
    result = train(model, data, folder, resume=True, progress=False, **kwargs)
    return {
        **environment(),
        'threads': torch.get_num_threads(),
        'settings': kwargs,
        'best_epoch': result.best_epoch,
        'best': result.val['recall@20'],
        'ndcg': result.val['ndcg@20'],
        'wall': time.perf_counter() - start,
        'seconds': [row['seconds'] for row in result.history],
        'recall': [row['val/recall@20'] for row in result.history],
    }


def literal(data: HeteroData, steps: int) -> dict[str, Any]:
    """Seconds of one epoch of the released arithmetic."""
    seed_everything(0)
    inputs, edges = model_inputs(data), data['user', 'buys', 'item']
    step = LiteralStep(make(ReleasedSEA, data), inputs)
    num_users = data['user'].num_nodes
    start = time.perf_counter()
    batches = list(sample(edges.edge_index, num_users, 2048))
    sampling = time.perf_counter() - start
    seconds = []
    for triplets in (batches * steps)[: steps + 1]:
        start = time.perf_counter()
        step.forward(triplets).backward()
        step.fit_estimator()
        step.update()
        seconds.append(time.perf_counter() - start)
    user, item = step.embedding.detach().split(
        [num_users, len(step.item_graph)]
    )
    known = torch.isin(edges.val_edge_index[0], edges.edge_index[0])
    start = time.perf_counter()
    literal_evaluate(
        user, item, edges.val_edge_index[:, known], edges.edge_index
    )
    evaluation = time.perf_counter() - start
    median = float(np.median(seconds[1:]))
    return {
        **environment(),
        'threads': torch.get_num_threads(),
        'step': median,
        'steps': len(batches),
        'sampling': sampling,
        'evaluation': evaluation,
        'epoch': median * len(batches) + sampling + evaluation,
    }


def report(parts: dict[str, Any]) -> dict[str, Any]:
    released, sea = parts['released'], parts['sea']
    target = released['best']
    needed = (released['best_epoch'] + 1) * parts['literal']['epoch']
    times, ratios = [], []
    for seed in sea:
        epochs = [i for i, r in enumerate(seed['recall']) if r >= target]
        seconds = sum(seed['seconds'][: epochs[0] + 1]) if epochs else None
        times.append(seconds)
        ratios.append(None if seconds is None else needed / seconds)
    best = [seed['best'] for seed in sea]
    return {
        'target': target,
        'released epochs': released['best_epoch'] + 1,
        'literal epoch': parts['literal']['epoch'],
        'literal would need': needed,
        'sea seconds': times,
        'times faster': ratios,
        'sea best validation': best,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('data', type=Path)
    parser.add_argument('--modality', action='append', default=[])
    parser.add_argument('--neighbors', action='append', default=[])
    parser.add_argument('--graph-weight', action='append', default=[])
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--steps', type=int, default=10)
    parser.add_argument('--epochs', type=int, default=1000)
    parser.add_argument('--sea-epochs', type=int, default=1000)
    parser.add_argument(
        '--parts', nargs='+', default=['released', 'literal', 'sea']
    )
    parser.add_argument('--work', type=Path, required=True)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    data = load(args)
    work = args.work / args.data.name
    work.mkdir(parents=True, exist_ok=True)

    def part(name: str, compute: Any) -> Any:
        path = work / f'{name}.json'
        if not path.exists():
            write_json(path, compute())
        return json.loads(path.read_text())

    parts: dict[str, Any] = {}
    if 'released' in args.parts:

        def released() -> dict[str, Any]:
            seed_everything(999)
            return run(
                make(ReleasedSEA, data),
                data,
                work / 'released',
                lr=1e-4,
                seed=999,
                max_epochs=args.epochs,
            )

        parts['released'] = part('released', released)
    if 'literal' in args.parts:
        parts['literal'] = part('literal', lambda: literal(data, args.steps))
    if 'sea' in args.parts:
        parts['sea'] = []
        for seed in range(args.seeds):

            def sea(seed: int = seed) -> dict[str, Any]:
                seed_everything(seed)
                return run(
                    make(SEA, data),
                    data,
                    work / f'sea_{seed}',
                    seed=seed,
                    max_epochs=args.sea_epochs,
                )

            parts['sea'].append(part(f'sea_{seed}', sea))
    if len(parts) == 3:
        result = {**environment(), **report(parts), 'parts': parts}
        print(json.dumps({k: v for k, v in result.items() if k != 'parts'}))
        if args.out is not None:
            write_json(args.out, result)


if __name__ == '__main__':
    main()
