"""Full ranking, the protocol of the multimodal recommendation literature."""

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch_geometric.metrics import (
    LinkPredHitRatio,
    LinkPredMAP,
    LinkPredMetricCollection,
    LinkPredMRR,
    LinkPredNDCG,
    LinkPredPrecision,
    LinkPredRecall,
)
from torch_geometric.utils import coalesce

from pyg_sea._count import check_count
from pyg_sea._rows import Rows, check_pairs
from pyg_sea.nn.distributed import (
    gather_rows,
    share,
    share_sizes,
    sum_over_ranks,
    world_size,
)
from pyg_sea.recommend import Scorer, probe, top_k

__all__ = ['METRICS', 'evaluate']

classes = __all__

#: The metrics that :func:`evaluate` knows, by name: classes of PyG that take
#: the cut-off k, and compare ranked items `[B, k]` with held-out pairs
#: `[2, L]` of row and item.
METRICS = {
    'recall': LinkPredRecall,
    'ndcg': LinkPredNDCG,
    'precision': LinkPredPrecision,
    'map': LinkPredMAP,
    'hit_ratio': LinkPredHitRatio,
    'mrr': LinkPredMRR,
}

# Users whose top-k lists are held at a time.
_MAX_USERS = 2**16


def evaluate(
    scorer: Scorer,
    edge_label_index: Tensor,
    train_edge_index: Tensor | None = None,
    k: int | Sequence[int] = (10, 20),
    metrics: str | Sequence[str] = ('recall', 'ndcg'),
    batch_size: int | None = None,
    sync: bool = False,
) -> dict[str, float]:
    r"""Ranks all items for every user with a held-out item and averages
    PyG's metrics over these users.

    A user's train items are masked. Users without any train edge are left
    out and counted in a warning. Repeated held-out pairs count once. NDCG's
    ideal ranking is cut at :math:`\min(|\mathrm{pos}|, k)`.

    Args:
        scorer: The scores of all items for some users: embeddings
            (:class:`~pyg_sea.recommend.EmbeddingScorer`), a baseline
            (:mod:`pyg_sea.baselines`), `scores.__getitem__` of a dense
            `[U, I]` matrix, or any other function. The work is done on its
            device.
        edge_label_index: Held-out (user, item) pairs, local ids.
        train_edge_index: Train (user, item) pairs, local ids; best sorted by
            user, which saves a sort (default: `None`, nothing is masked and
            nobody left out).
        k: One or several cut-offs (default: `(10, 20)`).
        metrics: One or several of `'recall'`, `'ndcg'`, `'precision'`,
            `'map'`, `'hit_ratio'`, `'mrr'` (default: `('recall', 'ndcg')`).
        batch_size: Users scored at a time (default: `None`, as many as keep
            the scores within 16 MiB on CPU and 1 GiB on GPU).
        sync: Whether the processes of :mod:`torch.distributed`, all called
            with the same arguments, rank a share of the users each. All of
            them return the same. Without, processes do not communicate
            (default: `False`).

    Shapes:
        - `edge_label_index`: `[2, L]`
        - `train_edge_index`: `[2, E]`

    Returns one number in [0, 1] per metric and cut-off, such as
    `{'recall@10': 0.06, 'recall@20': 0.10, 'ndcg@10': 0.03, ...}`.

    Raises a `ValueError` if an argument is malformed or no user remains, and
    a `FloatingPointError` if a score is NaN or inf, with `sync` in all
    processes.

    Example:
        >>> import torch
        >>> from pyg_sea.evaluate import evaluate
        >>> scores = torch.tensor([[0.9, 0.8, 0.1], [0.3, 0.2, 0.1]])
        >>> train = torch.tensor([[0, 1], [0, 1]])
        >>> held_out = torch.tensor([[0, 1], [1, 2]])
        >>> evaluate(scores.__getitem__, held_out, train, k=1)
        {'recall@1': 0.5, 'ndcg@1': 0.5}
    """
    cutoffs = list(k) if isinstance(k, Iterable) else [k]
    if not cutoffs:
        raise ValueError(f"'k' needs at least one cutoff (got {k})")
    for cutoff in cutoffs:
        check_count('k', cutoff)
    metrics = [metrics] if isinstance(metrics, str) else metrics
    unknown = [name for name in metrics if name not in METRICS]
    if unknown or not metrics:
        raise ValueError(
            f"'metrics' needs names out of {sorted(METRICS)} "
            f'(got {list(metrics)})'
        )
    check_pairs('edge_label_index', edge_label_index, None, None)
    num_items, device = probe(scorer, edge_label_index[0, :1])
    check_pairs('edge_label_index', edge_label_index, None, num_items)
    labels = coalesce(edge_label_index.to(device))
    if train_edge_index is not None:
        check_pairs('train_edge_index', train_edge_index, None, num_items)
        train_edge_index = train_edge_index.to(device)
        labels = with_history(labels, train_edge_index, stacklevel=3)
    users = labels[0].unique_consecutive()
    if users.numel() == 0:
        raise ValueError(
            "'edge_label_index' needs at least one user with a held-out item "
            'and a train edge (got none)'
        )

    with _single_precision():
        collection = LinkPredMetricCollection(
            {
                f'{name}@{cutoff}': METRICS[name](cutoff)
                for name in metrics
                for cutoff in cutoffs
            }
        ).to(device)
    for metric in collection.values():
        # Else torchmetrics waits for other processes, which may not be here.
        metric.distributed_available_fn = lambda: False
    rank_items = _rank_shared if sync and world_size() > 1 else _rank
    rows = Rows(labels, int(users[-1]) + 1)
    for chunk in users.split(_MAX_USERS):
        items = rank_items(
            scorer, chunk, max(cutoffs), train_edge_index, batch_size
        )
        position, entry = rows.of(chunk)
        # PyG reads -1 as the last item of the row before.
        items = items.where(items >= 0, num_items)
        with _single_precision():
            collection.update(items, torch.stack([position, rows.col[entry]]))
    with _single_precision():
        values = collection.compute()
    return dict(
        zip(values, torch.stack([*values.values()]).tolist(), strict=True)
    )


