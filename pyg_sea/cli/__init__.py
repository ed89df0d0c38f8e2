"""The command line, `pyg-sea`."""

import sys
from collections.abc import Sequence

__all__ = ['main']

classes = __all__


def main(args: Sequence[str] | None = None) -> int:
    """Runs `pyg-sea`, as does `python -m pyg_sea.cli`; needs the extra `cli`.

    Args:
        args: The arguments (default: `None`, those of the process).

    Returns the exit code: 0, 1 for what failed, 2 for wrong usage, 130 for
    Ctrl-C. What went wrong is told in one line on the standard error.

    Example:
        >>> from pyg_sea.cli import main
        >>> main(['evaluate', 'no-such-folder'])
        1
    """
    try:
        import click  # noqa: F401
    except ImportError:
        sys.stderr.write(
            'Error: pyg-sea needs click: pip install "pyg_sea[cli]"\n'
        )
        return 1
    from pyg_sea.cli._app import run

    return run(sys.argv[1:] if args is None else list(args))
