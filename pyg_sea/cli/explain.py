"""`pyg-sea explain`."""

from pathlib import Path
from typing import Any

import click

from pyg_sea.cli._options import positive
from pyg_sea.cli._print import show


@click.command('explain', short_help='Why a user gets an item.')
@click.argument('run', type=click.Path(path_type=Path))
@click.argument('user')
@click.argument('item')
@positive(
    '--k',
    default=10,
    help='How many of the items that the user has to show.',
)
@click.option(
    '--plot',
    type=click.Path(dir_okay=False, path_type=Path),
    help='Draw it, too: .png, .pdf or .svg.',
)
def command(
    run: Path, user: str, item: str, k: int, plot: Path | None
) -> None:
    """Take the score of ITEM for USER apart, in two ways that add up to it.

    RUN is what 'pyg-sea train' or 'pyg-sea add-items' wrote. The first table
    says what each modality adds: its generic part is what all modalities
    share, its unique part what only this one knows, 'id' what only the
    choices of users tell; in the item itself, or by similar items.
    'popularity' is what the item has for everybody. The second says which
    items that the user has lead there.

    \b
      pyg-sea explain runs/shop 1234 sku-77 --plot why.png
    """
    if plot is not None and plot.suffix not in ('.png', '.pdf', '.svg'):
        raise click.UsageError(
            f"--plot needs the ending .png, .pdf or .svg (got '{plot}')"
        )
    from pyg_sea.runs._served import Served

    served = Served.open(run)
    [user_id] = served.ids('user', [user])
    [item_id] = served.ids('item', [item])
    why = served.recommender.explain(user_id, item_id)
    title = served.catalogue.titles.get(item)
    name = item if title is None else f'{item} ({title})'
    click.echo(f'{name} for {user}: score {why.score:.4f}\n')
    show(why.contributions)
    click.echo(f'\nbecause of ({len(why.because):,} items of the user)')
    # Models that do not tell what reaches a user through an item.
    because = why.because.dropna(axis=1, how='all')
    show(served.with_titles(because).head(k))
    if why.user_vector is not None:
        click.echo(f"\nthe user's own vector adds {why.user_vector:.4f}")
    if why.popularity:
        click.echo(f"the item's popularity adds {why.popularity:.4f}")
    if plot is not None:
        _draw(why, plot, k)
        click.echo(f'drawn to {plot}')


def _draw(why: Any, path: Path, k: int) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            '--plot needs matplotlib: pip install "pyg_sea[cli]"'
        ) from error
    from pyg_sea.runs._files import replacing

    # Not by pyplot, which may want a screen.
    figure = Figure(figsize=(10, 4), layout='constrained')
    why.plot(figure.subplots(1, 2), k)
    with replacing(path) as scratch:
        figure.savefig(scratch)
