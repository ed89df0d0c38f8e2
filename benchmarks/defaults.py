"""The sweep behind the defaults of `SEA`, selected on validation only.

python benchmarks/defaults.py "$PYG_SEA_DATA/lfm2k" \\
    --modality text=all-MiniLM-L6-v2.npy --modality audio=vggish.npy \\
    --modality speech=whisper.npy --out benchmarks/results/defaults.jsonl

Appends one line per setting and seed, skips those that are there. With
`--report` prints the table of a result file instead.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd
from _record import environment
from torch_geometric import seed_everything

from pyg_sea.datasets import MMRecDataset
from pyg_sea.nn import SEA
from pyg_sea.training import train
from pyg_sea.transforms import ModalKNNGraph, model_inputs, read_knn_graph

SETTINGS: list[dict[str, Any]] = [
    {'ranking': 'softmax'},
    {'ranking': 'bpr'},
    {'ranking': 'softmax', 'alpha': 0.0, 'beta': 0.0},
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('data', nargs='?', type=Path)
    parser.add_argument('--modality', action='append', default=[])
    parser.add_argument('--neighbors', action='append', default=[])
    parser.add_argument('--seeds', type=int, default=1)
    parser.add_argument('--epochs', type=int, default=200)
    parser.add_argument('--patience', type=int, default=10)
    parser.add_argument('--out', type=Path, required=True)
    parser.add_argument('--report', action='store_true')
    args = parser.parse_args()

    done = []
    if args.out.exists():
        done = [json.loads(line) for line in args.out.open()]
    if args.report:
        print(report(done))
        return

    modalities = dict(value.split('=', 1) for value in args.modality)
    neighbors = {
        name: read_knn_graph(args.data / file)
        for name, file in (value.split('=', 1) for value in args.neighbors)
    }
    dataset = MMRecDataset(
        args.data, modalities=modalities, normalize='standard'
    )
    data = ModalKNNGraph(k=10, neighbors=neighbors)(dataset[0])
    inputs = model_inputs(data)
    sizes = {name: x.size(1) for name, x in inputs['modal_x'].items()}
    for seed in range(args.seeds):
        for settings in SETTINGS:
            key = {'data': args.data.name, 'seed': seed, 'settings': settings}
            if any(key.items() <= row.items() for row in done):
                continue
            seed_everything(seed)
            kwargs = dict(settings)
            lr = kwargs.pop('lr', 1e-3)
            model = SEA(
                data['user'].num_nodes,
                data['item'].num_nodes,
                sizes,
                **kwargs,
            )
            result = train(
                model,
                data,
                max_epochs=args.epochs,
                patience=args.patience,
                lr=lr,
                seed=seed,
                progress=False,
            )
            row = key | {
                'best_epoch': result.best_epoch,
                'epochs': result.num_epochs,
                'seconds': round(result.seconds, 1),
                'validation': result.val,
                'environment': environment(),
            }
            print(row, flush=True)
            with args.out.open('a') as file:
                file.write(json.dumps(row) + '\n')


def report(rows: list[dict[str, Any]]) -> str:
    table = pd.DataFrame(
        {
            'data': row['data'],
            'settings': json.dumps(row['settings']),
            'recall@20': row['validation']['recall@20'],
            'ndcg@20': row['validation']['ndcg@20'],
            'best_epoch': row['best_epoch'],
            'seconds': row['seconds'],
        }
        for row in rows
    )
    groups = table.groupby(['data', 'settings'], sort=False)
    return groups.agg(['mean', 'std', 'count']).round(4).to_string()


if __name__ == '__main__':
    main()
