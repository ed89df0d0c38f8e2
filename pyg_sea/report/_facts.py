"""What the data are."""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from pyg_sea.nn.missing import zero_rows
from pyg_sea.report._chart import Chart, line_chart
from pyg_sea.report._lists import Split
from pyg_sea.transforms._modal_x import modal_features
from pyg_sea.transforms.model_inputs import ITEM_EDGE_TYPE


class Modality(NamedTuple):
    """A modality of the items.

    Args:
        name: What it is called.
        width: Its features.
        missing: How many items lack it.
    """

    name: str
    width: int
    missing: int


class Facts(NamedTuple):
    """What a catalogue is.

    Args:
        counts: Numbers by name.
        modalities: The modalities in order.
        num_items: The number of items.
        charts: How many have how many train edges, users and items.
    """

    counts: dict[str, str]
    modalities: list[Modality]
    num_items: int
    charts: list[Chart]


def facts(data: HeteroData, split: Split) -> Facts:
    """Counts what there is.

    Args:
        data: The data of the run.
        split: Its edges.
    """
    store: Any = data['user', 'item']
    sizes = [
        store[name].size(1)
        for name in ('edge_index', 'val_edge_index', 'test_edge_index')
    ]
    cold = split.item_degree == 0
    of_cold = int(cold[split.test[1]].sum())
    counts = {
        'users': f'{split.num_users:,}',
        'items': f'{split.num_items:,}',
        'train interactions': f'{sizes[0]:,}',
        'validation interactions': f'{sizes[1]:,}',
        'test interactions': f'{sizes[2]:,}',
        'share of all pairs in train': _percent(
            sizes[0], split.num_users * split.num_items
        ),
        'users without a train interaction': _part(split.user_degree == 0),
        'cold items, without a train interaction': _part(cold),
        'test interactions with a cold item': f'{of_cold:,} of {sizes[2]:,}',
    }
    if ITEM_EDGE_TYPE in data.edge_types:
        num = data[ITEM_EDGE_TYPE].num_edges
        counts['similar items, edges'] = f'{num:,}'
    modalities = [
        Modality(name, x.size(1), int(zero_rows(x).sum()))
        for name, x in modal_features(data).items()
    ]
    charts = [
        survival('Users', split.user_degree),
        survival('Items', split.item_degree),
    ]
    return Facts(counts, modalities, split.num_items, [c for c in charts if c])


def survival(title: str, degree: Tensor) -> Chart | None:
    """The share of those that have at least so many train edges; `None` if
    nobody has one.

    Args:
        title: What they are.
        degree: Their train edges.

    Shapes: `degree` is `[N]`.
    """
    found, num = degree.unique(return_counts=True)
    share = num.flip(0).cumsum(0).flip(0) / degree.numel()
    found, share = found[found > 0], share[found > 0]
    if found.numel() == 0:
        return None
    # A thousand points are more than there are pixels.
    places = torch.linspace(0, len(found) - 1, min(len(found), 1000)).long()
    return line_chart(
        f'{title} by train interactions',
        'at least so many train interactions',
        [(found[places], 100 * share[places])],
        log=(True, True),
    )


def _part(mask: Tensor) -> str:
    num = int(mask.sum())
    return f'{num:,} ({_percent(num, mask.numel())})'


def _percent(num: int, of: int) -> str:
    return f'{num / max(1, of):.2%}'
