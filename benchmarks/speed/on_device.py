"""Times on a device, and whether the host waits for it."""

import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def mark(device: str) -> Any:
    """A point in time, that of the device, which is not waited for."""
    if device == 'cpu':
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def elapsed(start: Any, end: Any) -> float:
    if isinstance(start, float):
        return end - start
    return start.elapsed_time(end) / 1000


def epoch(
    step: Callable[[Tensor], Tensor], loader: Iterable[Tensor], device: str
) -> tuple[Tensor, list[Any]]:
    """The sum of the losses, and the points in time between steps."""
    total, marks = torch.zeros((), device=device), [mark(device)]
    for triplets in loader:
        total += step(triplets)
        marks.append(mark(device))
    return total, marks


def wait(device: str) -> None:
    if device != 'cpu':
        torch.cuda.synchronize()


def place(filename: str, lineno: int | None) -> str:
    return f'{Path(*Path(filename).parts[-2:])}:{lineno}'


def first_wait(run: Callable[[], Any], device: str) -> str | None:
    """The first line at which `run` waits for the device."""
    if device == 'cpu':
        return None
    torch.cuda.set_sync_debug_mode('error')
    try:
        run()
    except RuntimeError as error:
        if 'synchronizing' not in str(error):
            raise
        frames = traceback.extract_tb(error.__traceback__)
        own = [f for f in frames if 'site-packages' not in f.filename]
        return f'{place(own[-1].filename, own[-1].lineno)}: {own[-1].line}'
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return None


def all_waits(run: Callable[[], Any], device: str) -> dict[str, int]:
    """The lines at which `run` waits for the device, and how often."""
    if device == 'cpu':
        return {}
    torch.cuda.set_sync_debug_mode('warn')
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter('always')
            run()
    finally:
        torch.cuda.set_sync_debug_mode('default')
    return Counter(
        place(warning.filename, warning.lineno)
        for warning in caught
        if 'synchronizing' in str(warning.message)
    )


def runtime_calls(run: Callable[[], Any]) -> dict[str, int]:
    """Calls of the CUDA runtime, sparse products included, which the debug
    mode of torch does not see. Ends with one wait of the profiler's own.
    """
    with torch.profiler.profile() as profile:
        run()
    rows = profile.key_averages()
    return {row.key: row.count for row in rows if row.key.startswith('cu')}
