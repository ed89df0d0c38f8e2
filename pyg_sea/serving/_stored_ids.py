"""External ids as tensors, of the type that they had."""

from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from pyg_sea.serving._ids import Ids


def to_tensors(ids: Ids, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Put ids into `tensors`, and return what else is needed to read them.

    Raises a `TypeError` for anything but integers and strings.
    """
    index, prefix = ids.index, f'{ids.kind}s'
    if index.inferred_type == 'integer' and isinstance(index.dtype, np.dtype):
        values = index.to_numpy()
        dtype = str(values.dtype)
        if dtype == 'object':
            raise _refuse(ids)
        tensors[f'{prefix}.id'] = torch.from_numpy(values.astype(np.int64))
        return {'type': 'integer', 'dtype': dtype}
    if index.inferred_type != 'string' and len(index) > 0:
        raise _refuse(ids)
    text = [value.encode() for value in index.tolist()]
    joined = np.frombuffer(b''.join(text), np.uint8)
    tensors[f'{prefix}.text'] = torch.from_numpy(joined.copy())
    tensors[f'{prefix}.size'] = torch.tensor([len(value) for value in text])
    return {'type': 'string'}


def from_tensors(
    prefix: str, stored: dict[str, Any], tensors: dict[str, Tensor]
) -> Any:
    """The ids that :func:`to_tensors` was given."""
    if stored['type'] == 'integer':
        values = tensors[f'{prefix}.id'].numpy()
        return pd.Index(values.astype(stored['dtype']))
    text = tensors[f'{prefix}.text'].numpy().tobytes()
    ends = tensors[f'{prefix}.size'].cumsum(0).tolist()
    starts = [0, *ends[:-1]]
    return [text[a:b].decode() for a, b in zip(starts, ends)]


def _refuse(ids: Ids) -> TypeError:
    return TypeError(
        f'to save a recommender needs {ids.kind} ids that are integers or '
        f'strings (got {ids.index.inferred_type}); convert them'
    )
