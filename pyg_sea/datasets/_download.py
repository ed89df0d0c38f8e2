"""Fetching published files from a folder on Google Drive."""

import importlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from pyg_sea.datasets._sha256 import sha256_of


class DownloadError(Exception):
    """Files could not be fetched; the message says why."""


def verify_sha256(path: Path, expected: str | None = None) -> str:
    """Return the SHA-256 sum of a file.

    Raises a `ValueError` if another one is expected.
    """
    found = sha256_of(path).hex()
    if expected is not None and found != expected.lower():
        raise ValueError(
            f"'{path.name}' is not the expected file: SHA-256 {expected} "
            f'expected, {found} found. Remove it and fetch it again'
        )
    return found


def _select(
    listed: Mapping[str, str], required: Sequence[str], optional: Sequence[str]
) -> dict[str, str]:
    # All files of a catalogue lie beside the first of the required ones.
    paths = {PurePosixPath(path): key for path, key in listed.items()}
    folder = next((p.parent for p in paths if p.name == required[0]), None)
    if folder is None:
        raise DownloadError(
            f"the published folder does not hold '{required[0]}'"
        )
    missing = [name for name in required if folder / name not in paths]
    if missing:
        raise DownloadError(f'the published folder does not hold {missing}')
    return {
        name: paths[folder / name]
        for name in (*required, *optional)
        if folder / name in paths
    }


def _errors_of(gdown: Any) -> tuple[type[Exception], ...]:
    # The classes differ between the versions of gdown.
    known = vars(gdown.exceptions).values()
    return OSError, *(
        error
        for error in known
        if isinstance(error, type) and issubclass(error, Exception)
    )


def download_from_drive(
    folder_id: str,
    target: Path,
    required: Sequence[str],
    optional: Sequence[str] = (),
    sha256: Mapping[str, str] | None = None,
) -> None:
    """Fetch files from a public Google Drive folder through `gdown`.

    All of them arrive, with their sums in `SHA256SUMS`, or none does.

    Args:
        folder_id: The id of the folder.
        target: The existing folder to put the files into.
        required: File names; the others lie beside the first of them.
        optional: Names of files that are taken along if they are there.
        sha256: Expected sums by file name (default: `None`).

    Raises a `DownloadError` if that is impossible, a `ValueError` if a sum is
    not the expected one.
    """
    try:
        gdown = importlib.import_module('gdown')
    except ImportError as error:
        raise DownloadError(
            'downloading needs gdown: pip install "pyg_sea[download]"'
        ) from error

    # Beside the target, so that moving a file is atomic.
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        sums = {}
        try:
            # Listing first avoids fetching every other catalogue too.
            listed = gdown.download_folder(
                id=folder_id, skip_download=True, quiet=True
            )
            found = _select(
                {file.path: file.id for file in listed or ()},
                required,
                optional,
            )
            for name, file_id in found.items():
                path = Path(scratch, name)
                gdown.download(id=file_id, output=str(path), quiet=True)
                if not path.is_file():
                    raise DownloadError(f"'{name}' did not arrive")
                sums[name] = verify_sha256(path, (sha256 or {}).get(name))
        except _errors_of(gdown) as error:
            raise DownloadError(str(error).strip()) from error
        lines = [f'{value}  {name}\n' for name, value in sums.items()]
        Path(scratch, 'SHA256SUMS').write_text(''.join(lines))
        for name in ('SHA256SUMS', *sums):
            os.replace(Path(scratch, name), target / name)
