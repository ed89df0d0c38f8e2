"""What features say of the rows that items had in training."""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.functional import normalize

_MAX_ITEMS = 2**14
_MAX_LANDMARKS = 2**11
_BLOCK_ROWS = 2**12
_RIDGES = torch.logspace(-3, 1.5, 10, dtype=torch.double)
# Far below any ridge: it keeps the factor of landmarks that are alike.
_JITTER = 1e-8


class RowRegression:
    """Kernel ridge regression of rows on the features of all modalities. The
    kernel of two items is `exp(s - 1)`, where `s` is the mean over modalities
    of the cosine of their features, less the mean of the known ones. The
    ridge is that with the least error by generalized cross-validation.

    Of more than 16,384 items, as many are read, evenly spaced; of more than
    2,048, the kernel is the one that as many landmarks make of it (Nystroem).
    Where an item lacks a modality, its cosine there is zero.

    Args:
        features: Unit rows by modality; all zero where one is missing.
        target: The rows, of these items or of the first ones of them.
        known: The items to learn from, at least one.
        weights: How much each modality counts in the mean, one of them at
            least (default: `None`, all the same).

    Shapes: features are `[N, F_m]`, `target` is `[I, D]` with `I <= N`, and
    `known` is `[K]`.
    """

    def __init__(
        self,
        features: Mapping[str, Tensor],
        target: Tensor,
        known: Tensor,
        weights: Mapping[str, float] | None = None,
    ) -> None:
        weights = weights or dict.fromkeys(features, 1.0)
        total = sum(weights.values())
        self.weights = {m: w / total for m, w in weights.items() if w > 0}
        self.features = features
        rows = _spread(known, _MAX_ITEMS)
        marks = _spread(rows, _MAX_LANDMARKS)
        self.means = {name: self._mean(name, rows) for name in self.weights}
        self.landmarks = self._centred(marks)
        kernel = self._kernel(marks)
        kernel.diagonal().add_(_JITTER)
        factor = torch.linalg.cholesky(kernel)
        blocks = [self._kernel(part) for part in rows.split(_BLOCK_ROWS)]
        kernel, y = torch.cat(blocks), target[rows].double()
        center, self.mean = kernel.mean(dim=0), y.mean(dim=0)
        x = torch.linalg.solve_triangular(
            factor, (kernel - center).t(), upper=False
        )
        y = y - self.mean
        value, vector = torch.linalg.eigh(x @ x.t())
        value = value.clamp_min(0)
        slope = vector.t() @ (x @ y)
        ridge = _ridge(value, slope, y)
        weight = vector @ (slope / (value + ridge).unsqueeze(1))
        self.weight = torch.linalg.solve_triangular(
            factor.t(), weight, upper=True
        )
        self.mean = self.mean - center @ self.weight

    def __call__(self, rows: Tensor) -> Tensor:
        """The rows `[B, D]` that the features of items `[B]` speak for."""
        out = [
            self.mean + self._kernel(part) @ self.weight
            for part in rows.split(_BLOCK_ROWS)
        ]
        return torch.cat(out).float()

    def _kernel(self, rows: Tensor) -> Tensor:
        """That of items and landmarks, `[B, L]`."""
        score = torch.full((), -1.0, dtype=torch.double)
        for name, x in self._centred(rows).items():
            cosine = x @ self.landmarks[name].t()
            score = score + self.weights[name] * cosine
        return score.exp_()

    def _centred(self, rows: Tensor) -> dict[str, Tensor]:
        """Unit rows of what differs from the mean, zero where missing."""
        out = {}
        for name, mean in self.means.items():
            x = self.features[name][rows].double()
            out[name] = normalize((x - mean) * x.any(dim=1, keepdim=True))
        return out

    def _mean(self, name: str, rows: Tensor) -> Tensor:
        x = self.features[name]
        total, count = torch.zeros(x.size(1), dtype=torch.double), 0
        for part in rows.split(_BLOCK_ROWS):
            total += x[part].sum(dim=0, dtype=torch.double)
            count += int(x[part].any(dim=1).sum())
        return total / max(1, count)


def _spread(rows: Tensor, most: int) -> Tensor:
    """At most so many of them, evenly spaced."""
    num = rows.numel()
    if num <= most:
        return rows
    return rows[torch.arange(most) * num // most]


def _ridge(value: Tensor, slope: Tensor, y: Tensor) -> Tensor:
    """The ridge, of eigenvalues `[L]`, projections of the targets on
    eigenvectors `[L, D]`, and centred targets `[K, D]`.
    """
    shrunk = 1 / (value + _RIDGES.unsqueeze(1))
    gain = (2 - value * shrunk) * shrunk
    error = y.square().sum() - gain @ slope.square().sum(dim=1)
    # The mean was fitted, too.
    free = y.size(0) - 1 - (value * shrunk).sum(dim=1)
    free = free.clamp_min(1e-6)
    loss = (error / free.square()).flip(0)
    # Of equals the largest: two items fit any ridge alike.
    return _RIDGES.flip(0)[(loss <= loss.min() * (1 + 1e-9)).int().argmax()]
