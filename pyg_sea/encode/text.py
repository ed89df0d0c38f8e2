from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyg_sea.encode._content import is_missing
from pyg_sea.encode._hub import (
    ModelError,
    Source,
    find_device,
    find_model,
    import_optional,
    require,
)
from pyg_sea.encode._job import Job, as_values
from pyg_sea.encode._run import run
from pyg_sea.encode.result import Encoded


def encode_text(
    texts: Iterable[str | None],
    model: str | Path,
    out: str | Path,
    *,
    prompt: str | None = None,
    revision: str | None = None,
    batch_size: int = 32,
    device: str | torch.device = 'auto',
    half: bool = False,
    ids: Sequence[Any] | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Encoded:
    r"""Writes a feature file of texts by a model of `Sentence Transformers
    <https://sbert.net>`_, which pools and normalises as its own settings say.

    Files, interruptions, repeated calls and missing items are as in
    :func:`encode`. The model is told by the hash of its folder, or by its
    name and commit on the hub, by the version of the library, by `prompt` and
    by `half`; it is loaded only if there is something to compute.

    Texts are taken as they are, and cut where the model cuts them. Those of
    about one length share a batch.

    Args:
        texts: One per item. `None`, NaN and empty texts are missing.
        model: The folder of a saved model, or a name on the Hugging Face hub,
            such as `'sentence-transformers/all-MiniLM-L6-v2'`.
        out: The `.npy` file to write.
        prompt: What is put before each text (default: `None`, what the
            model's own settings say).
        revision: Branch, tag or commit on the hub (default: `None`, the
            newest).
        batch_size: How many texts are encoded at a time (default: `32`).
        device: Where the model computes; `'auto'` takes a GPU if there is one
            (default: `'auto'`).
        half: Whether it computes in half precision (default: `False`).
        ids: As in :func:`encode` (default: `None`).
        cache_dir: As in :func:`encode` (default: `None`).
        progress: Whether to show progress bars (default: `True`).

    Shapes:
        - the file: `[I, F]`, float32

    Raises an `ImportError` without the extra `encode`, a `TypeError` for what
    is no text, and a `ValueError` for a model that is not there or cannot be
    loaded, and if all texts are missing. Warns with the number of missing
    items and the first of them.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from pyg_sea.encode import encode_text
        >>> from sentence_transformers import SentenceTransformer
        >>> from sentence_transformers.sentence_transformer.modules import (
        ...     StaticEmbedding)
        >>> from tokenizers import Tokenizer
        >>> from tokenizers.models import WordLevel
        >>> tiny = Tokenizer(WordLevel({'tea': 0, '?': 1}, unk_token='?'))
        >>> tiny = StaticEmbedding(tiny, embedding_dim=8)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     SentenceTransformer(modules=[tiny]).save(root + '/tiny')
        ...     done = encode_text(['tea', 'cup', 'tea'], root + '/tiny',
        ...                        Path(root, 'text_feat.npy'),
        ...                        cache_dir=root, progress=False)
        ...     x = np.load(done.path)
        >>> x.shape, bool((x[0] == x[2]).all())
        ((3, 8), True)
    """
    version = require('sentence-transformers')
    values = as_values('texts', texts)
    for i, text in enumerate(values):
        if not isinstance(text, str) and not is_missing(text):
            raise TypeError(
                f"'texts' needs to hold texts, None or NaN, but item {i} is a "
                f'{type(text).__name__}; convert it with str'
            )
    name = str(model)
    if isinstance(model, str) and '/' not in name and not Path(name).exists():
        model = f'sentence-transformers/{name}'  # As the library does.
    source = find_model(model, revision, ('modules.json', 'config.json'))
    encoder = _Encoder(source, prompt, find_device(device), half)
    key = f'text {version} {source.identity} {prompt!r} half={half}'
    return run(
        Job(
            'texts',
            values,
            Path(out).expanduser(),
            key,
            encoder,
            size=len,
            batch_size=batch_size,
            ids=ids,
            cache_dir=cache_dir,
            progress=progress,
        )
    )


@dataclass(eq=False)
class _Encoder:
    """Loads the model when the first batch comes."""

    source: Source
    prompt: str | None
    device: torch.device
    half: bool

    @cached_property
    def model(self) -> Any:
        package = import_optional('sentence_transformers')
        source = self.source
        try:
            model = package.SentenceTransformer(
                source.name, revision=source.revision, device=str(self.device)
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                f"'model' needs to be a model of Sentence Transformers, but "
                f"'{source.name}' cannot be loaded as one: {error}"
            ) from error
        return (model.half() if self.half else model).eval()

    def __call__(self, texts: list[str]) -> Tensor:
        return self.model.encode(
            texts,
            batch_size=len(texts),
            prompt=self.prompt,
            convert_to_tensor=True,
            show_progress_bar=False,
        )
