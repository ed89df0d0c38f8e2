"""Rows on disk by the contents that they were computed from."""

import contextlib
import struct
import uuid
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_MAGIC = b'rows'
# Magic, CRC-32 of all that follows, rows, columns; then the contents, 32 bytes
# each, and the rows.
_HEADER = struct.Struct('<4sIII')
_DIGEST = 32


class RowStore:
    """An append-only folder of rows, which any number of processes may use.

    A process writes to a file of its own, a whole batch at a time. What an
    interrupted one leaves at the end of its file does not match its check sum
    and is skipped.

    Args:
        folder: Where the rows of one model are kept; it need not exist.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.num_columns: int | None = None
        self._where: dict[bytes, tuple[Path, int]] = {}
        self._file: BinaryIO | None = None
        self._maps: dict[Path, NDArray[np.uint8]] = {}
        for path in sorted(folder.glob('*.rows')):
            self._scan(path)

    def __contains__(self, content: bytes) -> bool:
        return content in self._where

    def __getitem__(self, content: bytes) -> NDArray[np.float32]:
        path, start = self._where[content]
        if path not in self._maps:
            self._maps[path] = np.memmap(path, np.uint8, 'r')
        stop = start + 4 * (self.num_columns or 0)
        return self._maps[path][start:stop].view('<f4')

    def append(
        self, contents: Sequence[bytes], rows: NDArray[np.float32]
    ) -> None:
        """Keep a batch of rows; they survive the process from here on.

        Raises an `OSError` if they cannot be written.
        """
        body = b''.join(contents) + rows.astype('<f4', order='C').tobytes()
        header = _HEADER.pack(_MAGIC, zlib.crc32(body), *rows.shape)
        try:
            if self._file is None:
                self.folder.mkdir(parents=True, exist_ok=True)
                path = self.folder / f'{uuid.uuid4().hex}.rows'
                self._file = path.open('xb')
            path, start = Path(self._file.name), self._file.tell()
            self._file.write(header + body)
            self._file.flush()
        except OSError as error:
            raise OSError(
                f"finished rows cannot be kept in '{self.folder}': {error}. "
                "Name another folder with 'cache_dir'"
            ) from error
        self._add(path, start + _HEADER.size, contents, rows.shape[1])

    def close(self) -> None:
        """Write no more; what there is can still be read."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # `append` has said so.
                self._file.close()

    def _add(
        self, path: Path, start: int, contents: Sequence[bytes], width: int
    ) -> None:
        self.num_columns = width
        start += len(contents) * _DIGEST
        for i, content in enumerate(contents):
            self._where.setdefault(content, (path, start + 4 * i * width))

    def _scan(self, path: Path) -> None:
        size = path.stat().st_size
        with path.open('rb') as file:
            while len(head := file.read(_HEADER.size)) == _HEADER.size:
                magic, crc, num_rows, width = _HEADER.unpack(head)
                start = file.tell()
                length = num_rows * (_DIGEST + 4 * width)
                if magic != _MAGIC or start + length > size:
                    return
                body = file.read(length)
                fits = self.num_columns in (None, width)
                if fits and zlib.crc32(body) == crc:
                    contents = [
                        body[i * _DIGEST : (i + 1) * _DIGEST]
                        for i in range(num_rows)
                    ]
                    self._add(path, start, contents, width)
