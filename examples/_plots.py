"""Curves of a run, and maps of the generic and unique parts."""

from pathlib import Path

import matplotlib

matplotlib.use('Agg')
import matplotlib.pyplot as plt
import numpy as np
import torch
from sklearn.manifold import TSNE

from pyg_sea import dependence

# Per stage ('before', 'after') and modality: the generic and the unique part.
Parts = dict[str, dict[str, list[np.ndarray]]]


def curves(history: list[dict[str, float]], path: Path) -> None:
    """Every loss term and every validation metric over the epochs."""
    epoch = [row['epoch'] for row in history]
    groups = {
        prefix: [n for n in history[0] if n.startswith(prefix)]
        for prefix in ('train/', 'val/')
    }
    fig, axes = plt.subplots(1, 2, figsize=(11, 4), layout='constrained')
    for ax, (prefix, names) in zip(axes, groups.items()):
        for name in names:
            values = [row[name] for row in history]
            ax.plot(epoch, values, label=name.removeprefix(prefix))
        ax.set(title=prefix.rstrip('/'), xlabel='epoch')
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.legend(fontsize=8)
        ax.grid(alpha=0.3)
    axes[0].set_yscale('symlog')
    save(fig, path)


def cross_validated_r2(parts: Parts) -> dict[str, dict[str, float]]:
    """How well the generic part predicts the unique one on held-out items."""
    return {
        stage: {
            name: dependence.cross_validated_r2(
                *(torch.from_numpy(part) for part in pair)
            )
            for name, pair in by_modality.items()
        }
        for stage, by_modality in parts.items()
    }


def parts(parts: Parts, r2: dict[str, dict[str, float]], path: Path) -> None:
    """A t-SNE map of the parts of up to 400 items."""
    num_columns = len(parts['before'])
    fig, axes = plt.subplots(
        2,
        num_columns,
        figsize=(4 * num_columns, 7.5),
        squeeze=False,
        layout='constrained',
    )
    for row, (stage, by_modality) in zip(axes, parts.items()):
        for ax, (name, pair) in zip(row, by_modality.items()):
            rng = np.random.default_rng(0)
            num_items = len(pair[0])
            items = rng.permutation(num_items)[:400]
            width = max(part.shape[1] for part in pair)
            rows = np.concatenate(
                [
                    np.pad(part[items], ((0, 0), (0, width - part.shape[1])))
                    for part in pair
                ]
            )
            xy = TSNE(
                perplexity=min(30, len(items) / 4), random_state=0
            ).fit_transform(rows)
            for label, points in zip(('generic', 'unique'), np.split(xy, 2)):
                ax.scatter(*points.T, s=6, alpha=0.6, label=label)
            ax.set(
                title=f'{name}, {stage} training\n'
                f'R² of unique from generic: {r2[stage][name]:.2f}',
                xticks=[],
                yticks=[],
            )
    axes[0, 0].legend(markerscale=2)
    save(fig, path)


def save(fig: plt.Figure, path: Path) -> None:
    partial = path.with_suffix('.partial.png')
    fig.savefig(partial, dpi=120)
    partial.replace(path)
    plt.close(fig)
