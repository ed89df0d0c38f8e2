from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Encoded:
    """A feature file, and what it took to write it.

    Every item is computed, cached or missing:
    `num_items == num_computed + num_cached + missing.sum()`.

    Args:
        path: The `.npy` file.
        num_items: The number of its rows.
        num_computed: How many items were computed in this call. Equal
            contents are computed once, and each of them counts.
        num_cached: How many items had been computed before.
        missing: Which rows are NaN.
        reasons: Why, by row (default: none).

    Shapes:
        - missing: `[I]`, bool

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from pyg_sea.encode import encode
        >>> with tempfile.TemporaryDirectory() as root:
        ...     done = encode([1.0, 2.0, 1.0], np.vstack, Path(root, 'x.npy'),
        ...                   key='identity', cache_dir=root, progress=False)
        >>> done.num_items, done.num_computed, done.num_cached
        (3, 3, 0)
        >>> done.missing
        array([False, False, False])
    """

    path: Path
    num_items: int
    num_computed: int
    num_cached: int
    missing: NDArray[np.bool_]
    reasons: dict[int, str] = field(default_factory=dict)
