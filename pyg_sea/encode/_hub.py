"""Which model a name or a folder stands for."""

import hashlib
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from pyg_sea.datasets._sha256 import sha256_of

_EXTRA = 'pip install "pyg_sea[encode]"'


class ModelError(ValueError):
    """A model cannot be found or loaded."""


@dataclass(frozen=True)
class Source:
    """A folder, or a name with the commit that it stands for.

    Args:
        name: What to load from.
        revision: The commit; `None` for a folder.
        identity: Tells the files from all others.
    """

    name: str
    revision: str | None
    identity: str


def require(package: str) -> str:
    """Return the version of an optional package.

    Raises an `ImportError` that says which extra brings it.
    """
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise ImportError(f'encoding needs {package}: {_EXTRA}') from error


def import_optional(module: str) -> Any:
    """Return a module, or say which extra brings it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f'encoding needs {module.replace("_", "-")}, which cannot be '
            f'imported: {error}. {_EXTRA}'
        ) from error


def find_model(
    model: str | Path, revision: str | None, probes: Sequence[str]
) -> Source:
    """Return what `model` stands for, without loading it.

    Args:
        model: A folder, or a name on the Hugging Face hub.
        revision: A branch, tag or commit of the latter.
        probes: Files of which such a model has at least one.

    Raises a `ModelError` if there is no such model.
    """
    if not isinstance(model, str | Path):
        raise TypeError(
            "'model' needs to be the folder or name of a saved model (got "
            f"{type(model).__name__}); 'encode' takes any callable"
        )
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise ValueError(
                "'revision' belongs to a model on the Hugging Face hub, but "
                f"'{folder}' is a folder; leave it out"
            )
        return Source(str(folder), None, _hash_folder(folder))

    hub = import_optional('huggingface_hub')
    problem: Exception | None = None
    for probe in probes:
        try:
            path = hub.hf_hub_download(str(model), probe, revision=revision)
        except (OSError, ValueError) as error:
            problem = error
        else:
            # .../snapshots/<commit>/<probe>
            commit = Path(path).parent.name
            return Source(str(model), commit, f'{model}@{commit}')
    raise ModelError(
        f"'model' needs to be a folder, or the name of a model on the Hugging "
        f"Face hub that can be reached or was fetched before (got '{model}'): "
        f'{problem}'
    ) from problem


def find_device(device: str | torch.device) -> torch.device:
    """Return the device that is meant; `'auto'` takes a GPU if there is."""
    if device != 'auto':
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device('cuda')
    return torch.device('mps' if torch.backends.mps.is_available() else 'cpu')


def _hash_folder(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*')):
        name = path.relative_to(folder)
        hidden = any(part.startswith('.') for part in name.parts)
        if path.is_file() and path.suffix != '.md' and not hidden:
            digest.update(hashlib.sha256(name.as_posix().encode()).digest())
            digest.update(sha256_of(path))
    return digest.hexdigest()
