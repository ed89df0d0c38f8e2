"""What an item holds, as a hash."""

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyg_sea.datasets._sha256 import sha256_of


class MissingItemError(Exception):
    """There is nothing to encode; the message says why."""


def is_missing(value: Any) -> bool:
    """Return whether a value is `None` or NaN."""
    return pd.api.types.is_scalar(value) and bool(pd.isna(value))


def content_of(value: Any, names: bool = False) -> bytes:
    """Return 32 bytes that tell the contents of an item from any others.

    Args:
        value: The item.
        names: Whether what a text names, if it is a file, counts beside the
            text itself (default: `False`).

    Raises a `MissingItemError` if it has none, and a `TypeError` if they
    cannot be told.
    """
    kind, parts = _parts(value, names)
    digest = hashlib.sha256(f'{kind} {len(parts)}'.encode())
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return digest.digest()


def _parts(value: Any, names: bool) -> tuple[str, list[Any]]:
    if isinstance(value, str):
        if not value.strip():
            raise MissingItemError('empty')
        try:
            text = value.encode()
        except UnicodeEncodeError as error:
            raise MissingItemError('no valid Unicode') from error
        if names and os.path.isfile(value):
            # What is loaded may depend on the name, too.
            return 'named file', [text, _file(Path(value))]
        return 'text', [text]
    if isinstance(value, bytes):
        if not value:
            raise MissingItemError('empty')
        return 'bytes', [value]
    if isinstance(value, Path):
        return 'file', [_file(value)]
    if isinstance(value, Tensor):
        raw = value.detach().cpu().contiguous().reshape(-1)
        kind = f'tensor {value.dtype} {tuple(value.shape)}'
        return kind, [raw.view(torch.uint8).numpy()]
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        kind = f'array {value.dtype.str} {value.shape}'
        return kind, [np.ascontiguousarray(value).tobytes()]
    if isinstance(value, list | tuple):
        return 'list', [content_of(item, names) for item in value]
    if is_missing(value):
        raise MissingItemError('no value')
    if isinstance(value, bool | int | float | np.number | np.bool_):
        return f'number {type(value).__name__}', [repr(value).encode()]
    raise TypeError(
        f'no contents of type {type(value).__name__} can be told apart'
    )


def _file(path: Path) -> bytes:
    try:
        if path.stat().st_size == 0:
            raise MissingItemError('empty file')
        return sha256_of(path)
    except FileNotFoundError as error:
        raise MissingItemError('no such file') from error
    except OSError as error:
        raise MissingItemError(error.strerror or 'cannot be read') from error
