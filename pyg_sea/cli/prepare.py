"""`pyg-sea prepare`."""

import shlex
import sys
from pathlib import Path
from typing import Any

import click

from pyg_sea.cli._inputs import (
    Columns,
    read_items,
    recipes_of,
    to_numbers,
    to_time,
)
from pyg_sea.cli._interrupt import interruptible
from pyg_sea.cli._options import (
    DEVICE,
    MODALITIES,
    check_device,
    command_line,
)

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
TEXT_MODEL = 'sentence-transformers/all-MiniLM-L6-v2'
IMAGE_MODEL = 'openai/clip-vit-base-patch32'


@click.command('prepare', short_help='Tables, texts and images to a folder.')
@click.option(
    '--interactions',
    required=True,
    type=_FILE,
    help='Who chose what, one row each: .csv, .tsv or .parquet.',
)
@click.option('--user', metavar='COLUMN', help='Users in --interactions.')
@click.option('--item', metavar='COLUMN', help='Items in --interactions.')
@click.option(
    '--time', metavar='COLUMN', help='Times there; for --split by time.'
)
@click.option(
    '--weight',
    metavar='COLUMN',
    help='How much an interaction counts, such as a number of pieces.',
)
@click.option(
    '--items',
    required=True,
    type=_FILE,
    help='The items, one row each: .csv, .tsv or .parquet.',
)
@click.option('--item-id', metavar='COLUMN', help='Ids of items in --items.')
@click.option(
    '--title',
    metavar='COLUMN',
    help='What to print beside an id, in --items.',
)
@MODALITIES
@click.option(
    '--text-model',
    default=TEXT_MODEL,
    show_default=True,
    help='A model of Sentence Transformers, by name or folder.',
)
@click.option(
    '--image-model',
    default=IMAGE_MODEL,
    show_default=True,
    help='A vision model of Transformers, by name or folder.',
)
@click.option(
    '--split',
    type=click.Choice(['random', 'leave_last_out', 'time']),
    default='random',
    show_default=True,
    help='What is held out for validation and test: 10 % each of a '
    "user's interactions at random, each user's last two, or the last 20 % "
    'of all.',
)
@click.option(
    '--k-core',
    type=click.IntRange(min=1),
    metavar='N',
    help='Drop users and items with fewer interactions, until there are none.',
)
@click.option(
    '--seed', default=0, show_default=True, help='Of the random split.'
)
@DEVICE
@click.option(
    '--out',
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help='The folder to write.',
)
@click.pass_context
def command(ctx: click.Context, /, **options: Any) -> None:
    """Make a folder for 'pyg-sea train' out of your own files.

    Needed are a table of interactions (orders, clicks, ratings), a table of
    items, and what the items are made of: texts in columns of that table,
    images, or vectors that you have already. Columns are found by usual
    names (customer_id, sku, title, ...), or you name them. An item that has
    no text or no image is kept.

    \b
      pyg-sea prepare --interactions orders.csv --items items.csv \\
          --text text=title,description --images image=photos \\
          --out data/shop

    Models are fetched once. What is encoded is kept: the same command goes
    on after an interruption, and after you add items.
    """
    how = f'What is encoded is kept, go on with: {command_line(ctx)}'
    with interruptible(how):
        _prepare(**options)


def _prepare(
    interactions: Path,
    items: Path,
    user: str | None,
    item: str | None,
    time: str | None,
    weight: str | None,
    item_id: str | None,
    title: str | None,
    text: dict[str, str],
    images: dict[str, str],
    features: dict[str, str],
    text_model: str,
    image_model: str,
    split: str,
    out: Path,
    **rest: Any,
) -> None:
    check_device(rest['device'])
    from pyg_sea.runs._prepare import prepare

    columns = Columns(interactions)
    user = columns.need('user', user)
    item = columns.need('item', item)
    if time is not None or split != 'random':
        time = columns.need('time', time)
    if weight is not None:
        columns.check('weight', weight)
    table = columns.read([user, item], [time, weight])
    if time is not None:
        table[time] = to_time(table[time], interactions)
    if weight is not None:
        table[weight] = to_numbers(table[weight], interactions)
    catalogue, item_id, title = read_items(items, item_id, title, item)
    if not (text or images or features):
        if title is None:
            raise click.UsageError(
                'give at least one of --text, --images and --features: what '
                'items are made of'
            )
        text = {'text': title}
        click.echo(f"text of items: the column '{title}'")
    k_core, seed = rest.pop('k_core'), rest.pop('seed')
    prepare(
        out,
        table,
        catalogue,
        recipes_of(text, images, features, text_model, image_model),
        items.parent,
        user=user,
        item=item,
        time=time,
        weight=weight,
        item_id=item_id,
        title=title,
        split=split,
        k_core=k_core,
        seed=seed,
        progress=sys.stderr.isatty(),
        say=click.echo,
        **rest,
    )
    following = shlex.join(['pyg-sea', 'train', str(out)])
    click.echo(f'written to {out}; next: {following} --out runs/...')
