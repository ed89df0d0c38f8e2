"""Options that several commands share."""

import contextlib
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

# Those of `pyg_sea.runs`, which takes seconds to import.
MODELS = ('SEA', 'SEA.paper', 'ReleasedSEA', 'VBPR', 'FREEDOM')
METRICS = ('recall', 'ndcg', 'precision', 'map', 'hit_ratio', 'mrr')
_ACCELERATORS = {'cuda': 'gpu'}

# Arguments of the library whose options are not called alike.
_RENAMED = {
    'graph_weights': '--graph-weight',
    'k': '--graph-k',
    'max_epochs': '--epochs',
    'modalities': '--modality',
    'model_settings': '--set',
    'weights': '--graph-weight',
}
# Where a message names one; elsewhere it may be a column or a modality.
_ARGUMENT = re.compile(rf"(^|settings: |lower )'({'|'.join(_RENAMED)})'")

Decorator = Callable[[Any], Any]


def apply(decorators: list[Decorator]) -> Decorator:
    """One decorator out of several, the first on top."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def positive(*names: str, **settings: Any) -> Decorator:
    """An option that takes a whole number from 1; help says its default."""
    return click.option(
        *names, type=click.IntRange(min=1), show_default=True, **settings
    )


def pairs(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """`NAME=VALUE`, repeated, as a dictionary."""
    out: dict[str, str] = {}
    for value in values:
        name, equals, rest = value.partition('=')
        if not (name and equals and rest):
            raise click.BadParameter(
                f'{param.metavar} is needed (got {value!r})', ctx, param
            )
        if name in out:
            raise click.BadParameter(f'{name!r} is given twice', ctx, param)
        out[name] = rest
    return out


def numbers(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, float]:
    """`NAME=NUMBER`, repeated, as a dictionary."""
    try:
        return {
            name: float(value)
            for name, value in pairs(ctx, param, values).items()
        }
    except ValueError as error:
        raise click.BadParameter(str(error), ctx, param) from None


def values(
    ctx: click.Context, param: click.Parameter, given: tuple[str, ...]
) -> dict[str, Any]:
    """`NAME=VALUE`, repeated, with values as in JSON, or texts."""
    return {
        name: _value(text) for name, text in pairs(ctx, param, given).items()
    }


def _value(text: str) -> Any:
    plain = {'True': True, 'False': False, 'None': None}
    if text in plain:
        return plain[text]
    try:
        return json.loads(text)
    except ValueError:
        return text


DEVICE = click.option(
    '--device',
    type=click.Choice(['auto', 'cpu', 'cuda', 'mps']),
    default='auto',
    show_default=True,
    help='Where to compute; auto takes a GPU if there is one.',
)

# Of `prepare` and `add-items`.
MODALITIES = apply(
    [
        click.option(
            '--text',
            multiple=True,
            callback=pairs,
            metavar='NAME=COLUMN[,COLUMN]',
            help='A modality from columns of texts in --items; may be '
            'repeated.',
        ),
        click.option(
            '--images',
            multiple=True,
            callback=pairs,
            metavar='NAME=FOLDER',
            help='A modality from a folder with one image per item, named by '
            'its id (sku-77.jpg), or from a column of --items with paths; '
            'may be repeated.',
        ),
        click.option(
            '--features',
            multiple=True,
            callback=pairs,
            metavar='NAME=FILE',
            help='A modality from ready-made vectors: .npy with one row per '
            'row of --items, or .csv or .parquet with a column of ids; may '
            'be repeated.',
        ),
    ]
)

# Of `train` and `compare`.
TRAINING = apply(
    [
        click.option(
            '--modality',
            'modalities',
            multiple=True,
            callback=pairs,
            metavar='NAME=FILE',
            help='A feature file in FOLDER, instead of all of them; may be '
            'repeated.',
        ),
        click.option(
            '--normalize',
            type=click.Choice(['l2', 'standard', 'none']),
            help="How features are scaled.  [default: 'standard' for SEA, "
            "else 'none']",
        ),
        click.option(
            '--name', help='The .inter file in FOLDER, if there are several.'
        ),
        click.option(
            '--weight',
            metavar='COLUMN',
            help='Weights of interactions, a column of the .inter file; '
            "'prepare --weight' writes 'weight'.",
        ),
        positive(
            '--graph-k',
            'k',
            default=10,
            help='Neighbours of an item, per modality, in the graph of '
            'similar items.',
        ),
        click.option(
            '--graph-weight',
            'graph_weights',
            multiple=True,
            callback=numbers,
            metavar='NAME=WEIGHT',
            help='The weight of a modality in that graph; may be repeated.  '
            '[default: equal ones]',
        ),
        positive(
            '--epochs',
            'max_epochs',
            default=1000,
            help='At most this many.',
        ),
        positive(
            '--patience',
            default=20,
            help='Stop after this many epochs without a better validation '
            'recall@20.',
        ),
        positive('--batch-size', default=2048, help='Interactions per step.'),
        click.option(
            '--lr',
            type=click.FloatRange(min=0, min_open=True),
            help='Learning rate.  [default: 1e-4 for SEA.paper and '
            'ReleasedSEA, else 1e-3]',
        ),
        click.option(
            '--precision',
            type=click.Choice(['32-true', 'bf16-mixed', '16-mixed']),
            default='32-true',
            show_default=True,
            help='Mixed precision is faster on a GPU.',
        ),
        DEVICE,
    ]
)


@contextlib.contextmanager
def as_options() -> Iterator[None]:
    """Lets messages of the library name options of `train` and `compare`."""
    try:
        yield
    except ValueError as error:
        message = _ARGUMENT.sub(
            lambda found: found[1] + _RENAMED[found[2]], str(error)
        )
        if message == str(error):
            raise
        raise ValueError(message) from error


def check_device(device: str) -> None:
    """Refuse a device that is not there."""
    if device in ('auto', 'cpu'):
        return
    import torch

    if not getattr(torch, 'mps' if device == 'mps' else 'cuda').is_available():
        raise click.ClickException(
            f"torch finds no device '{device}' here: leave --device out"
        )


def trainer(device: str) -> dict[str, Any]:
    """Arguments of Lightning's trainer."""
    check_device(device)
    return {
        'accelerator': _ACCELERATORS.get(device, device),
        'devices': 1,
        # A bar in a file is a mess.
        'progress': sys.stdout.isatty(),
    }


def command_line(ctx: click.Context, *more: str) -> str:
    """What was typed, and more if it is not there."""
    args = list(ctx.find_root().obj)
    return shlex.join(
        ['pyg-sea', *args, *[arg for arg in more if arg not in args]]
    )
