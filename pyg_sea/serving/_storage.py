"""One folder: a manifest in JSON, and tensors."""

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from torch import Tensor

import pyg_sea
from pyg_sea.datasets._sha256 import sha256_of
from pyg_sea.serving._ids import Ids
from pyg_sea.serving._item_encoder import ItemEncoder
from pyg_sea.serving._state import Graph, Seen, State, Terms
from pyg_sea.serving._stored_ids import from_tensors, to_tensors

FORMAT = 'pyg_sea recommender'
FORMAT_VERSION = 1
MANIFEST = 'recommender.json'
TENSORS = 'recommender.safetensors'
_TERMS = ('own', 'norm', 'message', 'scale', 'new_scale', 'trained')


def import_safetensors() -> Any:
    """Return the module, or say which extra brings it."""
    try:
        import safetensors.torch
    except ImportError as error:
        raise ImportError(
            'to save or load a recommender needs safetensors: '
            'pip install "pyg_sea[hub]"'
        ) from error
    return safetensors.torch


def save(state: State, path: str | os.PathLike[str]) -> None:
    """Write the folder beside its place, and move it there when complete."""
    safetensors = import_safetensors()
    target = Path(path).expanduser().absolute()
    if target.exists() and not (
        target.is_dir()
        and ((target / MANIFEST).is_file() or not any(target.iterdir()))
    ):
        raise FileExistsError(
            f"'{target}' is there already and no saved recommender: remove "
            'it, or choose another folder'
        )
    tensors, content = _pack(state)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(
        tempfile.mkdtemp(prefix=f'.{target.name}-', dir=target.parent)
    )
    try:
        new, old = scratch / 'new', scratch / 'old'
        new.mkdir()
        tensors = {key: x.contiguous() for key, x in tensors.items()}
        safetensors.save_file(tensors, str(new / TENSORS))
        manifest = {
            'format': FORMAT,
            'format_version': FORMAT_VERSION,
            'pyg_sea': pyg_sea.__version__,
            'content': content,
            'files': {TENSORS: _describe(new / TENSORS)},
        }
        manifest['sha256'] = _digest(manifest)
        text = json.dumps(manifest, indent=2, ensure_ascii=False)
        (new / MANIFEST).write_text(text + '\n', encoding='utf-8')
        with contextlib.suppress(FileNotFoundError):
            target.rename(old)
        new.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def load(path: str | os.PathLike[str]) -> State:
    """Read the folder, and check that it is what was written.

    Raises a `FileNotFoundError` or a `ValueError` if it is not.
    """
    safetensors = import_safetensors()
    folder = Path(path).expanduser()
    manifest = _read_manifest(folder)
    for name, wanted in manifest['files'].items():
        file = folder / name
        if not file.is_file():
            raise FileNotFoundError(
                f"'{folder}' lacks '{name}': copy the whole folder"
            )
        if file.stat().st_size != wanted['size']:
            raise ValueError(
                f"'{file}' is cut short or was changed: it has "
                f'{file.stat().st_size:,} bytes, and had {wanted["size"]:,}'
            )
        if _describe(file) != wanted:
            raise ValueError(
                f"'{file}' was changed after it was written (its SHA-256 is "
                'another one)'
            )
    tensors = safetensors.load_file(str(folder / TENSORS))
    return _unpack(tensors, manifest['content'])


def _read_manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    if not file.is_file():
        raise FileNotFoundError(
            f"'{folder}' is no saved recommender: it has no '{MANIFEST}'"
        )
    try:
        manifest = json.loads(file.read_text(encoding='utf-8'))
    except ValueError as error:
        raise ValueError(
            f"'{file}' is cut short or was changed: {error}"
        ) from error
    if not isinstance(manifest, dict) or manifest.get('format') != FORMAT:
        raise ValueError(f"'{file}' was not written by pyg_sea")
    version = manifest.get('format_version')
    if version != FORMAT_VERSION:
        raise ValueError(
            f"'{folder}' has format {version}, written by pyg_sea "
            f'{manifest.get("pyg_sea")}; pyg_sea {pyg_sea.__version__} reads '
            f'format {FORMAT_VERSION}: install the other one'
        )
    digest = manifest.pop('sha256', None)
    if digest != _digest(manifest):
        raise ValueError(
            f"'{file}' was changed after it was written (its SHA-256 is "
            'another one)'
        )
    return manifest


def _pack(state: State) -> tuple[dict[str, Tensor], dict[str, Any]]:
    tensors = {
        'user': state.user,
        'item': state.item,
        'seen.pairs': state.seen.pairs.int(),
        'seen.weight': state.seen.weight,
    }
    content: dict[str, Any] = {
        'blocks': [
            [*block, cols.start, cols.stop]
            for block, cols in state.blocks.items()
        ],
        'users': to_tensors(state.users, tensors),
        'items': to_tensors(state.items, tensors),
        'unit': None,
        'encoder': None,
        'graph': None,
        'features': None,
    }
    if state.terms is not None:
        content['unit'] = state.terms.unit
        for name in _TERMS:
            tensors[f'terms.{name}'] = getattr(state.terms, name)
    if state.encoder is not None:
        content['encoder'] = state.encoder.config
        for name, x in state.encoder.state_dict().items():
            tensors[f'encoder.{name}'] = x
    if state.graph is not None:
        content['graph'] = vars(state.graph)
    if state.features is not None:
        content['features'] = list(state.features)
        for name, x in state.features.items():
            tensors[f'features.{name}'] = x
    return tensors, content


def _unpack(tensors: dict[str, Tensor], content: dict[str, Any]) -> State:
    users = Ids('user', from_tensors('users', content['users'], tensors))
    items = Ids('item', from_tensors('items', content['items'], tensors))
    terms = encoder = graph = features = None
    if content['unit'] is not None:
        parts = {name: tensors[f'terms.{name}'] for name in _TERMS}
        terms = Terms(**parts, unit=content['unit'])
    if content['encoder'] is not None:
        encoder = ItemEncoder(**content['encoder'])
        prefix = 'encoder.'
        encoder.load_state_dict(
            {
                name.removeprefix(prefix): x
                for name, x in tensors.items()
                if name.startswith(prefix)
            }
        )
        encoder.eval().requires_grad_(False)
    if content['graph'] is not None:
        graph = Graph(**content['graph'])
    if content['features'] is not None:
        features = {
            name: tensors[f'features.{name}'] for name in content['features']
        }
    pairs, weight = tensors['seen.pairs'].long(), tensors['seen.weight']
    return State(
        tensors['user'],
        tensors['item'],
        users,
        items,
        {(m, part): slice(*cols) for m, part, *cols in content['blocks']},
        Seen(pairs, weight, len(users)),
        terms,
        encoder,
        graph,
        features,
    )


def _describe(file: Path) -> dict[str, Any]:
    return {'size': file.stat().st_size, 'sha256': sha256_of(file).hex()}


def _digest(manifest: dict[str, Any]) -> str:
    text = json.dumps(manifest, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()
