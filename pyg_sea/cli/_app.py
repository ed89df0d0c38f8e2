"""The commands together, and how they fail."""

import traceback
import warnings
from importlib import import_module
from typing import Any

import click

import pyg_sea
from pyg_sea.cli._interrupt import INTERRUPTED

# In the order in which they are needed.
COMMANDS = (
    'prepare',
    'train',
    'evaluate',
    'recommend',
    'explain',
    'add-items',
    'compare',
    'report',
)
# What the library raises for what it was given.
_FAILURES = (
    FloatingPointError,
    ImportError,
    KeyError,
    MemoryError,
    OSError,
    TypeError,
    ValueError,
)


class Commands(click.Group):
    """Looks a command up when it is wanted."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in their order."""
        return list(COMMANDS)

    def get_command(
        self, ctx: click.Context, name: str
    ) -> click.Command | None:
        """Return a command, `None` if there is no such."""
        if name not in COMMANDS:
            return None
        module = import_module(f'pyg_sea.cli.{name.replace("-", "_")}')
        command: click.Command = module.command
        return command


@click.group(
    cls=Commands,
    name='pyg-sea',
    context_settings={'help_option_names': ['-h', '--help']},
)
@click.version_option(pyg_sea.__version__, prog_name='pyg-sea')
@click.option('--traceback', is_flag=True, help='Show where an error arose.')
def app(traceback: bool) -> None:
    """Recommend items by what people chose, and by texts and images.

    Start with a table of orders (or clicks, ratings, ...), a table of items
    and a folder of images:

    \b
      pyg-sea prepare --interactions orders.csv --items items.csv \\
          --text text=title --images image=photos --out data/shop
      pyg-sea train data/shop --out runs/shop
      pyg-sea recommend runs/shop --user 1234
      pyg-sea explain runs/shop 1234 sku-77

    'pyg-sea COMMAND --help' says more about each step.
    """


def run(args: list[str]) -> int:
    """Run a command line.

    Args:
        args: The arguments.

    Returns the exit code.
    """
    show = '--traceback' in args
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _Warnings().show
            for category in (DeprecationWarning, FutureWarning):
                warnings.simplefilter('ignore', category)
            # Of a small catalogue: advice to those who call it themselves.
            warnings.filterwarnings('ignore', "'CLUBLoss' was fitted on")
            # Without a word, help.
            given = args or ['--help']
            app.main(given, 'pyg-sea', standalone_mode=False, obj=args)
    except click.Abort:
        return _fail('interrupted', INTERRUPTED)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else 'pyg-sea'
        message = error.format_message().rstrip('.')
        return _fail(f"{message}. See '{path} --help'", error.exit_code)
    except click.ClickException as error:
        return _fail(error.format_message(), error.exit_code)
    except _FAILURES as error:
        if show:
            traceback.print_exc()
        return _fail(_message(error))
    except RuntimeError as error:
        # Of torch, for GPUs as for CPUs; others are mistakes of ours.
        if 'out of memory' not in str(error) and "can't alloc" not in str(
            error
        ):
            raise
        return _fail(_message(error))
    return 0


def _fail(message: str, code: int = 1) -> int:
    click.echo(f'Error: {" ".join(message.split())}', err=True)
    return code


def _message(error: BaseException) -> str:
    if isinstance(error, KeyError) and error.args:
        return str(error.args[0])
    if isinstance(error, ImportError) and 'pip install' not in str(error):
        return f'{error}: pip install "pyg_sea[cli]"'
    if isinstance(error, MemoryError):
        return f'out of memory: {error}'
    return str(error) or type(error).__name__


class _Warnings:
    """Shows each warning once, in one line."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    def show(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        """Take the place of `warnings.showwarning`."""
        text = ' '.join(str(message).split())
        if text not in self.seen:
            self.seen.add(text)
            click.echo(f'Warning: {text}', err=True)
