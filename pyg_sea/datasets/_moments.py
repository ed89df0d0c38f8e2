"""Means and standard deviations of columns, gathered by chunks of rows."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


class Moments:
    """Gathers moments in one reading, which lose no digits to large means."""

    def __init__(self) -> None:
        self.count = 0
        self.mean: Any = 0.0
        self._square: Any = 0.0

    def add(self, rows: NDArray[np.float64]) -> None:
        """Take in more rows, `[N, F]`."""
        if len(rows) == 0:
            return
        mean = rows.mean(axis=0)
        delta = mean - self.mean
        count = self.count + len(rows)
        share = len(rows) / count
        # What rows differ from the mean of their chunk, and that from others.
        self._square = self._square + ((rows - mean) ** 2).sum(axis=0)
        self._square += delta**2 * (self.count * share)
        self.mean = self.mean + delta * share
        self.count = count

    def standardize(self, rows: NDArray[Any]) -> NDArray[np.float64]:
        """Give columns mean 0 and standard deviation `1 / sqrt(F)`; constant
        columns become 0.
        """
        std = np.sqrt(self._square / self.count)
        # The standard deviation of a constant column is rounding noise.
        constant = std <= 1e-7 * np.abs(self.mean)
        scale = np.where(constant, 1, std) * np.sqrt(rows.shape[1])
        out = (rows - self.mean) / scale
        out[:, constant] = 0
        return out
