"""Do generic and unique parts hold what they should? Measured by means that
no loss optimizes.
"""

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_sea.nn import ModalParts

__all__ = ['cross_validated_r2', 'dependence', 'hsic', 'retrieval_at_1']

classes = __all__

# Items whose kernels are held, and similarities that are held at a time.
MAX_ITEMS = 2000
MAX_SIMILARITIES = 2**24


def dependence(
    parts: Mapping[str, ModalParts], seed: int = 0
) -> dict[str, float]:
    """Measures the parts of all items; needs the extra `plot`.

    Args:
        parts: Generic and unique rows by modality, generic ones of one width,
            in the order of the model: what its `get_parts` returns.
        seed: Decides the folds of :func:`cross_validated_r2` and the items of
            :func:`hsic` (default: 0).

    Shapes:
        - generic rows: `[I, D_g]`
        - unique rows: `[I, D_u]`

    Returns `r2/<modality>` and `hsic/<modality>`, both of the generic and the
    unique part, and `retrieval/<later>-<earlier>` of generic parts, in the
    direction of the alignment.

    Raises a `ValueError` if there are less than 5 items.

    Example:
        >>> import torch
        >>> from pyg_sea.dependence import dependence
        >>> from pyg_sea.nn import ModalParts
        >>> generic = torch.randn(200, 4)
        >>> out = dependence({
        ...     'image': ModalParts(generic, generic.flip(1)),
        ...     'text': ModalParts(generic, torch.randn(200, 3))})
        >>> list(out)
        ['r2/image', 'r2/text', 'retrieval/text-image', 'hsic/image', \
'hsic/text']
        >>> out['r2/image'] > 0.99, out['r2/text'] < 0.1
        (True, True)
    """
    out = {
        f'r2/{name}': cross_validated_r2(*pair, seed)
        for name, pair in parts.items()
    }
    out |= {
        f'retrieval/{later}-{earlier}': retrieval_at_1(
            parts[later].generic, parts[earlier].generic
        )
        for earlier, later in combinations(parts, 2)
    }
    return out | {
        f'hsic/{name}': hsic(*pair, seed) for name, pair in parts.items()
    }


def cross_validated_r2(x: Tensor, y: Tensor, seed: int = 0) -> float:
    """How well `x` predicts `y` linearly, on items that the ridge regression
    was not fitted on: the mean R2 of the columns of `y` that are not constant,
    0 if all are. 1 is perfect, and a negative one worse than the mean. Needs
    the extra `plot`.

    Args:
        x: What to predict from.
        y: What to predict.
        seed: Decides the five folds (default: 0).

    Shapes:
        - `x`: `[I, C]`
        - `y`: `[I, D]`

    Raises a `ValueError` if there are less than 5 rows, or not as many in
    both.

    Example:
        >>> import torch
        >>> from pyg_sea.dependence import cross_validated_r2
        >>> x = torch.randn(300, 4)
        >>> round(cross_validated_r2(x, 2 * x - 1), 3)
        1.0
        >>> cross_validated_r2(x, torch.randn_like(x)) < 0.1
        True
    """
    try:
        from sklearn.linear_model import RidgeCV
        from sklearn.model_selection import KFold, cross_val_predict
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler
    except ImportError as error:
        raise ImportError(
            "'cross_validated_r2' needs scikit-learn: "
            'pip install "pyg_sea[plot]"'
        ) from error
    known, wanted = (rows.numpy() for rows in double_rows(x, y, 5))
    varies = np.ptp(wanted, axis=0) > 1e-9 * np.abs(wanted).max()
    wanted = wanted[:, varies]
    if wanted.shape[1] == 0:
        return 0.0
    fit = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 7)))
    folds = KFold(5, shuffle=True, random_state=seed)
    found = cross_val_predict(fit, known, wanted, cv=folds)
    rest = ((wanted - found.reshape(wanted.shape)) ** 2).mean(axis=0)
    return float(np.mean(1 - rest / wanted.var(axis=0)))


def retrieval_at_1(x: Tensor, y: Tensor) -> float:
    """The share of rows of `x` whose own row of `y` is the nearest of all by
    cosine. Where `n` are equally near, it counts `1 / n`.

    Args:
        x: Rows.
        y: Their partners.

    Shapes:
        - `x` and `y`: `[I, D]`

    Raises a `ValueError` if they are not as many.

    Example:
        >>> import torch
        >>> from pyg_sea.dependence import retrieval_at_1
        >>> x = torch.randn(50, 8)
        >>> retrieval_at_1(x, 3 * x), retrieval_at_1(x, x.roll(1, 0))
        (1.0, 0.0)
    """
    x, y = (F.normalize(rows) for rows in double_rows(x, y, 1))
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
        x: Rows.
        y: Others of the same items.
        seed: Decides the items, if there are more than 2,000 (default: 0).

    Shapes:
        - `x`: `[I, C]`
        - `y`: `[I, D]`

    Raises a `ValueError` if there are less than 4 rows, or not as many in
    both.

    Example:
        >>> import torch
        >>> from pyg_sea.dependence import hsic
        >>> x = torch.randn(100, 2)
        >>> round(hsic(x, 5 - 3 * x), 3)
        1.0
        >>> hsic(x, x.abs()) > hsic(x, torch.randn_like(x))
        True
    """
    x, y = double_rows(x, y, 4)
    if x.size(0) > MAX_ITEMS:
        draw = torch.Generator().manual_seed(seed)
        index = torch.randperm(x.size(0), generator=draw)[:MAX_ITEMS]
        x, y = x[index], y[index]
    if (x == x[0]).all() or (y == y[0]).all():
        return 0.0
    K, L = gaussian_kernel(x), gaussian_kernel(y)
    scale = unbiased_hsic(K, K) * unbiased_hsic(L, L)
    return unbiased_hsic(K, L) / scale**0.5 if scale > 0 else 0.0


def double_rows(x: Tensor, y: Tensor, least: int) -> tuple[Tensor, Tensor]:
    """Both on the CPU in double precision; raises unless there are `least`
    rows of both.
    """
    if x.size(0) != y.size(0) or x.size(0) < least:
        raise ValueError(
            f"'x' and 'y' need a row of each item and at least {least} items "
            f'(got {x.size(0)} and {y.size(0)} rows)'
        )
    return x.detach().cpu().double(), y.detach().cpu().double()


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
    K, L = (M - M.diagonal().diag() for M in (K, L))
    k, m = K.sum(dim=1), L.sum(dim=1)
    value = (K * L).sum() + k.sum() * m.sum() / ((n - 1) * (n - 2))
    value = value - 2 * (k @ m) / (n - 2)
    return float(value / (n * (n - 3)))
