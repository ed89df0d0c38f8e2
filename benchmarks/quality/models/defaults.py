"""What an argument is if nobody gives it."""

import inspect
from collections.abc import Callable
from typing import Any


def default(name: str, *functions: Callable[..., Any]) -> Any:
    """The default of an argument, of the first function or class that has
    it.
    """
    for function in functions:
        parameters = inspect.signature(function).parameters
        if name in parameters:
            return parameters[name].default
    raise ValueError(f"no argument '{name}' in {functions}")


def times(value: float, factor: float) -> float:
    """Their product, without the digits that rounding leaves."""
    return float(f'{value * factor:.6g}')
