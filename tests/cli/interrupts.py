"""Ctrl-C at a place that does not depend on the speed of a machine. As a
script, `interrupts.py WHERE NUMBER ARGS...` runs a command line, says `here`
when `WHERE` has returned for the `NUMBER`-th time, and waits.
"""

import functools
import importlib
import sys
import time
from collections.abc import Callable
from typing import Any


def find(where: str) -> tuple[Any, str]:
    """Who holds `module:function` or `module:Class.method`, and its name."""
    module, _, path = where.partition(':')
    owner: Any = importlib.import_module(module)
    *outer, name = path.split('.')
    for part in outer:
        owner = getattr(owner, part)
    return owner, name


def after(
    function: Callable[..., Any], number: int, act: Callable[[], Any]
) -> Callable[..., Any]:
    """The same function, with an act behind its `number`-th call."""
    calls = 0

    @functools.wraps(function)
    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        out = function(*args, **kwargs)
        calls += 1
        if calls == number:
            act()
        return out

    return counted


def _wait() -> None:
    print('here', flush=True)
    time.sleep(600)


if __name__ == '__main__':
    from pyg_sea.cli import main

    where, number, *args = sys.argv[1:]
    owner, name = find(where)
    setattr(owner, name, after(getattr(owner, name), int(number), _wait))
    sys.exit(main(args))
