from numbers import Integral
from typing import Any


def check_count(name: str, value: Any) -> None:
    """Raises a `ValueError` unless a number is a positive integer."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    if not whole or value < 1:
        raise ValueError(
            f"'{name}' needs to be a positive integer (got {value!r})"
        )
