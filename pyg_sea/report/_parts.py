"""Maps of generic and unique parts, and what ties them."""

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from pyg_sea.dependence import dependence
from pyg_sea.nn import ModalParts
from pyg_sea.nn.missing import zero_rows
from pyg_sea.report._chart import dots
from pyg_sea.report._groups import Groups

# The side of a map, in pixels, and its margin.
SIDE, MARGIN = 300, 8
MAX_POINTS = 2000
# The share of items that a map reaches; the others stand at its edge.
_WITHIN = 0.99
# Items that dependence is measured on: retrieval compares all of them.
MAX_MEASURED = 10_000
MIN_MEASURED = 20


class Map(NamedTuple):
    """A part of a modality in two dimensions.

    Args:
        modality: The modality.
        part: `'generic'` or `'unique'`.
        num: How many items are shown.
        variance: The share of the variance that the two dimensions hold.
        points: The `d` of an SVG path for each group of items.
    """

    modality: str
    part: str
    num: int
    variance: float
    points: list[str]


class Measure(NamedTuple):
    """A number about the parts.

    Args:
        kind: `'r2'`, `'retrieval'` or `'hsic'`.
        of: The modality, or two of them.
        value: The number.
    """

    kind: str
    of: str
    value: float


class Parts(NamedTuple):
    """What the parts of a model look like.

    Args:
        maps: Per modality its generic and its unique part.
        measures: How dependent they are; empty with too few items.
        num_measured: The items that this was measured on.
        labels: The groups of items in the maps.
    """

    maps: list[tuple[Map, Map]]
    measures: list[Measure]
    num_measured: int
    labels: list[str]


@torch.no_grad()
def parts(
    model: Any, inputs: dict[str, Any], groups: Groups, seed: int
) -> Parts | None:
    """Draws and measures the parts of a model; `None` if it has none.

    Args:
        model: A trained model.
        inputs: What it is called with.
        groups: The items by popularity.
        seed: Decides which items are drawn.
    """
    if not hasattr(model, 'get_parts'):
        return None
    names = ('modal_x', 'edge_index', 'edge_weight')
    found = {
        modality: ModalParts(*(part.cpu() for part in pair))
        for modality, pair in model.get_parts(
            **{name: inputs[name] for name in names}
        ).items()
    }
    there = {
        name: ~zero_rows(x).cpu() for name, x in inputs['modal_x'].items()
    }
    maps = []
    for modality, pair in found.items():
        items = draw(there[modality], MAX_POINTS, seed)
        if items.numel() < 3:
            continue
        generic, unique = (
            pca_map(modality, part, rows[items], groups, items)
            for part, rows in zip(('generic', 'unique'), pair)
        )
        maps.append((generic, unique))
    everywhere = torch.stack([*there.values()]).all(dim=0)
    items = draw(everywhere, MAX_MEASURED, seed)
    measures = []
    if items.numel() >= MIN_MEASURED:
        chosen = {
            modality: ModalParts(*(part[items] for part in pair))
            for modality, pair in found.items()
        }
        measures = [
            Measure(*name.partition('/')[::2], value)
            for name, value in dependence(chosen, seed).items()
        ]
    return Parts(maps, measures, items.numel(), groups.labels)


def draw(mask: Tensor, num: int, seed: int) -> Tensor:
    """Up to `num` of the places where `mask` is true, in order.

    Args:
        mask: What to choose from.
        num: The most to choose.
        seed: Decides which.

    Shapes: `mask` is `[N]`.
    """
    generator = torch.Generator().manual_seed(seed)
    places = mask.nonzero().view(-1)
    order = torch.randperm(places.numel(), generator=generator)[:num]
    return places[order].sort().values


def pca_map(
    modality: str, part: str, rows: Tensor, groups: Groups, items: Tensor
) -> Map:
    """The first two principal components of rows.

    Args:
        modality: What they are of.
        part: What they are of.
        rows: The rows.
        groups: All items by popularity.
        items: The items of the rows.

    Shapes: `rows` is `[N, D]`, `items` is `[N]`.
    """
    try:
        from sklearn.decomposition import PCA
    except ImportError as error:
        raise ImportError(
            '\'write_report\' needs scikit-learn: pip install "pyg_sea[plot]"'
        ) from error
    x = rows.double().numpy()
    x = np.pad(x, ((0, 0), (0, max(0, 2 - x.shape[1]))))
    xy, variance = np.zeros((len(x), 2)), 0.0
    if np.ptp(x, axis=0).max() > 0:
        fit = PCA(2, svd_solver='full')
        xy = fit.fit_transform(x)
        variance = float(fit.explained_variance_ratio_.sum())
        # One scale for both, so that distances can be read off. A few items
        # far out would leave no room for the others.
        xy -= np.median(xy, axis=0)
        reach = np.quantile(np.abs(xy).max(axis=1), _WITHIN)
        xy = (xy / reach).clip(-1, 1) if reach > 0 else np.sign(xy)
    xy = SIDE / 2 + (SIDE / 2 - MARGIN) * xy
    of = groups.of[items].numpy()
    points = [dots(*xy[of == group].T) for group in range(len(groups.labels))]
    return Map(modality, part, len(x), variance, points)
