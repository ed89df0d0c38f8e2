"""Do generic and unique parts hold what they should? Measured by means that
no loss optimizes.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from pyg_sea.nn import ModalParts

# Items whose kernels are held, and similarities that are held at a time.
MAX_ITEMS = 2000
MAX_SIMILARITIES = 2**24


def dependence(
    parts: Mapping[str, ModalParts], seed: int = 0
) -> dict[str, float]:
    """Measures the parts of all items.

    Args:
        parts: Generic and unique rows by modality, `[I, D_g]` and `[I, D_u]`,
            generic ones of one width, in the order of the model.
        seed: Decides the folds of :func:`cross_validated_r2` and the items of
            :func:`hsic`.

    Returns `r2/<modality>` and `hsic/<modality>`, both of the generic and the
    unique part, and `retrieval/<later>-<earlier>` of generic parts, in the
    direction of the alignment.
    """
    rows = {
        name: [part.detach().cpu().double() for part in pair]
        for name, pair in parts.items()
    }
    out = {
        f'r2/{name}': cross_validated_r2(*pair, seed)
        for name, pair in rows.items()
    }
    out |= {
        f'retrieval/{later}-{earlier}': retrieval_at_1(
            rows[later][0], rows[earlier][0]
        )
        for earlier, later in combinations(rows, 2)
    }
    return out | {f'hsic/{n}': hsic(*pair, seed) for n, pair in rows.items()}


def cross_validated_r2(x: Tensor, y: Tensor, seed: int = 0) -> float:
    """How well `x` predicts `y` linearly, on items that the ridge regression
    was not fitted on: the mean R2 of the columns of `y` that are not constant,
    0 if all are.

    Args:
        x: Rows `[I, C]`.
        y: Rows `[I, D]`.
        seed: Decides the five folds.
    """
    x, y = x.numpy(), y.numpy()
    y = y[:, np.ptp(y, axis=0) > 1e-9 * (1 + np.abs(y).max())]
    if y.shape[1] == 0:
        return 0.0
    fit = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 7)))
    folds = KFold(5, shuffle=True, random_state=seed)
    error = y - cross_val_predict(fit, x, y, cv=folds).reshape(y.shape)
    return float(np.mean(1 - (error**2).mean(axis=0) / y.var(axis=0)))


def retrieval_at_1(x: Tensor, y: Tensor) -> float:
    """The share of rows of `x` whose own row of `y` is the nearest of all by
    cosine. Where `n` are equally near, it counts `1 / n`.

    Args:
        x: Rows `[I, D]`.
        y: Their partners `[I, D]`.
    """
    x, y = F.normalize(x), F.normalize(y)
    size = max(1, MAX_SIMILARITIES // y.size(0))
    total = 0.0
    for rows, partners in zip(x.split(size), y.split(size)):
        cosine = rows @ y.t()
        own = (rows * partners).sum(dim=1, keepdim=True)
        first = (cosine <= own + 1e-9).all(dim=1)
        equal = (cosine >= own - 1e-9).sum(dim=1)
        total += float((first / equal).sum())
    return total / x.size(0)


def hsic(x: Tensor, y: Tensor, seed: int = 0) -> float:
    """The unbiased estimate of HSIC (Song et al., 2012) over the root of those
    of `x` and of `y` with themselves: 1 for equal parts, and 0 in expectation
    of the numerator for independent ones, so that it can be negative. Gaussian
    kernels, as wide as the median distance; 0 if a part is constant.

    Args:
        x: Rows `[I, C]`.
        y: Rows `[I, D]`.
        seed: Decides the items, if there are more than `MAX_ITEMS`.
    """
    if x.size(0) > MAX_ITEMS:
        draw = torch.Generator().manual_seed(seed)
        index = torch.randperm(x.size(0), generator=draw)[:MAX_ITEMS]
        x, y = x[index], y[index]
    if (x == x[0]).all() or (y == y[0]).all():
        return 0.0
    K, L = gaussian_kernel(x), gaussian_kernel(y)
    scale = unbiased_hsic(K, K) * unbiased_hsic(L, L)
    return unbiased_hsic(K, L) / scale**0.5 if scale > 0 else 0.0


def gaussian_kernel(x: Tensor) -> Tensor:
    """`exp(-d^2 / 2 s^2)`, with the median of the distances as `s`; their mean
    if most rows are equal.

    Args:
        x: Rows `[N, C]`, not all of them equal.
    """
    distance = torch.pdist(x)
    width = distance.median()
    width = width if width > 0 else distance.mean()
    square = torch.cdist(x, x, compute_mode='donot_use_mm_for_euclid_dist')
    return (-0.5 * (square / width) ** 2).exp()


def unbiased_hsic(K: Tensor, L: Tensor) -> float:
    """The unbiased estimate of HSIC, from two kernels of the same rows.

    Args:
        K: A kernel `[N, N]`, `N > 3`.
        L: Another one.
    """
    n = K.size(0)
    if n < 4:
        raise ValueError(f'HSIC needs at least 4 items (got {n})')
    K, L = (M - M.diagonal().diag() for M in (K, L))
    k, m = K.sum(dim=1), L.sum(dim=1)
    value = (K * L).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2))
    value = value - 2 * (k @ m) / (n - 2)
    return float(value / (n * (n - 3)))
