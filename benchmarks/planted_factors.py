"""Do the parts find the planted factors, and do the losses help?

Trains `SEA` on the generated catalogue, whose features and clicks are driven
by known generic and unique factors, with and without the separation losses,
and probes what each part knows: R2 of a ridge regression on held-out items.

python benchmarks/planted_factors.py --seeds 5 \\
    --out benchmarks/results/planted_factors.json
"""

import argparse
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _record import environment, write_json
from sklearn.linear_model import RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, cross_val_predict
from torch_geometric import seed_everything

from pyg_sea.datasets import FakeMultimodal
from pyg_sea.nn import SEA
from pyg_sea.training import train
from pyg_sea.transforms import ModalKNNGraph, model_inputs

# Strong weights, so that what the losses do shows.
LOSSES = {
    'neither': {'alpha': 0.0, 'beta': 0.0},
    'alignment': {'alpha': 0.1, 'beta': 0.0},
    'distance': {'alpha': 0.0, 'beta': 0.03},
    'both': {'alpha': 0.1, 'beta': 0.03},
}
CELLS = [
    ('slice', 'neither'),
    ('slice', 'both'),
    ('slice', 'alignment'),
    ('slice', 'distance'),
    ('linear', 'neither'),
    ('linear', 'both'),
]


def probe(x: np.ndarray, y: np.ndarray) -> float:
    """How well `x` predicts `y` linearly on items it was not fitted on."""
    folds = KFold(5, shuffle=True, random_state=0)
    fit = cross_val_predict(RidgeCV(np.logspace(-4, 2, 7)), x, y, cv=folds)
    return float(r2_score(y, fit))


def run(losses: str, mode: str, seed: int, epochs: int) -> dict[str, Any]:
    seed_everything(seed)
    data = ModalKNNGraph(k=10)(FakeMultimodal(seed=0)[0])
    inputs = model_inputs(data)
    model = SEA(
        data['user'].num_nodes,
        data['item'].num_nodes,
        {name: x.size(1) for name, x in inputs['modal_x'].items()},
        mode=mode,
        **LOSSES[losses],
    )
    result = train(model, data, max_epochs=epochs, seed=seed, progress=False)
    names = ('modal_x', 'edge_index', 'edge_weight')
    with torch.no_grad():
        parts = model.get_parts(**{name: inputs[name] for name in names})
    item = data['item']
    r2 = {}
    for name, pair in parts.items():
        factors = {
            'shared': item.generic_factor.numpy(),
            'private': item[f'unique_factor_{name}'].numpy(),
        }
        for (part, x), (factor, y) in product(
            pair._asdict().items(), factors.items()
        ):
            r2[f'{name}: {factor} from {part}'] = probe(x.numpy(), y)
        generic, unique = (part.numpy() for part in pair)
        r2[f'{name}: unique from generic'] = probe(generic, unique)
    return {
        'losses': losses,
        'mode': mode,
        'seed': seed,
        'epochs': result.num_epochs,
        'seconds': round(result.seconds, 1),
        'validation': result.val,
        'test': result.test,
        'r2': r2,
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Means and standard deviations over seeds, modalities averaged."""
    columns = [
        'shared from generic',
        'shared from unique',
        'private from generic',
        'private from unique',
        'unique from generic',
    ]
    lines = [
        '| split | losses | ' + ' | '.join(columns) + ' | test Recall@20 |',
        '|---' * (len(columns) + 3) + '|',
    ]
    keys = dict.fromkeys((run['mode'], run['losses']) for run in runs)
    for mode, losses in keys:
        rows = [r for r in runs if (r['mode'], r['losses']) == (mode, losses)]
        values = [
            [
                np.mean([v for k, v in r['r2'].items() if k.endswith(column)])
                for r in rows
            ]
            for column in columns
        ]
        values.append([r['test']['recall@20'] for r in rows])
        cells = [f'{np.mean(v):.3f} ± {np.std(v, ddof=1):.3f}' for v in values]
        lines.append(f'| {mode} | {losses} | ' + ' | '.join(cells) + ' |')
    return '\n'.join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--seeds', type=int, default=5)
    parser.add_argument('--epochs', type=int, default=200)
    parser.add_argument('--out', type=Path, required=True)
    args = parser.parse_args()

    runs = []
    for (mode, losses), seed in product(CELLS, range(args.seeds)):
        runs.append(run(losses, mode, seed, args.epochs))
        print(runs[-1], flush=True)
        write_json(args.out, {**environment(), 'runs': runs})
    print(table(runs))


if __name__ == '__main__':
    main()
