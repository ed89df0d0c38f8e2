"""What features say of the rows that items had in training."""

from collections.abc import Mapping

import torch
from torch import Tensor

_MAX_ITEMS = 2**14
_MAX_COLUMNS = 512
_BLOCK_ROWS = 2**12
_RIDGES = torch.logspace(-2, 3, 11, dtype=torch.double)


class RowRegression:
    """Ridge regression of rows on the features of all modalities, joined. The
    ridge is that with the least error by generalized cross-validation.

    Of more than 16,384 items, every second, third and so on is read, at least
    8,192 of them. Modalities of more than 512 columns go through a fixed
    random projection. Where an item lacks a modality, it is taken to have the
    mean.

    Args:
        features: Unit rows by modality; all zero where one is missing.
        target: The rows, of these items or of the first ones of them.
        known: The items to learn from, at least one.
        weights: How much each modality counts (default: `None`, all the
            same); what is not named counts nothing.

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
        self.features = features
        weights = weights or dict.fromkeys(features, 1.0)
        share = len(weights) / sum(weights.values())
        self.weights = {m: weights.get(m, 0.0) * share for m in features}
        rows = known[:: -(-known.numel() // _MAX_ITEMS)]
        raw = {name: self._modality(name, rows) for name in features}
        self.means = {
            name: x.sum(dim=0) / x.any(dim=1).sum().clamp_min(1)
            for name, x in raw.items()
        }
        x, y = self._joined(raw).double(), target[rows].double()
        mean = y.mean(dim=0)
        y = y - mean
        value, vector = torch.linalg.eigh(x.t() @ x)
        value = value.clamp_min(0)
        slope = vector.t() @ (x.t() @ y)
        ridge = _ridge(value, slope, y)
        weight = vector @ (slope / (value + ridge).unsqueeze(1))
        self.weight, self.mean = weight.float(), mean.float()

    def __call__(self, rows: Tensor) -> Tensor:
        """The rows `[B, D]` that the features of items `[B]` speak for."""
        raw = {name: self._modality(name, rows) for name in self.features}
        return self.mean + self._joined(raw) @ self.weight

    def _joined(self, raw: Mapping[str, Tensor]) -> Tensor:
        out = [
            (x - self.means[name])
            * x.any(dim=1, keepdim=True)
            * self.weights[name]
            for name, x in raw.items()
        ]
        return torch.cat(out, dim=1)

    def _modality(self, name: str, rows: Tensor) -> Tensor:
        x = self.features[name]
        width = x.size(1)
        if width <= _MAX_COLUMNS:
            return x[rows].float()
        generator = torch.Generator().manual_seed(width)
        project = torch.randn(width, _MAX_COLUMNS, generator=generator)
        project /= _MAX_COLUMNS**0.5
        return torch.cat(
            [x[part].float() @ project for part in rows.split(_BLOCK_ROWS)]
        )


def _ridge(value: Tensor, slope: Tensor, y: Tensor) -> Tensor:
    """The ridge, of eigenvalues `[F]`, projections of the targets on
    eigenvectors `[F, D]`, and centred targets `[K, D]`.
    """
    shrunk = 1 / (value + _RIDGES.unsqueeze(1))
    gain = (2 - value * shrunk) * shrunk
    error = y.square().sum() - gain @ slope.square().sum(dim=1)
    # The mean was fitted, too.
    free = y.size(0) - 1 - (value * shrunk).sum(dim=1)
    free = free.clamp_min(1e-6)
    return _RIDGES[(error / free.square()).argmin()]
