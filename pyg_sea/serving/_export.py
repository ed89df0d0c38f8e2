"""Vectors and ids as tables, for a vector database."""

import importlib
import json
import os
from pathlib import Path
from typing import Any

from torch import Tensor

import pyg_sea
from pyg_sea.serving._ids import Ids
from pyg_sea.serving._state import State

# Rows per row group.
_NUM_ROWS = 65_536


def export(state: State, path: str | os.PathLike[str]) -> list[Path]:
    """Write `users.parquet` and `items.parquet`."""
    try:
        arrow = importlib.import_module('pyarrow')
        parquet = importlib.import_module('pyarrow.parquet')
    except ImportError as error:
        raise ImportError(
            '\'export\' needs pyarrow: pip install "pyg_sea[export]"'
        ) from error
    folder = Path(path).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    about = {
        'pyg_sea': pyg_sea.__version__,
        'metric': 'inner product',
        'blocks': json.dumps(
            [
                [*block, cols.start, cols.stop]
                for block, cols in state.blocks.items()
            ]
        ),
    }
    return [
        _write(arrow, parquet, folder / f'{ids.kind}s.parquet', ids, x, about)
        for ids, x in ((state.users, state.user), (state.items, state.item))
    ]


def _write(
    arrow: Any,
    parquet: Any,
    file: Path,
    ids: Ids,
    x: Tensor,
    about: dict[str, str],
) -> Path:
    if ids.index.inferred_type.startswith('mixed'):
        raise TypeError(
            f"'export' needs {ids.kind} ids of one type (got "
            f'{ids.index.inferred_type}); convert them'
        )
    kind = arrow.array(ids.index[:1].to_numpy()).type
    schema = arrow.schema(
        [
            ('id', kind),
            ('vector', arrow.list_(arrow.float32(), x.size(1))),
        ],
        metadata=about,
    )
    part = file.with_name(f'.{file.name}.part')
    try:
        with parquet.ParquetWriter(part, schema) as writer:
            for start in range(0, len(ids), _NUM_ROWS):
                rows = slice(start, start + _NUM_ROWS)
                vectors = arrow.FixedSizeListArray.from_arrays(
                    arrow.array(x[rows].reshape(-1).numpy()), x.size(1)
                )
                names = arrow.array(ids.index[rows].to_numpy(), kind)
                writer.write_table(
                    arrow.table([names, vectors], schema=schema)
                )
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)
    return file
