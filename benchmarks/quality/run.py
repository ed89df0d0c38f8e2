"""Trains and evaluates any model on any folder in the MMRec format.

python benchmarks/quality/run.py --data "$PYG_SEA_DATA/lfm2k" \\
    --modality image=vggish.npy --modality text=all-MiniLM-L6-v2.npy \\
    --normalize text=none --model mgcn --set lambda_cl=0.01 --seeds 5 \\
    --out benchmarks/quality/results/lfm2k.jsonl

Adds one line per seed to `--out`, and the metrics of its users beside it in
`users/`. Seeds that are there are skipped; a run that was broken off goes on
from its last checkpoint in `--work`. All models are trained alike: the same
sampler, Adam, early stopping on validation Recall@20. What it prints is
validation only; `report.py` shows the test figures.
"""

import argparse
import ast
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import catalogue
import records
import torch
from catalogue import Catalogue
from models import MODELS, SCORERS, build, resolve
from per_user import per_user
from torch_geometric import seed_everything

from pyg_sea.evaluate import evaluate
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.training import TrainResult, train
from pyg_sea.transforms import model_inputs

sys.path.append(str(Path(__file__).parents[1]))
from _record import environment

WORK = Path(tempfile.gettempdir()) / 'pyg_sea_quality'

# Measures a trained model; what it returns joins the line.
Measure = Callable[[Any, Catalogue], Mapping[str, Any]]


