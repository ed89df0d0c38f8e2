"""What is to be encoded, and with what."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pyg_sea._count import check_count


@dataclass(frozen=True)
class Job:
    """What is asked for, checked.

    Args:
        name: The argument that holds the values, for messages.
        values: One per item.
        out: The file to write.
        key: Tells the model from all others.
        load: Reads one value, in threads; `None` takes values as they are.
        function: Computes the rows of a batch.
        size: Batches are made of values of about one size; `None` keeps the
            order.
    """

    name: str
    values: list[Any]
    out: Path
    key: str
    function: Callable[[list[Any]], Any]
    load: Callable[[Any], Any] | None = None
    size: Callable[[Any], int] | None = None
    batch_size: int = 32
    num_threads: int = 4
    ids: Sequence[Any] | None = None
    cache_dir: str | Path | None = None
    progress: bool = True

    def __post_init__(self) -> None:
        if not self.values:
            raise ValueError(f"'{self.name}' needs at least one item (got 0)")
        if self.out.suffix != '.npy':
            raise ValueError(
                f"'out' needs to be the path of a .npy file (got '{self.out}')"
            )
        for name in ('batch_size', 'num_threads'):
            check_count(name, getattr(self, name))
        if self.ids is not None and len(self.ids) != len(self.values):
            raise ValueError(
                f"'ids' needs one id for each of the {len(self.values):,} "
                f'items (got {len(self.ids):,})'
            )

    def bar(self, what: str, total: int) -> Any:
        """Return a progress bar."""
        return tqdm(
            total=total,
            desc=f'{self.out.name}, {what}',
            unit='item',
            disable=not self.progress,
        )

    def label(self, i: int) -> str:
        """What messages call an item."""
        label = str(i if self.ids is None else self.ids[i])
        value = self.values[i]
        return f"{label} '{value}'" if isinstance(value, Path) else label


def as_values(name: str, values: Iterable[Any]) -> list[Any]:
    """Return a list; one text or path alone is a mistake."""
    if isinstance(values, str | bytes | Path):
        raise TypeError(
            f"'{name}' needs to be a sequence with one entry per item (got "
            f'one {type(values).__name__}); put it into a list'
        )
    return list(values)
