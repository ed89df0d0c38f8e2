"""`pyg-sea report`."""

from pathlib import Path

import click


def _html(ctx: click.Context, param: click.Parameter, out: Path) -> Path:
    if out.suffix.lower() not in ('.html', '.htm'):
        raise click.BadParameter(
            f"a name that ends in .html or .htm is needed (got '{out}')",
            ctx,
            param,
        )
    return out


@click.command('report', short_help='A run as one HTML page.')
@click.argument('run', type=click.Path(path_type=Path))
@click.option(
    '--out',
    required=True,
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_html,
    help='The .html file to write.',
)
def command(run: Path, out: Path) -> None:
    """Write a page about a run, to read and to pass on.

    RUN is what 'pyg-sea train' wrote.

    \b
      pyg-sea report runs/shop --out report.html
    """
    from pyg_sea.report import write_report
    from pyg_sea.runs import Run

    click.echo(f'written to {write_report(Run.open(run), out)}')
