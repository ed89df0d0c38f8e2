from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from numpy.typing import ArrayLike
from torch import Tensor

from pyg_sea.encode._job import Job, as_values
from pyg_sea.encode._run import run
from pyg_sea.encode.result import Encoded


def encode(
    values: Iterable[Any],
    function: Callable[[list[Any]], ArrayLike | Tensor],
    out: str | Path,
    *,
    key: str,
    load: Callable[[Any], Any] | None = None,
    batch_size: int = 32,
    num_threads: int = 4,
    ids: Sequence[Any] | None = None,
    cache_dir: str | Path | None = None,
    progress: bool = True,
) -> Encoded:
    r"""Writes a feature file whose rows any callable computes: audio, video,
    tables, or a model that :func:`encode_text` and :func:`encode_images` do
    not load.

    Row `i` belongs to item `i`. Every finished batch is kept under a hash of
    the items' contents and `key`: a call after an interruption goes on where
    that one stopped, with a file equal to the last bit; a second call
    computes nothing; and where some items have changed, those are computed.
    Items with equal contents are computed once. The file appears when it is
    complete.

    An item without content has a row of NaN: `None`, NaN, empty text, a file
    that is not there or empty, one that `load` fails on, and one whose row is
    not finite. One warning counts them. They are tried again in every call.

    Image models of other libraries come with :func:`open_image`; a model of
    timm with its `transform` is
    `function=lambda images: net(torch.stack(images))` and
    `load=lambda path: transform(open_image(path))`. "Your own encoder" in the
    tutorials has whole scripts.

    Args:
        values: One per item: text, bytes, numbers, arrays, tensors, or lists
            of these. A `Path` stands for what the file holds, wherever it
            lies; a `str` for itself, and, with `load`, for itself and what
            the file of that name holds, if there is one.
        function: Turns a list of values, or of what `load` returned, into
            one row for each. It runs in inference mode, in this thread; a
            module has to be in eval mode and brings its own device.
        out: The `.npy` file to write.
        key: Names the model, its weights and its settings: whatever changes
            the rows has to change it.
        load: Reads one value, in threads, while `function` works on the
            batch before. An item for which it raises an error is missing
            (default: `None`, values are taken as they are).
        batch_size: How many items `function` gets at a time
            (default: `32`).
        num_threads: How many threads read and hash (default: `4`).
        ids: What messages call the items (default: `None`, their numbers).
        cache_dir: The folder of finished rows, which may be removed at any
            time; another catalogue may share it (default: `None`, `pyg_sea`
            in PyG's home, `~/.cache/pyg`).
        progress: Whether to show progress bars (default: `True`).

    Shapes:
        - `function`: a list of B values to `[B, F]`
        - the file: `[I, F]`, float32

    Raises a `ValueError` or `TypeError` for values whose contents cannot be
    told, for anything but a matrix of numbers from `function`, for rows of
    another width than under this `key` before, and if no item has content.
    Warns with the number of missing items and the first of them.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from pyg_sea.encode import encode
        >>> def letters(texts):
        ...     return [[text.count(a) for a in 'aeiou'] for text in texts]
        >>> def run(texts):
        ...     return encode(texts, letters, Path(root, 'vowels.npy'),
        ...                   key='vowels', cache_dir=root, progress=False)
        >>> with tempfile.TemporaryDirectory() as root:
        ...     first = run(['teapot', 'jam'])
        ...     second = run(['teapot', 'jam', 'cup'])
        ...     x = np.load(second.path)
        >>> x
        array([[1., 1., 0., 1., 0.],
               [1., 0., 0., 0., 0.],
               [0., 0., 0., 0., 1.]], dtype=float32)
        >>> second.num_computed, second.num_cached
        (1, 2)
    """
    if not isinstance(key, str) or not key:
        raise ValueError(
            "'key' needs to be a text that names the model and its settings "
            f'(got {key!r})'
        )
    return run(
        Job(
            'values',
            as_values('values', values),
            Path(out).expanduser(),
            f'callable {key}',
            function,
            load,
            batch_size=batch_size,
            num_threads=num_threads,
            ids=ids,
            cache_dir=cache_dir,
            progress=progress,
        )
    )
