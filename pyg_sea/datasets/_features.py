"""Feature matrices are read and cleaned here, and nowhere else."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Normalize: TypeAlias = Literal['l2', 'standard'] | None
NormalizeArg: TypeAlias = Normalize | Mapping[str, Normalize]


def read_npy(path: Path) -> NDArray[Any]:
    """Read one `.npy` file without ever unpickling anything.

    Raises a `FileNotFoundError` when it is not there, a `ValueError` when it
    is cut short, pickled or no `.npy` file.
    """
    if not path.is_file():
        there = sorted(p.name for p in path.parent.glob('*.npy'))
        raise FileNotFoundError(
            f"the feature file '{path}' does not exist (.npy files in that "
            f"folder: {there}). Name the files with 'modalities', e.g. "
            "{'image': 'image_feat.npy'}"
        )
    try:
        array = np.load(path, allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        if 'pickle' in str(error):
            raise ValueError(
                f"'{path}' holds pickled objects or is no .npy file; it "
                'needs to be a plain array of floats, written with np.save '
                '(pickles are never loaded: they can run code)'
            ) from error
        raise ValueError(
            f"'{path}' cannot be read as .npy, it is cut short or damaged: "
            f'{error}. Fetch or write it again'
        ) from error
    if not isinstance(array, np.ndarray):
        raise ValueError(
            f"'{path}' is a .npz archive; one .npy file per modality is needed"
        )
    return array


def _some(labels: Sequence[Any] | NDArray[Any]) -> str:
    head = ', '.join(str(label) for label in labels[:5])
    return head + (', ...' if len(labels) > 5 else '')


def _to_float32(
    name: str, x: Any, row_names: NDArray[Any] | None
) -> NDArray[np.float32]:
    array = x.detach().cpu() if isinstance(x, Tensor) else np.asarray(x)
    if isinstance(array, Tensor):
        # NumPy has no bfloat16.
        array = (array.float() if array.is_floating_point() else array).numpy()
    if array.ndim != 2 or array.shape[1] == 0:
        raise ValueError(
            f"the features of modality '{name}' need the shape [num_items, "
            f'width] with a width of at least 1 (got {list(array.shape)})'
        )
    if not np.issubdtype(array.dtype, np.floating):
        raise TypeError(
            f"the features of modality '{name}' need to be floats (got "
            f'{array.dtype}); if these numbers are no ids or codes, convert '
            'them with .astype(np.float32)'
        )
    with np.errstate(over='ignore'):
        out = np.array(array, dtype=np.float32, order='C')
    bad = np.flatnonzero(~np.isfinite(out).all(axis=1))
    if len(bad) > 0:
        where = 'rows' if row_names is None else 'items'
        labels = bad if row_names is None else row_names[bad]
        raise ValueError(
            f"the features of modality '{name}' hold NaN, infinite or larger "
            f'than float32 values in {len(bad):,} of {len(out):,} {where}: '
            f'{_some(labels)}. Repair them, or set the whole row to zero for '
            'an item that lacks this modality'
        )
    return out


def _normalize(
    x: NDArray[Any], has_features: NDArray[np.bool_], how: Normalize
) -> NDArray[Any]:
    if how == 'l2':
        # Scaling by the largest entry first keeps the squares in range.
        largest = np.abs(x).max(axis=1, keepdims=True)
        x = x / np.where(has_features[:, None], largest, 1)
        norm = np.linalg.norm(x, axis=1, keepdims=True)
        x = x / np.where(has_features[:, None], norm, 1)
    elif how == 'standard' and has_features.any():
        rows = x[has_features].astype(np.float64)
        mean, std = rows.mean(axis=0), rows.std(axis=0)
        # The standard deviation of a constant column is rounding noise.
        constant = std <= 1e-7 * np.abs(mean)
        scale = np.where(constant, 1, std) * np.sqrt(x.shape[1])
        rows = np.where(constant, 0, (rows - mean) / scale)
        x = np.zeros_like(x)
        x[has_features] = rows
    return x


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
) -> dict[str, Tensor]:
    """Turn feature matrices as found in the wild into float32 tensors.

    Args:
        features: One `[num_items, width]` matrix of floats per modality.
        normalize: `'l2'` scales rows to unit length; `'standard'` gives every
            column mean 0 and standard deviation `1 / sqrt(width)`, constant
            columns becoming 0; `None` leaves values as they are. A dictionary
            sets it per modality. All-zero rows stay zero, and do not
            count in the statistics.
        row_names: What messages call the rows (default: row numbers).

    Raises a `TypeError` or `ValueError` on anything else than finite floats
    with one row per item.
    """
    if len(features) == 0:
        raise ValueError('at least one modality with features is needed')
    for name in features:
        if not isinstance(name, str) or not name:
            raise ValueError(f'modality names are strings (got {name!r})')
    check_normalize(normalize, list(features))

    out: dict[str, Tensor] = {}
    for name, x in features.items():
        array = _to_float32(name, x, row_names)
        has_features = (array != 0).any(axis=1)
        num_zero = len(array) - int(has_features.sum())
        if num_zero > 0:
            warnings.warn(
                f"modality '{name}': {num_zero:,} of {len(array):,} items "
                'have all-zero features',
                stacklevel=4,
            )
        how = normalize_of(name, normalize)
        normalized = _normalize(array, has_features, how)
        out[name] = torch.from_numpy(normalized).float()

    sizes = {name: x.size(0) for name, x in out.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(
            'all modalities need the same number of rows, one per item (got '
            f'{sizes})'
        )
    return out
