"""`pyg-sea train`."""

import shlex
from pathlib import Path
from typing import Any

import click

from pyg_sea.cli._interrupt import interruptible
from pyg_sea.cli._options import (
    MODELS,
    TRAINING,
    as_options,
    command_line,
    trainer,
    values,
)
from pyg_sea.cli._print import metrics_table, show


@click.command('train', short_help='Train a model, leave a run folder.')
@click.argument('folder')
@click.option(
    '--out',
    required=True,
    type=click.Path(file_okay=False, path_type=Path),
    help='The run folder to write.',
)
@click.option(
    '--model',
    type=click.Choice(MODELS),
    default='SEA',
    show_default=True,
    help='SEA is the one to use; others are there to compare.',
)
@click.option(
    '--set',
    'model_settings',
    multiple=True,
    callback=values,
    metavar='KEY=VALUE',
    help='An argument of the model, such as alpha=0.1; may be repeated.',
)
@TRAINING
@click.option(
    '--seed', default=0, show_default=True, help='Decides all that is drawn.'
)
@click.option(
    '--resume',
    is_flag=True,
    help='Go on with an interrupted run in --out, to exactly the result of '
    'one that never stopped.',
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    folder: str,
    out: Path,
    device: str,
    resume: bool,
    **options: Any,
) -> None:
    """Train on FOLDER, evaluate, and leave a recommender.

    FOLDER is what 'pyg-sea prepare' wrote, any folder in the format of the
    MMRec toolbox, or 'demo' for generated data. Ctrl-C is safe at any time:
    the same command with --resume goes on.

    \b
      pyg-sea train data/shop --out runs/shop
      pyg-sea train demo --out runs/demo --epochs 20
    """
    how = f'Go on with: {command_line(ctx, "--resume")}'
    with interruptible(how), as_options():
        from pyg_sea.runs import Run, make_settings, train_run

        if not resume and (out / 'run.json').exists():
            raise click.ClickException(
                f"'{out}' holds a run already: add --resume to go on with "
                'it, or choose another --out'
            )
        settings = make_settings(folder, **options)
        train_run(settings, out, resume=resume, **trainer(device))
        _report(Run.open(out), out)


def _report(run: Any, out: Path) -> None:
    metrics = run.metrics
    name = run.settings['model']['name']
    rows = {**metrics['baselines'], name: metrics['test']}
    show(metrics_table('test', rows))
    click.echo(
        f'\nbest epoch {metrics["best_epoch"] + 1} of {metrics["epochs"]}, '
        f'{metrics["seconds"]:.0f} s; all of it is in {out}'
    )
    user = run.recommender().user_ids[0]
    following = ['pyg-sea', 'recommend', str(out), '--user', str(user)]
    click.echo(f'next: {shlex.join(following)}')
