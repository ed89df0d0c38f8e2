"""What a step of `SEA` computes and moves, and what an H200 needs for it."""

from itertools import combinations, pairwise
from typing import Any, NamedTuple

from pyg_sea.loader import BPRLoader
from pyg_sea.nn import SEA

# Of one H200 SXM, dense: operations per second, bytes per second.
PEAK = {'fp64': 67e12, 'fp32': 67e12, 'tf32': 494e12, 'bf16': 989e12}
BANDWIDTH = 4.8e12


class Part(NamedTuple):
    flops: float
    bytes: float
    precision: str = 'fp32'

    def seconds(self) -> float:
        return max(self.flops / PEAK[self.precision], self.bytes / BANDWIDTH)


def product(
    n: int, a: int, b: int, passes: int, kind: str, result: bool = True
) -> Part:
    """[n, a] times [a, b], as often forward and backward as there are passes,
    each of which moves both operands, and the result unless it can be used up
    where it is made.
    """
    moved = n * a + a * b + result * n * b
    word = 2 if kind == 'bf16' else 4
    return Part(passes * 2 * n * a * b, passes * moved * word, kind)


def hops(rows: int, entries: int, width: int, times: int) -> Part:
    """Products with a sparse matrix that are added to other rows."""
    moved = 3 * rows * width * 4 + entries * 8 + rows * 4
    return Part(times * 2 * entries * width, times * moved)


def encoders(
    model: SEA, kind: str, first: int = 2, other: int = 3
) -> dict[str, Part]:
    """The item encoders, layer by layer. Features have no gradient: passes of
    the first layer are one less than those of others.
    """
    out = {}
    for name, conv in zip(model.modalities, model.encoder.convs.values()):
        sizes = [conv.in_channels, conv.hidden_channels, conv.out_channels]
        sizes = [size for size in sizes if size > 0]
        for i, (a, b) in enumerate(pairwise(sizes)):
            out[f'encode/{name}/{i}'] = product(
                model.num_items, a, b, other if i > 0 else first, kind
            )
    return out


def scored(model: SEA) -> int:
    """The columns of an embedding, with that of biases."""
    return sum(cols.stop - cols.start for cols in model.blocks.values())


def parts(
    model: SEA, edges: int, item_edges: int, batch: int, kind: str
) -> dict[str, Part]:
    """The least that a step of `SEA` with softmax and linear CLUB computes
    and moves: forward, and backward once for every operand with a gradient.
    """
    num_items, out = model.num_items, encoders(model, kind)
    num_nodes = model.num_users + num_items
    width = sum(model.encoder.blocks.values())
    K = model.encoder.K
    out['propagate'] = hops(num_nodes, 2 * edges, width, 2 * K)
    out['similar items'] = hops(num_items, item_edges, width, 2)
    # Forward a row is read and written, backward two are read, one written.
    out['unit rows'] = Part(0, 5 * num_nodes * width * 4)
    ranking = model.ranking.loss
    drawn = min(ranking.num_negatives or num_items, num_items)
    # Against all items, biases are a column.
    columns = width if drawn < num_items else scored(model)
    out['rank'] = product(batch, columns, drawn, 3, kind, False)
    if ranking.reverse > 0:
        drawn = min(ranking.num_negatives or batch, batch)
        out['rank users'] = product(batch, width, drawn, 3, kind, False)

    splits = [*model.separate.splits.values()]
    generic = splits[0].generic_channels
    anchors = min(model.separate.align.num_anchors or num_items, num_items)
    for a, b in combinations(model.modalities, 2):
        out[f'align/{b}-{a}'] = product(
            anchors, generic, num_items, 3, kind, False
        )
    for name, split in zip(model.modalities, splits):
        g, u = split.generic_channels, split.unique_channels
        # Covariances and residuals; mean, and its gradient.
        flops = 2 * num_items * g * (g + 2 * u), 2 * 2 * num_items * g * u
        moved = num_items * (g + u) * 4
        out[f'fit/{name}'] = Part(flops[0], 2 * moved, 'fp64')
        out[f'distance/{name}'] = Part(flops[1], 3 * moved)
    # Adam reads weight, gradient and two moments, and writes all but one.
    weights = sum(p.numel() for p in model.parameters())
    out['optimizer'] = Part(0, 7 * 4 * weights)
    return out


def bound(
    model: SEA, data: dict[str, Any], loader: BPRLoader, kind: str
) -> dict[str, Any]:
    """Seconds that an H200 needs at least: sums over parts of the longer of
    computing and moving.
    """
    edges = data['train'].size(1)
    item_edges = data['inputs']['item_edge_index'].size(1)
    step = parts(model, edges, item_edges, loader.batch_size, kind)
    total = sum(part.seconds() for part in step.values())
    users = data['held_out'][0].unique().numel()
    width = sum(model.encoder.blocks.values())
    # Embeddings, and scores that are written and looked at once.
    scores = product(users, scored(model), model.num_items, 1, kind, False)
    moved = scores.bytes + 2 * 4 * users * model.num_items
    test = encoders(model, kind, 1, 1) | {
        'propagate': hops(
            model.num_users + model.num_items,
            2 * edges,
            width,
            model.encoder.K,
        ),
        'score': scores._replace(bytes=moved),
    }
    return {
        'parts': {
            name: {**part._asdict(), 'seconds': part.seconds()}
            for name, part in step.items()
        },
        'flops of a step': sum(part.flops for part in step.values()),
        'bytes of a step': sum(part.bytes for part in step.values()),
        'step': total,
        'epoch': total * loader.edge_index.size(1) / loader.batch_size,
        'evaluation': sum(part.seconds() for part in test.values()),
    }
