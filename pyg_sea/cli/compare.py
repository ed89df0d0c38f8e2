"""`pyg-sea compare`."""

from pathlib import Path
from typing import Any

import click

from pyg_sea.cli._interrupt import interruptible
from pyg_sea.cli._options import (
    MODELS,
    TRAINING,
    as_options,
    command_line,
    positive,
    trainer,
)
from pyg_sea.cli._print import show

TABLE = 'comparison.csv'


@click.command('compare', short_help='Several models and seeds, one table.')
@click.argument('folder')
@click.option(
    '--model',
    'models',
    type=click.Choice(MODELS),
    multiple=True,
    required=True,
    help='May be repeated.',
)
@positive('--seeds', default=5, help='How many times to train each model.')
@click.option(
    '--out',
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help='The folder for the table and all runs.',
)
@TRAINING
@click.pass_context
def command(
    ctx: click.Context,
    /,
    folder: str,
    models: tuple[str, ...],
    seeds: int,
    out: Path,
    device: str,
    **options: Any,
) -> None:
    """Train several models with several seeds, and print mean and standard
    deviation.

    FOLDER is as in 'pyg-sea train'. Each run is a run folder, MODEL/seed-N
    in --out, and the table is comparison.csv there. After an interruption
    the same command goes on; with more models or seeds it trains these only.

    \b
      pyg-sea compare data/shop --model SEA --model VBPR --out runs/compare
    """
    how = f'Go on with: {command_line(ctx)}'
    with interruptible(how), as_options():
        from pyg_sea.runs._compare import compare

        table = compare(
            folder,
            list(dict.fromkeys(models)),
            range(seeds),
            out,
            options,
            click.echo,
            **trainer(device),
        )
        for split in ('validation', 'test'):
            click.echo()
            show(_wide(table, split))
        click.echo(f'\nmean ± standard deviation; written to {out / TABLE}')


def _wide(table: Any, split: str) -> Any:
    import pandas as pd

    rows: dict[str, dict[str, str]] = {}
    for row in table[table['split'] == split].itertuples():
        text = f'{row.mean:.4f}'
        if row.num_seeds > 1:
            text += f' ± {row.std:.4f}'
        cells = rows.setdefault(row.model, {split: row.model})
        cells[row.metric] = text
    return pd.DataFrame(list(rows.values()))
