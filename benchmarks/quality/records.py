"""Result files: one JSON line per run, and the metrics of every user."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# What decides a run. A line with the same values is not computed again.
KEY = ('data', 'inputs', 'model', 'settings', 'seed')


def key_of(row: Mapping[str, Any]) -> str:
    """A hash of what decides a run, 16 characters."""
    text = json.dumps({name: row[name] for name in KEY}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a file; none if it does not exist. A last line that was
    cut off while it was written is left out.
    """
    if not path.exists():
        return []
    *lines, rest = path.read_text(encoding='utf-8').split('\n')
    rows = [json.loads(line) for line in lines if line]
    try:
        return [*rows, json.loads(rest)] if rest else rows
    except json.JSONDecodeError:
        return rows


def append(path: Path, row: Mapping[str, Any]) -> None:
    """Adds a line in a single write, so that several processes can add to
    one file. What is left of a line that was cut off goes first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = (json.dumps(row) + '\n').encode()
    with path.open('ab+') as file:
        end = file.seek(0, os.SEEK_END)
        if end > 0:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b'\n':
                text = path.read_bytes()
                start = text.rfind(b'\n') + 1
                try:
                    json.loads(text[start:])
                    data = b'\n' + data
                except ValueError:
                    file.truncate(start)
    with path.open('ab', buffering=0) as file:
        file.write(data)
        os.fsync(file.fileno())


def users_path(path: Path, row: Mapping[str, Any]) -> Path:
    """Where the metrics of the users of a line of `path` lie. The name of the
    file is part of theirs: another one may have the same run of other code.
    """
    return path.parent / 'users' / f'{path.stem}_{key_of(row)}.npz'


def users_name(row: Mapping[str, Any]) -> str:
    """The name of the metrics of the users of a line that knows its `file`."""
    return users_path(Path(row['file']), row).stem


def write_users(path: Path, values: Mapping[str, Any]) -> None:
    """Writes metrics per user `[B]`, two bytes each."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix('.partial.npz')
    np.savez_compressed(
        partial,
        **{
            name: np.asarray(x).astype(np.float16)
            for name, x in values.items()
        },
    )
    partial.replace(path)


def read_users(path: Path) -> dict[str, np.ndarray]:
    """What :func:`write_users` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name].astype(np.float64) for name in file}


def best(
    rows: list[dict[str, Any]], data: str, inputs: Any, model: str
) -> dict[str, Any]:
    """The settings with the largest validation Recall@20, on average over
    seeds; the first of equals.

    Args:
        rows: The lines of a result file.
        data: The name of the catalogue.
        inputs: Its files, as in the lines.
        model: The name of the model.

    Raises a `ValueError` if there is no such line.
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        if (row['data'], row['inputs'], row['model']) == (data, inputs, model):
            settings = json.dumps(row['set'])
            values.setdefault(settings, []).append(
                row['validation']['recall@20']
            )
    if not values:
        raise ValueError(
            f"no trial of '{model}' on '{data}' with these inputs: run "
            'tune.py (for cold items, cold_start.py --select) first'
        )
    return json.loads(max(values, key=lambda name: np.mean(values[name])))
