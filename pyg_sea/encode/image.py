from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Literal, get_args

import torch
from torch import Tensor

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
from pyg_sea.encode.open_image import open_image
from pyg_sea.encode.result import Encoded

Pooling = Literal['model', 'first', 'mean']

# Raise it when images come to be prepared in another way.
_VERSION = 1


def encode_images(
    paths: Iterable[str | Path | None],
    model: str | Path,
    out: str | Path,
    *,
    pooling: Pooling = 'model',
    revision: str | None = None,
    batch_size: int = 32,
    num_threads: int = 4,
    device: str | torch.device = 'auto',
    half: bool = False,
    ids: Sequence[Any] | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Encoded:
    r"""Writes a feature file of images by a vision model of `Transformers
    <https://huggingface.co/docs/transformers>`_: CLIP, SigLIP, DINOv2, ViT,
    ConvNeXt, ResNet and others.

    Files, interruptions, repeated calls and missing items are as in
    :func:`encode`; images are read by :func:`open_image`, and a broken one is
    missing. The model is told by the hash of its folder, or by its name and
    commit on the hub, by the version of the library, by `pooling` and by
    `half`; it is loaded only if there is something to compute.

    Threads read images and prepare them as the model's own settings say, with
    Pillow alone, while the model works on the batch before. Models of other
    libraries, such as timm and open_clip, go through :func:`encode`.

    Args:
        paths: One file per item; several items may share one. `None`, NaN and
            empty paths are missing.
        model: The folder of a saved model, or a name on the Hugging Face hub,
            such as `'openai/clip-vit-base-patch32'`.
        out: The `.npy` file to write.
        pooling: `'model'` takes what the model has for it,
            `get_image_features` or the output of its pooler; `'first'` takes
            the first token, `'mean'` the mean of all tokens or positions
            (default: `'model'`).
        revision: Branch, tag or commit on the hub (default: `None`, the
            newest).
        batch_size: How many images are encoded at a time (default: `32`).
        num_threads: How many threads read images (default: `4`).
        device: As in :func:`encode_text` (default: `'auto'`).
        half: As in :func:`encode_text` (default: `False`).
        ids: As in :func:`encode` (default: `None`).
        cache_dir: As in :func:`encode` (default: `None`).
        progress: Whether to show progress bars (default: `True`).

    Shapes:
        - the file: `[I, F]`, float32

    Raises an `ImportError` without the extra `encode`, and a `ValueError` for
    a model that is not there, cannot be loaded, lacks weights or has no such
    pooling, and if all images are missing. Warns with the number of missing
    items and the first of them.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from PIL import Image
        >>> from pyg_sea.encode import encode_images
        >>> from transformers import ViTConfig, ViTImageProcessorPil, ViTModel
        >>> config = ViTConfig(hidden_size=8, num_hidden_layers=1,
        ...                    num_attention_heads=1, intermediate_size=8,
        ...                    image_size=32, patch_size=16)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     ViTModel(config).save_pretrained(root + '/tiny')
        ...     _ = ViTImageProcessorPil(size=32).save_pretrained(
        ...         root + '/tiny')
        ...     Image.new('RGB', (50, 40), 'red').save(root + '/red.png')
        ...     done = encode_images([root + '/red.png'] * 2, root + '/tiny',
        ...                          Path(root, 'image_feat.npy'),
        ...                          cache_dir=root, progress=False)
        ...     x = np.load(done.path)
        >>> x.shape, bool((x[0] == x[1]).all())
        ((2, 8), True)
    """
    if pooling not in get_args(Pooling):
        raise ValueError(
            f"'pooling' needs to be one of {list(get_args(Pooling))} (got "
            f'{pooling!r})'
        )
    version = require('transformers')
    require('pillow')
    values = [
        Path(path).expanduser() if isinstance(path, str) and path else path
        for path in as_values('paths', paths)
    ]
    source = find_model(model, revision, ('config.json',))
    dtype = torch.float16 if half else torch.float32
    encoder = _Encoder(source, pooling, find_device(device), dtype)
    key = f'image {_VERSION} {version} {source.identity} {pooling} half={half}'
    return run(
        Job(
            'paths',
            values,
            Path(out).expanduser(),
            key,
            encoder,
            encoder.load,
            batch_size=batch_size,
            num_threads=num_threads,
            ids=ids,
            cache_dir=cache_dir,
            progress=progress,
        )
    )


@dataclass(eq=False)
class _Encoder:
    """Loads the model when the first sound image comes."""

    source: Source
    pooling: Pooling
    device: torch.device
    dtype: torch.dtype
    _lock: Lock = field(default_factory=Lock, init=False)
    _processor: Any = field(default=None, init=False)

    def load(self, path: Path) -> Tensor:
        """Return what the model takes, `[3, height, width]`."""
        image = open_image(path)
        with self._lock:
            if self._processor is None:
                # The same features with and without torchvision.
                self._processor = self._from_saved(
                    'AutoImageProcessor', backend='pil'
                )
        x = self._processor(images=[image], return_tensors='pt')
        return x['pixel_values'][0]

    @cached_property
    def model(self) -> Any:
        model, info = self._from_saved(
            'AutoModel', output_loading_info=True, dtype=self.dtype
        )
        # What is not in the folder has been drawn at random.
        drawn = sorted(info['missing_keys'])
        if self.pooling != 'model':
            drawn = [key for key in drawn if not key.startswith('pooler.')]
        if drawn:
            raise ModelError(
                f"'{self.source.name}' lacks the weights {drawn[:5]}; give "
                "another 'model', or, if these are of a pooler, "
                "pooling='first' or 'mean'"
            )
        return model.to(self.device).eval()

    def _from_saved(self, kind: str, **kwargs: Any) -> Any:
        package = import_optional('transformers')
        source = self.source
        try:
            return getattr(package, kind).from_pretrained(
                source.name,
                revision=source.revision,
                trust_remote_code=False,
                **kwargs,
            )
        except (OSError, ValueError, KeyError) as error:
            raise ModelError(
                "'model' needs to be a vision model of Transformers with its "
                f"image processor, but {kind} cannot load '{source.name}': "
                f'{error}'
            ) from error

    def __call__(self, images: list[Tensor]) -> Tensor:
        model, pooling = self.model, self.pooling
        x = torch.stack(images).to(self.device, self.dtype)
        if pooling == 'model' and hasattr(model, 'get_image_features'):
            out = model.get_image_features(pixel_values=x)
            return out if isinstance(out, Tensor) else out.pooler_output
        if hasattr(model, 'vision_model'):
            model = model.vision_model
        out = model(pixel_values=x)
        if pooling == 'model':
            pooled = getattr(out, 'pooler_output', None)
            if pooled is None:
                raise ModelError(
                    f"'{self.source.name}' does not pool; give "
                    "pooling='first' or 'mean'"
                )
            return pooled.flatten(1)  # Convolutions leave [B, F, 1, 1].
        hidden = out.last_hidden_state
        if hidden.dim() == 3:  # [B, tokens, F]
            return hidden[:, 0] if pooling == 'first' else hidden.mean(dim=1)
        if pooling == 'first':
            raise ModelError(
                f"'{self.source.name}' has no tokens; give pooling='model' or "
                "'mean'"
            )
        return hidden.mean(dim=(2, 3))  # [B, F, height, width]
