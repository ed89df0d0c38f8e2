"""Rules that put interactions into train (0), validation (1), test (2)."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]


def _label_last(
    user: Ints, key: NDArray[Any], num_valid: Ints, num_test: Ints
) -> Ints:
    # Orders each user's interactions by `key`; the last go to test, those
    # before them to validation.
    order = np.lexsort((key, user))
    count = np.bincount(user)
    start = np.cumsum(count) - count
    owner = user[order]
    from_end = count[owner] - 1 - (np.arange(len(user)) - start[owner])
    split = np.zeros(len(user), dtype=np.int64)
    held_out = from_end < (num_valid + num_test)[owner]
    split[order[held_out]] = 1
    split[order[from_end < num_test[owner]]] = 2
    return split


def random_split(user: Ints, rng: np.random.Generator) -> Ints:
    """Split 80/10/10 at random per user, by the rule of the Amazon files.

    A user with `n` interactions keeps `n - h` in train, where `h = n // 5`,
    or 2 if `n < 10`; `h // 2` go to validation and the rest to test. (MMRec,
    `preprocessing/1splitting.ipynb`.) Users with less than 3 stay in train.

    Args:
        user: Local user ids.
        rng: Decides who goes where.

    Shapes: `user` and the output are `[num_interactions]`.
    """
    count = np.bincount(user)
    held_out = np.where(count < 10, 2, count // 5)
    held_out[count < 3] = 0
    num_valid = held_out // 2
    key = rng.random(len(user))
    return _label_last(user, key, num_valid, held_out - num_valid)


def leave_last_out_split(user: Ints, time: NDArray[Any]) -> Ints:
    """Send each user's last interaction to test, the one before to validation.

    Users with less than 3 interactions stay in train. Among equal times the
    later row is the later interaction.

    Args:
        user: Local user ids.
        time: Anything that sorts.

    Shapes: `user`, `time` and the output are `[num_interactions]`.
    """
    one = (np.bincount(user) >= 3).astype(np.int64)
    return _label_last(user, time, one, one)


def time_split(time: NDArray[Any]) -> Ints:
    """Send the last 10 % of all to test, the 10 % before to validation.

    Interactions of one moment stay together.

    Args:
        time: Anything that sorts.

    Shapes: `time` and the output are `[num_interactions]`.
    """
    ordered = np.sort(time)
    num = len(ordered)
    end_of_train = ordered[max(num * 8 // 10 - 1, 0)]
    end_of_valid = ordered[max(num * 9 // 10 - 1, 0)]
    after = (time > end_of_train).astype(np.int64)
    return after + (time > end_of_valid)
