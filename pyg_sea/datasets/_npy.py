"""Reading and writing `.npy` files that need not fit into memory."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch_geometric import get_home_dir

# Raise it when cleaned copies come to hold something else.
_VERSION = 1


def read_npy(path: Path) -> NDArray[Any]:
    """Map one `.npy` file without ever unpickling anything.

    Changes of the array stay in memory; they never reach the file.

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
        array = np.load(path, mmap_mode='c', allow_pickle=False)
    except (EOFError, OSError, ValueError) as error:
        if 'pickle' in str(error) or 'Python objects' in str(error):
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


def write_npy(
    path: Path,
    shape: tuple[int, ...],
    dtype: type[np.floating[Any]],
    chunks: Iterable[NDArray[Any]],
) -> None:
    """Write chunks of rows as one `.npy` file, which appears when complete.

    Args:
        path: The file; its folder is created.
        shape: The shape of all rows together.
        dtype: What the chunks are cast to.
        chunks: The rows, in their order.

    Raises an `OSError` if that is impossible; nothing is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f'.{os.getpid()}.tmp')
    try:
        # A full disk raises here; behind a mapping it kills the process.
        with scratch.open('wb') as file:
            header = {
                'descr': np.lib.format.dtype_to_descr(np.dtype(dtype)),
                'fortran_order': False,
                'shape': shape,
            }
            np.lib.format.write_array_header_1_0(file, header)
            for rows in chunks:
                file.write(np.ascontiguousarray(rows, dtype).data)
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def cache_dir_of(cache_dir: str | Path | None) -> Path:
    """Return the folder of what can be made again, by default `pyg_sea` in
    PyG's home.
    """
    if cache_dir is None:
        return Path(get_home_dir()).expanduser() / 'pyg_sea'
    return Path(cache_dir).expanduser()


class CleanedCopies:
    """The cleaned copies of feature files that a folder holds.

    Their names say which state of which source they are made of, and how.

    Args:
        folder: The folder, which need not exist.
        source: The file or the content that is copied; a file is told from
            its successors by its size and modification time, so one that
            shares both with what it replaced is not seen.
        how: How it is cleaned.
    """

    def __init__(self, folder: Path, source: Path | bytes, how: str) -> None:
        if isinstance(source, Path):
            if folder.resolve() == source.parent.resolve():
                raise ValueError(
                    f"'cache_dir' needs to be another folder than "
                    f"'{source.parent}', which holds the source files"
                )
            stat = source.stat()
            state = f'{source.resolve()} {stat.st_size} {stat.st_mtime_ns}'
            source = state.encode()
        digest = hashlib.sha256(b'%d %s ' % (_VERSION, how.encode()) + source)
        self.folder = folder
        self.stem = digest.hexdigest()[:24]

    def find(self) -> tuple[NDArray[Any], int] | None:
        """Return the copy, if there is a sound one, and how many rows are
        zero.
        """
        for path in self.folder.glob(f'{self.stem}-*.npy'):
            try:
                x = read_npy(path)
            except ValueError:
                continue  # Damaged: it is as good as not there.
            return x, int(path.stem.removeprefix(f'{self.stem}-'))
        return None

    def path(self, num_zero: int) -> Path:
        """Return where to write the copy."""
        return self.folder / f'{self.stem}-{num_zero}.npy'
