"""`pyg-sea add-items`."""

import shlex
import sys
from pathlib import Path

import click

from pyg_sea.cli._inputs import read_items, recipes_of
from pyg_sea.cli._options import DEVICE, MODALITIES, check_device


@click.command('add-items', short_help='Add new items, without training.')
@click.argument('run', type=click.Path(path_type=Path))
@click.option(
    '--items',
    required=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help='The new items, with the columns of --items of prepare; those that '
    'are there already are skipped.',
)
@click.option(
    '--item-id',
    metavar='COLUMN',
    help='Ids of items.  [default: as in prepare]',
)
@click.option(
    '--title', metavar='COLUMN', help='Titles.  [default: as in prepare]'
)
@MODALITIES
@DEVICE
@click.option(
    '--out',
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder to write, for 'recommend', 'explain' and 'add-items'.",
)
def command(
    run: Path,
    items: Path,
    item_id: str | None,
    title: str | None,
    text: dict[str, str],
    images: dict[str, str],
    features: dict[str, str],
    device: str,
    out: Path,
) -> None:
    """Place items that were not there in training, by texts and images.

    RUN is what 'pyg-sea train' or an earlier 'pyg-sea add-items' wrote; it
    stays as it is. Columns, folders and models are those of 'pyg-sea
    prepare' unless you name others; ready-made vectors have to be given.

    \b
      pyg-sea add-items runs/shop --items new.csv --out runs/shop-may
      pyg-sea recommend runs/shop-may --user 1234
    """
    check_device(device)
    from pyg_sea.runs._served import Served

    served = Served.open(run)
    Served.check_out(out)
    known = served.catalogue
    table, _, found = read_items(items, item_id or known.item_id, title)
    if title is None:
        title = known.title if known.title in table else found
    grown = served.add_items(
        table,
        recipes_of(text, images, features),
        items.parent,
        title,
        device,
        progress=sys.stderr.isatty(),
        say=click.echo,
    )
    grown.save(out)
    following = shlex.join(['pyg-sea', 'recommend', str(out)])
    click.echo(f'written to {out}; next: {following} --user ...')
