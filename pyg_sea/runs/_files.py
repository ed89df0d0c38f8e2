"""Files that appear when they are complete."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield a file to write beside `path`, which is moved over it then.

    Args:
        path: The file to appear; its folder is created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays: writers read the format from it.
    scratch = path.with_name(f'.{os.getpid()}.{path.name}')
    try:
        yield scratch
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write a dictionary."""
    text = json.dumps(content, indent=2, ensure_ascii=False)
    with replacing(path) as scratch:
        scratch.write_text(text + '\n', encoding='utf-8')


def read_json(path: Path) -> dict[str, Any]:
    """Read what :func:`write_json` wrote.

    Raises a `ValueError` if the file holds anything else.
    """
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(
            f"'{path}' is cut short or was changed: {error}"
        ) from error
    if not isinstance(content, dict):
        raise ValueError(f"'{path}' was not written by pyg_sea")
    return content
