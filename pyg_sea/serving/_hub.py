"""The folder on the Hugging Face hub."""

import importlib
import tempfile
from pathlib import Path
from typing import Any

from pyg_sea.serving._state import State
from pyg_sea.serving._storage import MANIFEST, TENSORS, load, save

_CARD = """---
library_name: pyg_sea
tags: [recommender-system, multimodal]
---

A recommender of pyg_sea: {users:,} users, {items:,} items.

```python
from pyg_sea import Recommender

recommender = Recommender.from_pretrained('{name}')
recommender.recommend(k=20)
```
"""


def push(state: State, name: str, private: bool | None, **kwargs: Any) -> str:
    """Upload the folder; the arguments are those of
    :meth:`~pyg_sea.serving.Recommender.push_to_hub`.
    """
    hub = import_hub()
    api = hub.HfApi(token=kwargs.pop('token', None))
    api.create_repo(name, private=private, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch, 'recommender')
        save(state, folder)
        sizes = {'users': len(state.users), 'items': len(state.items)}
        (folder / 'README.md').write_text(
            _CARD.format(name=name, **sizes), encoding='utf-8'
        )
        kwargs.setdefault('commit_message', 'A recommender of pyg_sea')
        return str(
            api.upload_folder(repo_id=name, folder_path=folder, **kwargs)
        )


def pull(name: str, **kwargs: Any) -> State:
    """Load a folder, or fetch one first."""
    if Path(name).expanduser().is_dir():
        return load(name)
    hub = import_hub()
    files = [MANIFEST, TENSORS]
    return load(hub.snapshot_download(name, allow_patterns=files, **kwargs))


def import_hub() -> Any:
    """Return the module, or say which extra brings it."""
    try:
        return importlib.import_module('huggingface_hub')
    except ImportError as error:
        raise ImportError(
            'to share a recommender needs huggingface_hub: '
            'pip install "pyg_sea[hub]"'
        ) from error
