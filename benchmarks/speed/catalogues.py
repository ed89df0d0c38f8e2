"""Random catalogues of the published sizes: they cost what real ones cost."""

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Size(NamedTuple):
    num_users: int
    num_items: int
    num_edges: int
    channels: dict[str, int]


AMAZON = {'image': 4096, 'text': 384}
SIZES = {
    'small': Size(300, 200, 3_000, {'image': 64, 'text': 32}),
    'baby': Size(19_445, 7_050, 118_551, AMAZON),
    'sports': Size(35_598, 18_357, 218_409, AMAZON),
    'clothing': Size(39_387, 23_033, 197_338, AMAZON),
    'electronics': Size(192_403, 63_001, 1_689_188, AMAZON),
}


def interactions(
    size: Size, generator: torch.Generator, num_edges: int | None = None
) -> Tensor:
    """Distinct (user, item) pairs, sorted; a few items are very popular."""
    num_edges = num_edges or size.num_edges
    key = torch.empty(0, dtype=torch.long)
    while key.numel() < num_edges:
        count = int(1.2 * (num_edges - key.numel())) + 16
        user = torch.randint(size.num_users, (count,), generator=generator)
        # The density of a rank r falls with sqrt(r).
        rank = torch.rand(count, generator=generator, dtype=torch.double) ** 2
        item = (rank * size.num_items).long()
        key = torch.cat([key, user * size.num_items + item]).unique()
    keep = torch.randperm(key.numel(), generator=generator)[:num_edges]
    key = key[keep].sort().values
    return torch.stack([key // size.num_items, key % size.num_items])


def item_graph(
    num_items: int, generator: torch.Generator, k: int = 10, graphs: int = 2
) -> tuple[Tensor, Tensor]:
    """As many random neighbours as `graphs` modalities would give."""
    source = torch.randint(
        num_items, (num_items * k * graphs,), generator=generator
    )
    target = torch.arange(num_items).repeat_interleave(k * graphs)
    weight = torch.full((source.numel(),), 1 / (k * graphs))
    return torch.stack([source, target]), weight


def catalogue(
    size: Size, seed: int = 0, device: str = 'cpu'
) -> dict[str, Any]:
    """What models are called with, and the edges to train and evaluate on."""
    generator = torch.Generator().manual_seed(seed)
    train = interactions(size, generator)
    held_out = interactions(size, generator, max(1, size.num_edges // 6))
    modal_x = {
        name: torch.randn(size.num_items, width, generator=generator)
        / width**0.5
        for name, width in size.channels.items()
    }
    edge_index, weight = item_graph(size.num_items, generator)
    user, item = train[0], train[1] + size.num_users
    inputs = {
        'modal_x': {name: x.to(device) for name, x in modal_x.items()},
        'edge_index': torch.stack(
            [torch.cat([user, item]), torch.cat([item, user])]
        ).to(device),
        'item_edge_index': edge_index.to(device),
        'item_edge_weight': weight.to(device),
    }
    return {
        'inputs': inputs,
        'train': train.to(device),
        'held_out': held_out.to(device),
    }
