"""Feature matrices are checked and cleaned here, and nowhere else."""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_sea.datasets._matrix import Matrix
from pyg_sea.datasets._moments import Moments
from pyg_sea.datasets._npy import CleanedCopies, read_npy, write_npy

Normalize: TypeAlias = Literal['l2', 'standard'] | None
NormalizeArg: TypeAlias = Normalize | Mapping[str, Normalize]


def _some(labels: Sequence[Any] | NDArray[Any]) -> str:
    head = ', '.join(str(label) for label in labels[:5])
    return head + (', ...' if len(labels) > 5 else '')


class _Cleaner:
    """Reads a matrix once to check it, and again to normalise it. Rows of
    NaN become zero.
    """

    def __init__(
        self,
        matrix: Matrix,
        how: Normalize,
        row_names: NDArray[Any] | None = None,
        hash_content: bool = False,
    ) -> None:
        self.matrix = matrix
        self.how = how
        self.has_features = np.zeros(len(matrix), dtype=bool)
        self.content = hashlib.sha256(str(matrix.shape).encode())
        self.moments = Moments()
        self.has_nan = False
        bad = []
        for rows, x in matrix.chunks():
            broken = ~np.isfinite(x).all(axis=1)
            if broken.any():
                is_nan = np.isnan(x).all(axis=1)
                x[is_nan] = 0
                self.has_nan |= bool(is_nan.any())
                broken &= ~is_nan
            if broken.any():
                bad.append(rows.start + np.flatnonzero(broken))
            has_features = x.any(axis=1)
            self.has_features[rows] = has_features
            if how == 'standard' and not bad:
                self.moments.add(x[has_features].astype(np.float64))
            if hash_content:
                self.content.update(x.data)
        if bad:
            self._refuse(np.concatenate(bad), row_names)

    def _refuse(
        self, bad: NDArray[np.int64], row_names: NDArray[Any] | None
    ) -> None:
        where = 'rows' if row_names is None else 'items'
        labels = bad if row_names is None else row_names[bad]
        raise ValueError(
            f"the features of modality '{self.matrix.name}' hold NaN, "
            f'infinite or larger than float32 values in {len(bad):,} of '
            f'{len(self.matrix):,} {where}: {_some(labels)}. Repair them, or '
            'set the whole row to NaN or zero for an item that lacks this '
            'modality'
        )

    @property
    def num_zero(self) -> int:
        return int((~self.has_features).sum())

    def chunks(self) -> Iterator[tuple[slice, NDArray[np.float32]]]:
        """Yield normalised rows."""
        for rows, x in self.matrix.chunks():
            there = self.has_features[rows]
            if self.has_nan:
                x[~there] = 0
            if self.how == 'l2':
                # Scaling by the largest entry keeps the squares in range.
                x /= np.where(there, np.abs(x).max(axis=1), 1)[:, None]
                norm = np.linalg.norm(x, axis=1)
                x /= np.where(there, norm, 1)[:, None]
            elif self.how == 'standard' and there.any():
                x[there] = self.moments.standardize(x[there])
            yield rows, x


def _in_memory(
    matrix: Matrix, how: Normalize, row_names: NDArray[Any] | None
) -> tuple[Tensor, int]:
    cleaner = _Cleaner(matrix, how, row_names)
    out = np.empty(matrix.shape, np.float32)
    for rows, x in cleaner.chunks():
        out[rows] = x
    return torch.from_numpy(out), cleaner.num_zero


