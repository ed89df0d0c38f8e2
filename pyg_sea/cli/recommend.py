"""`pyg-sea recommend`."""

from pathlib import Path
from typing import Any

import click

from pyg_sea.cli._options import positive
from pyg_sea.cli._print import show


@click.command('recommend', short_help='The best items for users.')
@click.argument('run', type=click.Path(path_type=Path))
@click.option(
    '--user', 'users', multiple=True, metavar='ID', help='May be repeated.'
)
@click.option('--all', 'everybody', is_flag=True, help='All users.')
@click.option(
    '--history',
    multiple=True,
    metavar='ITEM',
    help='An item of somebody who was not there in training; may be repeated.',
)
@positive('--k', default=10, help='How many items.')
@click.option(
    '--candidates',
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='A text file with the items to choose from, one id per line.',
)
@click.option(
    '--include-seen',
    is_flag=True,
    help='Also items that the user has already.',
)
@click.option(
    '--out',
    type=click.Path(dir_okay=False, path_type=Path),
    help='Write a .csv, .tsv or .parquet file instead of printing.',
)
def command(
    run: Path,
    users: tuple[str, ...],
    everybody: bool,
    history: tuple[str, ...],
    k: int,
    candidates: Path | None,
    include_seen: bool,
    out: Path | None,
) -> None:
    """Recommend items to users by their ids, or by what somebody has.

    RUN is what 'pyg-sea train' or 'pyg-sea add-items' wrote.

    \b
      pyg-sea recommend runs/shop --user 1234 --user 5678
      pyg-sea recommend runs/shop --history sku-77 --history sku-78
      pyg-sea recommend runs/shop --all --out recommendations.csv
    """
    if sum([bool(users), everybody, bool(history)]) != 1:
        raise click.UsageError(
            'say for whom, with one of --user, --all and --history'
        )
    if out is not None and out.suffix not in ('.csv', '.tsv', '.parquet'):
        raise click.UsageError(
            f"--out needs the ending .csv, .tsv or .parquet (got '{out}')"
        )
    from pyg_sea.runs._served import Served
    from pyg_sea.runs._tables import write_table

    served = Served.open(run)
    options: dict[str, Any] = {'k': k, 'exclude_seen': not include_seen}
    if candidates is not None:
        options['candidates'] = served.ids('item', _read_ids(candidates))
    recommender = served.recommender
    if history:
        items = served.ids('item', list(history))
        table = recommender.recommend_for(items, **options)
    else:
        chosen = None if everybody else served.ids('user', list(users))
        table = recommender.recommend(chosen, **options)
    table = served.with_titles(table)
    if out is None:
        show(table)
        return
    write_table(out, table)
    click.echo(f'{len(table):,} recommendations written to {out}')


def _read_ids(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding='utf-8-sig').splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is no UTF-8 text: {error}") from error
    ids = [line.strip() for line in lines if line.strip()]
    if not ids:
        raise ValueError(
            f"'{path}' names no item: one id per line is needed, or leave "
            '--candidates out'
        )
    return ids
