import zlib
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

_UNREADABLE = (
    EOFError,
    OSError,
    TypeError,
    ValueError,
    BadZipFile,
    zlib.error,
)


def read_knn_graph(path: str | Path) -> Tensor:
    r"""Reads a published neighbour graph for
    :class:`~pyg_sea.transforms.ModalKNNGraph`.

    Args:
        path: An `.npz` file with the integers `row` (items), `col` (their
            neighbours) and `n` (number of items). Other fields, such as
            weights, are not used: SEA's graph gives all neighbours of an item
            the same weight.

    Shapes:
        - output: `[2, E]`, row 0 the neighbour, row 1 the item

    Raises a `FileNotFoundError`, or a `ValueError` if the file is damaged,
    pickled, lacks a field or has ids that are no items.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from pyg_sea.transforms import read_knn_graph
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder, 'image_knn2.npz')
        ...     np.savez(path, row=[0, 0, 1, 1], col=[0, 1, 1, 0], n=2)
        ...     read_knn_graph(path).tolist()
        [[0, 1, 1, 0], [0, 0, 1, 1]]
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            edge_index = np.stack([file['col'], file['row']])
            num = int(file['n'])
    except FileNotFoundError:
        raise
    except KeyError as error:
        raise ValueError(
            f"'{path}' needs the fields 'row', 'col' and 'n': {error}"
        ) from error
    except _UNREADABLE as error:
        raise ValueError(f"'{path}' is no readable .npz: {error}") from error
    if edge_index.ndim != 2 or not np.issubdtype(edge_index.dtype, np.integer):
        raise ValueError(
            f"'row' and 'col' of '{path}' need to be lists of integers (got "
            f'{edge_index.dtype} {list(edge_index.shape[1:])})'
        )
    if edge_index.size > 0 and not (
        edge_index.min() >= 0 and edge_index.max() < num
    ):
        raise ValueError(
            f"'row' and 'col' of '{path}' need to be items in [0, {num}) (got "
            f'{edge_index.min()} to {edge_index.max()})'
        )
    return torch.from_numpy(edge_index.astype(np.int64))
