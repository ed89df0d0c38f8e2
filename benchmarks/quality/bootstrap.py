"""A paired test of two models, over users and seeds.

Each replicate of the bootstrap draws the users with replacement, the same ones
for both models, and the seeds of either model with replacement. Draws of few
seeds differ less than seeds do; that is made up for. The p value is two-sided:
twice the share of replicates on the other side of zero,
`(1 + number) / (1 + replicates)`, at most 1. With one seed per model it speaks
of users only. Where seeds differ by far more than the draw of users does, p
values of five seeds are too small: up to one in ten is below 0.05 by chance.
"""

from typing import NamedTuple

import numpy as np

NUM_REPLICATES = 10_000

# Random numbers held at a time.
_MAX_DRAWS = 2**24


class Difference(NamedTuple):
    """What :func:`compare` found.

    Args:
        mean: The difference of the means.
        low: The lower end of its 95 % interval.
        high: The upper end.
        p: The two-sided p value.
    """

    mean: float
    low: float
    high: float
    p: float


def compare(
    a: np.ndarray,
    b: np.ndarray,
    num_replicates: int = NUM_REPLICATES,
    seed: int = 0,
) -> Difference:
    """By how much `a` is larger than `b`.

    Args:
        a: A metric by seed and user, `[S_a, B]`.
        b: The same of another model and the same users, `[S_b, B]`.
        num_replicates: How often to draw.
        seed: Decides the draws.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:
        raise ValueError(
            f"'a' and 'b' need one column per user, the same in both (got "
            f'shapes {a.shape} and {b.shape})'
        )
    rng = np.random.default_rng(seed)
    num_users = a.shape[1]
    both = np.concatenate([a, b])
    shares = np.hstack(
        [
            sign * _shares(rng, num_replicates, len(x))
            for x, sign in ((a, 1), (b, -1))
        ]
    )
    size = max(1, _MAX_DRAWS // num_users)
    values = []
    for start in range(0, num_replicates, size):
        share = shares[start : start + size]
        times = _counts(rng, len(share), num_users)
        values.append((times @ both.T / num_users * share).sum(axis=1))
    value = np.concatenate(values)
    low, high = np.quantile(value, [0.025, 0.975])
    beyond = min((value <= 0).sum(), (value >= 0).sum())
    p = min(1.0, 2 * (1 + beyond) / (1 + num_replicates))
    return Difference(
        float(a.mean() - b.mean()), float(low), float(high), float(p)
    )


def _shares(rng: np.random.Generator, num_rows: int, num: int) -> np.ndarray:
    # The variance of a mean over draws of S is (S - 1) / S of what it is over
    # new ones: draws are spread wider by the root of that.
    if num == 1:
        return np.ones((num_rows, 1))
    counts = _counts(rng, num_rows, num)
    return (1 + (counts - 1) * (num / (num - 1)) ** 0.5) / num


def _counts(rng: np.random.Generator, num_rows: int, num: int) -> np.ndarray:
    # How often each of `num` comes up in `num` draws with replacement.
    draw = rng.integers(num, size=(num_rows, num))
    draw += np.arange(num_rows)[:, None] * num
    count = np.bincount(draw.ravel(), minlength=num_rows * num)
    return count.reshape(num_rows, num).astype(np.float64)
