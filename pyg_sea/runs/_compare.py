"""Several models and seeds on one catalogue."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from pyg_sea.runs._data import load_data
from pyg_sea.runs._tables import write_table
from pyg_sea.runs.run import Run
from pyg_sea.runs.settings import make_settings
from pyg_sea.runs.train import evaluate_baselines, train_run


def compare(
    folder: str,
    models: Sequence[str],
    seeds: Sequence[int],
    out: Path,
    settings: Mapping[str, Any],
    say: Callable[[str], None] = print,
    **kwargs: Any,
) -> pd.DataFrame:
    """Train what is not trained yet, and write `comparison.csv`.

    Args:
        folder: The data, as of :func:`~pyg_sea.runs.make_settings`.
        models: The models.
        seeds: The seeds of each of them.
        out: The folder of the table and of all runs, `MODEL/seed-N`.
        settings: Further arguments of :func:`~pyg_sea.runs.make_settings`.
        say: Tells what is done (default: `print`).
        **kwargs: Further arguments of :func:`~pyg_sea.runs.train_run`.

    Returns one row per model, split and metric: mean, standard deviation,
    number of seeds.
    """
    out = out.expanduser().absolute()
    if (out / 'run.json').exists():
        raise FileExistsError(f"'{out}' is a run: choose another folder")
    rows: list[dict[str, Any]] = []
    beaten: Mapping[str, Mapping[str, float]] = {}
    for model in models:
        # Models differ in how their features are scaled.
        data, baselines = None, None
        for seed in seeds:
            wanted = make_settings(folder, model, seed=seed, **settings)
            path = out / model / f'seed-{seed}'
            run = _finished(path, wanted)
            if run is None:
                if data is None:
                    data = load_data(wanted['data'])
                if baselines is None:
                    baselines = evaluate_baselines(data)
                run = train_run(
                    wanted,
                    path,
                    resume=(path / 'run.json').exists(),
                    data=data,
                    baselines=baselines,
                    **kwargs,
                )
            baselines = run.metrics['baselines']
            say(
                f'{model}, seed {seed}: best epoch '
                f'{run.metrics["best_epoch"] + 1} of {run.metrics["epochs"]}, '
                f'{run.metrics["seconds"]:.0f} s'
            )
            rows += [
                {'model': model, 'split': split, 'metric': name, 'value': x}
                for split in ('validation', 'test')
                for name, x in run.metrics[split].items()
            ]
        # Those of the first model, whose features decide content k-NN.
        beaten = beaten or baselines or {}
    rows += [
        {'model': name, 'split': 'test', 'metric': key, 'value': x}
        for name, row in beaten.items()
        for key, x in row.items()
    ]
    table = pd.DataFrame(rows)
    keys = ['model', 'split', 'metric']
    table = (
        table.groupby(keys, sort=False)['value']
        .agg(['mean', 'std', 'count'])
        .reset_index()
        .rename(columns={'count': 'num_seeds'})
    )
    write_table(out / 'comparison.csv', table)
    return table


def _finished(path: Path, wanted: Mapping[str, Any]) -> Run | None:
    if not (path / 'metrics.json').is_file():
        return None
    run = Run.open(path)
    same = all(run.settings[key] == value for key, value in wanted.items())
    return run if same else None
