"""Ctrl-C in commands that can go on later."""

import contextlib
import signal
from collections.abc import Iterator
from typing import Any

import click

INTERRUPTED = 130


class Interrupted(click.ClickException):
    """Ctrl-C; the message says how to go on."""

    exit_code = INTERRUPTED


@contextlib.contextmanager
def interruptible(how: str) -> Iterator[None]:
    """Turns Ctrl-C into a message.

    Args:
        how: How to go on.

    Raises an `Interrupted`, whatever the code inside makes of Ctrl-C:
    Lightning exits with 1.
    """
    pressed = False

    def press(*_: Any) -> None:
        nonlocal pressed
        pressed = True
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, press)
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        if not pressed:
            raise
        raise Interrupted(f'interrupted. {how}') from None
    finally:
        signal.signal(signal.SIGINT, before)