@contextlib.contextmanager
def _single_precision() -> Iterator[None]:
    # PyG counts in torch's default type, which Lightning sets to that of a
    # model: bfloat16 cannot tell 256 users from 257.
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float)
    try:
        yield
    finally:
        torch.set_default_dtype(dtype)


def _rank(scorer: Scorer, users: Tensor, *args: Any) -> Tensor:
    return top_k(scorer, users, *args).items


def _rank_shared(scorer: Scorer, users: Tensor, k: int, *args: Any) -> Tensor:
    # Rankings are gathered, not the sums of metrics, so that these are added
    # up in the order of a single process.
    sizes = share_sizes(users.numel())
    users = users[share(users.numel())]
    error: FloatingPointError | None = None
    try:
        items = _rank(scorer, users, k, *args)
    except FloatingPointError as caught:
        error = caught
        items = users.new_full((users.numel(), k), -1)
    # One process alone must not raise, as the others would wait for it.
    failed = torch.tensor(float(error is not None), device=users.device)
    if bool(sum_over_ranks(failed)[0]):
        raise error or FloatingPointError(
            "'scorer' needs to return finite scores (got NaN or inf in "
            'another process): check the embeddings or features it was made '
            'from'
        )
    return gather_rows(items, sizes)


def with_history(
    edge_label_index: Tensor, train_edge_index: Tensor, stacklevel: int = 2
) -> Tensor:
    """The held-out pairs of users that have a train edge; warns of others."""
    mask = torch.isin(edge_label_index[0], train_edge_index[0])
    if not bool(mask.all()):
        warnings.warn(
            f'{edge_label_index[0, ~mask].unique().numel()} users without a '
            f'train edge were left out of the evaluation',
            stacklevel=stacklevel + 1,
        )
    return edge_label_index[:, mask]