def run(
    shop: Catalogue,
    model: str,
    settings: Mapping[str, Any],
    seed: int,
    work: Path = WORK,
    also: Measure | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """One line of results, and the test metrics of every user.

    Args:
        shop: The data.
        model: One of `MODELS` or `SCORERS`.
        settings: What differs from the defaults.
        seed: Decides weights and triplets.
        work: The folder of checkpoints.
        also: What else to measure, on the weights of the best epoch. Scorers
            are not measured.
    """
    row = key(shop, model, settings, seed)
    about = environment()
    edges = shop.data['user', 'buys', 'item']
    seed_everything(seed)
    own = row['settings']['model']
    weights = shop.inputs['graph_weights']
    it = build(model, own, shop.data, shop.item_graphs, weights)
    folder = checkpoints(row, work, about['commit'])
    if model in MODELS:
        result, how = fit(it, shop, row, folder)
        scorer = embeddings(it, shop)
        row |= how | {'validation': result.val, 'test': result.test}
        row |= also(it, shop) if also else {}
    else:
        scorer = it
        row |= {
            name: evaluate(scorer, held_out, edges.edge_index)
            for name, held_out in (
                ('validation', edges.val_edge_index),
                ('test', edges.test_edge_index),
            )
        }
    users = per_user(scorer, edges.test_edge_index, edges.edge_index)
    # Not before all is measured, so that nothing is trained twice.
    shutil.rmtree(folder, ignore_errors=True)
    return row | {'commit': about.pop('commit'), 'versions': about}, users


def checkpoints(row: Mapping[str, Any], work: Path, commit: str) -> Path:
    """The folder of the checkpoints of a run, given the beginning of its
    line. Other code would go on differently, and gets another one.
    """
    return work / f'{records.key_of(row)}-{commit[:12]}'


def fit(
    model: Any, shop: Catalogue, row: Mapping[str, Any], folder: Path
) -> tuple[TrainResult, dict[str, Any]]:
    """Trains a model, or goes on with it, and returns what was found, and
    what a line says of the training.

    Args:
        model: The model.
        shop: The data.
        row: The beginning of the line.
        folder: That of the checkpoints.
    """
    result = train(
        model,
        shop.data,
        folder,
        seed=row['seed'],
        resume=True,
        progress=False,
        **row['settings']['train'],
    )
    return result, {
        'parameters': sum(p.numel() for p in model.parameters()),
        'best_epoch': result.best_epoch,
        'epochs': result.num_epochs,
        # Of all sessions, if it was broken off.
        'seconds': round(sum(r['seconds'] for r in result.history), 3),
    }


def key(
    shop: Catalogue, model: str, settings: Mapping[str, Any], seed: int
) -> dict[str, Any]:
    """The beginning of a line: what decides a run, and `set`, the settings
    that were given.
    """
    return {
        'data': shop.name,
        'model': model,
        'seed': seed,
        'set': dict(settings),
        'settings': resolve(model, settings),
        'inputs': shop.inputs,
    }


@torch.no_grad()
def embeddings(model: Any, shop: Catalogue) -> EmbeddingScorer:
    embedding = model.eval().get_embedding(**model_inputs(shop.data))
    sizes = [model.num_users, model.num_items]
    return EmbeddingScorer(*embedding.float().split(sizes))


def fill(
    path: Path,
    shop: Catalogue,
    model: str,
    settings: Mapping[str, Any],
    seeds: Iterable[int],
    work: Path = WORK,
    *,
    label: Mapping[str, Any] | None = None,
    also: Measure | None = None,
    test: bool = True,
) -> None:
    """Adds the lines that a file lacks, one per seed.

    Args:
        path: The result file.
        shop: The data.
        model: One of `MODELS` or `SCORERS`.
        settings: What differs from the defaults.
        seeds: Its seeds. Scorers are the same with every seed.
        work: The folder of checkpoints.
        label: What begins a line and, beside the key, tells it from others.
        also: As of :func:`run`.
        test: Whether to keep test metrics, those of the users included.
    """
    label = dict(label or {})

    def identity(row: Mapping[str, Any]) -> str:
        own = {name: row.get(name) for name in label}
        return records.key_of(row) + json.dumps(own, sort_keys=True)

    done = {identity(row) for row in records.read(path)}
    for seed in seeds if model in MODELS else [0]:
        title = ', '.join(
            [shop.name, model, f'seed {seed}']
            + [
                f'{v}'
                for v in label.values()
                if isinstance(v, str | int | float)
            ]
        )
        if identity(label | key(shop, model, settings, seed)) in done:
            print(f'{title}: there already')
            continue
        row, users = run(shop, model, settings, seed, work, also)
        if test:
            records.write_users(records.users_path(path, row), users)
        else:
            row.pop('test')
        records.append(path, label | row)
        print(
            f'{title}: validation Recall@20 '
            f'{row["validation"]["recall@20"]:.4f}',
            *(f'{k} {row[k]:.0f}' for k in ('epochs', 'seconds') if k in row),
            flush=True,
        )


def parse_settings(values: list[str]) -> dict[str, Any]:
    """`['lr=1e-3', 'mode=slice']` as numbers, strings, and so on: JSON or
    Python's literals, else a string.
    """
    out = {}
    for name, value in catalogue.pairs(values).items():
        out[name] = value
        for parse in (json.loads, ast.literal_eval):
            try:
                out[name] = parse(value)
                break
            except (ValueError, SyntaxError):
                continue
    return out


def parser_of(doc: str | None, settings: str) -> argparse.ArgumentParser:
    """The options that all scripts that train have.

    Args:
        doc: What the script does.
        settings: What `--set` is.
    """
    parser = argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    catalogue.add_arguments(parser)
    add = parser.add_argument
    add(
        '--set',
        action='append',
        default=[],
        metavar='KEY=VALUE',
        help=f'{settings}; may be repeated',
    )
    add('--out', type=Path, required=True, help='the result file (.jsonl)')
    add(
        '--work',
        type=Path,
        default=WORK,
        help=f'the folder of checkpoints (default: {WORK})',
    )
    return parser


def main(argv: list[str] | None = None) -> None:
    parser = parser_of(
        __doc__,
        'a setting of the model or of its training (lr, batch_size, '
        'weight_decay, gradient_clip_val, patience, max_epochs)',
    )
    add = parser.add_argument
    add('--model', choices=[*SCORERS, *MODELS], required=True)
    add(
        '--tuned',
        type=Path,
        help='a result file of tune.py, whose best settings go before --set',
    )
    add('--seeds', type=int, default=5, help='from 0 (default: 5)')
    args = parser.parse_args(argv)

    shop = catalogue.read(args)
    settings = parse_settings(args.set)
    if args.tuned:
        trials = records.read(args.tuned)
        tuned = records.best(trials, shop.name, shop.inputs, args.model)
        settings = tuned | settings
    seeds = range(args.seeds)
    fill(args.out, shop, args.model, settings, seeds, args.work)


if __name__ == '__main__':
    main()