def _on_disk(
    matrix: Matrix,
    how: Normalize,
    row_names: NDArray[Any] | None,
    cache_dir: Path,
    half: bool,
) -> tuple[Tensor, int]:
    mapped = matrix.mapped() if how is None else None
    if mapped is not None and (half or mapped.dtype == torch.float32):
        checked = _Cleaner(matrix, how, row_names)
        if not checked.has_nan:
            return mapped, checked.num_zero

    dtype = np.float16 if half and matrix.is_half else np.float32
    cleaner = None
    source: Path | bytes | None = matrix.source
    if source is None:
        cleaner = _Cleaner(matrix, how, row_names, hash_content=True)
        source = cleaner.content.digest()
    copies = CleanedCopies(cache_dir, source, f'{how} {dtype.__name__}')
    found = copies.find()
    if found is None:
        cleaner = cleaner or _Cleaner(matrix, how, row_names)
        path = copies.path(cleaner.num_zero)
        try:
            chunks = (x for _, x in cleaner.chunks())
            write_npy(path, matrix.shape, dtype, chunks)
        except OSError as error:
            raise OSError(
                f"the features of modality '{matrix.name}' need a cleaned "
                f"copy in '{cache_dir}', which cannot be written: {error}. "
                "Name another folder with 'cache_dir'"
            ) from error
        found = read_npy(path), cleaner.num_zero
    x, num_zero = found
    return torch.from_numpy(x), num_zero


def normalize_of(name: str, normalize: NormalizeArg) -> Normalize:
    """Return the normalisation of one modality."""
    return normalize.get(name) if isinstance(normalize, Mapping) else normalize


def check_normalize(
    normalize: NormalizeArg, modalities: Sequence[str]
) -> None:
    """Refuse unknown ways to normalise, and unknown modalities."""
    if isinstance(normalize, Mapping):
        unknown = [name for name in normalize if name not in modalities]
        if unknown:
            raise ValueError(
                f"'normalize' names unknown modalities {unknown} (known: "
                f'{list(modalities)})'
            )
    for name in modalities:
        how = normalize_of(name, normalize)
        if how not in ('l2', 'standard', None):
            raise ValueError(
                f"'normalize' needs to be 'l2', 'standard' or None, or a "
                f'dictionary of these per modality (got {how!r})'
            )


def clean_features(
    features: Mapping[str, Any],
    normalize: NormalizeArg = None,
    row_names: NDArray[Any] | None = None,
    cache_dir: Path | None = None,
    half: bool = True,
) -> dict[str, Tensor]:
    """Turn feature matrices as found in the wild into float32 tensors.

    Args:
        features: One `[num_items, width]` matrix of floats per modality.
        normalize: `'l2'` scales rows to unit length; `'standard'` gives every
            column mean 0 and standard deviation `1 / sqrt(width)`, constant
            columns becoming 0; `None` leaves values as they are. A dictionary
            sets it per modality. Rows of NaN or zeros, items without this
            modality, become zero, and do not count in the statistics.
        row_names: What messages call the rows (default: row numbers).
        cache_dir: If given, tensors are memory-mapped: over the files that
            matrices are mapped from, where these hold what is wanted, else
            over cleaned copies, which are kept here (default: `None`).
        half: Whether mapped float16 stays float16 (default: `True`).

    Raises a `TypeError` or `ValueError` on anything else than finite floats
    and rows of NaN, one row per item, and an `OSError` if a copy cannot be
    written. Warns once, with the number of such rows per modality.
    """
    if len(features) == 0:
        raise ValueError('at least one modality with features is needed')
    for name in features:
        if not isinstance(name, str) or not name:
            raise ValueError(f'modality names are strings (got {name!r})')
    check_normalize(normalize, list(features))

    out: dict[str, Tensor] = {}
    lacking = []
    for name, x in features.items():
        matrix = x if isinstance(x, Matrix) else Matrix(name, x)
        how = normalize_of(name, normalize)
        if cache_dir is None:
            out[name], num_zero = _in_memory(matrix, how, row_names)
        else:
            out[name], num_zero = _on_disk(
                matrix, how, row_names, cache_dir, half
            )
        if num_zero > 0:
            lacking.append(
                f"modality '{name}': {num_zero:,} of {len(matrix):,} items"
            )
    if lacking:
        warnings.warn(
            f'{", ".join(lacking)} have rows of zeros or NaN: these items '
            'lack the modality, and are left out where it is learned',
            stacklevel=4,
        )

    sizes = {name: x.size(0) for name, x in out.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            'all modalities need the same number of rows, one per item (got '
            f'{sizes})'
        )
    return out
