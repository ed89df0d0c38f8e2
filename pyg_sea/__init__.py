"""Separate learning for multimedia recommendation on graphs."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyg_sea.serving import Recommender as Recommender

__version__ = '0.1.0'


def __getattr__(name: str) -> Any:
    # To import the package imports nothing else.
    if name == 'Recommender':
        from pyg_sea.serving import Recommender

        return Recommender
    raise AttributeError(f"module 'pyg_sea' has no attribute {name!r}")
