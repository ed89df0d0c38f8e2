"""From values to a feature file, in batches that are kept."""

import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyg_sea.datasets._npy import cache_dir_of, write_npy
from pyg_sea.encode._content import MissingItemError, content_of
from pyg_sea.encode._hub import ModelError
from pyg_sea.encode._job import Job
from pyg_sea.encode._store import RowStore
from pyg_sea.encode.result import Encoded

# Values that are written at a time, 64 MiB of them.
_CHUNK_NUMEL = 2**24


def run(job: Job) -> Encoded:
    """Compute what no earlier run has, and write the feature file."""
    model = sha256(job.key.encode()).hexdigest()
    store = RowStore(cache_dir_of(job.cache_dir) / 'encode' / model)
    with ThreadPoolExecutor(job.num_threads) as pool:
        contents, why = _contents(job, pool)
        todo: dict[bytes, int] = {}
        for i, content in enumerate(contents):
            if content is not None and content not in store:
                todo.setdefault(content, i)
        try:
            failed, cause = _compute(job, todo, store, pool)
        finally:
            store.close()
            pool.shutdown(wait=False, cancel_futures=True)

    for i, content in enumerate(contents):
        if content in failed:
            why[i] = failed[content]
    if len(why) == len(contents):
        raise ValueError(
            f"none of the {len(contents):,} items in '{job.name}' can be "
            f'encoded: {_some(job, why)}'
        ) from cause
    missing = _write(job, contents, store, why)
    present = zip(contents, missing)
    num_computed = sum(not gone and c in todo for c, gone in present)
    num_missing = int(missing.sum())
    if num_missing > 0:
        warnings.warn(
            f'{num_missing:,} of {len(missing):,} items are missing, their '
            f"rows are NaN ('reasons' has all of them): {_some(job, why)}",
            stacklevel=3,
        )
    return Encoded(
        job.out,
        len(missing),
        num_computed,
        len(missing) - num_missing - num_computed,
        missing,
        dict(sorted(why.items())),
    )


def _some(job: Job, why: dict[int, str]) -> str:
    first = [f'{job.label(i)} ({why[i]})' for i in sorted(why)[:5]]
    return ', '.join(first) + (', ...' if len(why) > 5 else '')


def _in_threads(
    pool: ThreadPoolExecutor,
    function: Callable[[Any], Any],
    values: Iterable[Any],
    ahead: int,
) -> Iterator[Future[Any]]:
    """Yield results in the order of their values, some being on their way."""
    pending: deque[Future[Any]] = deque()
    for value in values:
        pending.append(pool.submit(function, value))
        if len(pending) > ahead:
            yield pending.popleft()
    yield from pending


def _contents(
    job: Job, pool: ThreadPoolExecutor
) -> tuple[list[bytes | None], dict[int, str]]:
    contents: list[bytes | None] = []
    why: dict[int, str] = {}
    ahead = 16 * job.num_threads
    with job.bar('hashed', len(job.values)) as bar:
        # Texts that are loaded may be names of files.
        hashed = partial(content_of, names=job.load is not None)
        found = _in_threads(pool, hashed, job.values, ahead)
        for i, future in enumerate(found):
            content = None
            try:
                content = future.result()
            except MissingItemError as error:
                why[i] = str(error)
            except TypeError as error:
                raise TypeError(
                    f"'{job.name}' needs text, bytes, numbers, arrays, "
                    'tensors, paths of files, or lists of these, but item '
                    f'{job.label(i)} is a {type(job.values[i]).__name__}: '
                    f'{error}'
                ) from error
            contents.append(content)
            bar.update()
    return contents, why


def _compute(
    job: Job,
    todo: dict[bytes, int],
    store: RowStore,
    pool: ThreadPoolExecutor,
) -> tuple[dict[bytes, str], Exception | None]:
    """Return why contents could not be loaded, and the first error."""
    size = job.size
    order = list(todo)
    if size is not None:
        # The longest first: what runs out of memory does so at once.
        order.sort(key=lambda content: -size(job.values[todo[content]]))

    failed: dict[bytes, str] = {}
    cause: Exception | None = None
    batch: list[tuple[bytes, Any]] = []

    def flush() -> None:
        with torch.inference_mode():
            result = job.function([value for _, value in batch])
        rows = _rows(result, len(batch), store.num_columns)
        store.append([content for content, _ in batch], rows)
        bar.update(len(batch))
        batch.clear()

    values = (job.values[todo[content]] for content in order)
    load, ahead = job.load or (lambda value: value), 2 * job.batch_size
    with job.bar('computed', len(order)) as bar:
        loaded = _in_threads(pool, load, values, ahead)
        for content, future in zip(order, loaded):
            try:
                batch.append((content, future.result()))
            except (ImportError, ModelError):
                raise
            except Exception as error:
                # Decoders of damaged files raise nearly anything, even a
                # `MemoryError`, and what a user's function raises is unknown.
                cause = cause or error
                failed[content] = _describe(error)
                bar.update()
            # Batches do not depend on what fails, so that a run that goes on
            # with another's work makes the same ones.
            if len(batch) == job.batch_size:
                flush()
        if batch:
            flush()
    return failed, cause


def _describe(error: Exception) -> str:
    return ''.join(traceback.format_exception_only(error)).strip()


def _rows(
    result: Any, num_rows: int, width: int | None
) -> NDArray[np.float32]:
    if isinstance(result, Tensor):
        result = result.detach().float().cpu().numpy()
    x = np.asarray(result)
    if x.ndim != 2 or len(x) != num_rows or x.dtype.kind not in 'fiu':
        raise ValueError(
            'the model needs to return a matrix of floats with one row for '
            f'each of {num_rows} items (got shape {x.shape}, {x.dtype})'
        )
    if width not in (None, x.shape[1]):
        raise ValueError(
            f'the model returned {x.shape[1]} columns, earlier rows of this '
            f"model have {width}; a model that has changed needs another 'key'"
        )
    with np.errstate(over='ignore'):  # Infinite rows are reported later.
        return x.astype(np.float32)


def _write(
    job: Job,
    contents: list[bytes | None],
    store: RowStore,
    why: dict[int, str],
) -> NDArray[np.bool_]:
    """Return which rows are missing."""
    width = store.num_columns
    assert width is not None
    missing = np.zeros(len(contents), dtype=bool)

    def chunks() -> Iterator[NDArray[np.float32]]:
        step = max(1, _CHUNK_NUMEL // width)
        for start in range(0, len(contents), step):
            part = contents[start : start + step]
            x = np.full((len(part), width), np.nan, np.float32)
            for i, content in enumerate(part):
                if content is not None and content in store:
                    x[i] = store[content]
            gone = ~np.isfinite(x).all(axis=1)
            x[gone] = np.nan
            missing[start : start + step] = gone
            yield x

    write_npy(job.out, (len(contents), width), np.float32, chunks())
    for i in np.flatnonzero(missing).tolist():
        why.setdefault(i, 'the model returned values that are not finite')
    return missing
