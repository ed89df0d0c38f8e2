"""Every loss term and every validation metric over the epochs."""

import numpy as np
import pandas as pd

from pyg_sea.report._chart import Chart, line_chart

# Of a loss that falls so deep, a linear scale shows the first epochs only.
_DEEP = 50


def curves(history: pd.DataFrame, best_epoch: int) -> dict[str, list[Chart]]:
    """One chart per column, by `'train'` and `'val'`.

    Args:
        history: One row per epoch.
        best_epoch: The epoch to mark, counted from 0 as in `history`.
    """
    out: dict[str, list[Chart]] = {'train': [], 'val': []}
    # People count from 1, as `pyg-sea train` does.
    epoch = history['epoch'].to_numpy() + 1
    # The sum before its terms.
    columns = sorted(history.columns, key=lambda name: name != 'train/loss')
    for column in columns:
        stage, _, name = column.partition('/')
        if stage not in out or not name:
            continue
        value = history[column].to_numpy(dtype=float)
        finite = value[np.isfinite(value)]
        if finite.size == 0:
            continue
        deep = finite.min() > 0 and finite.max() > _DEEP * finite.min()
        out[stage].append(
            line_chart(
                name,
                'epoch, log scale' if deep else 'epoch',
                [(epoch, value)],
                (False, bool(deep)),
                mark=best_epoch + 1,
            )
        )
    return out
