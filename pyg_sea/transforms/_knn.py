"""Exact cosine nearest neighbours, in blocks."""

import torch
from torch import Tensor

FAISS_MAX_K = 2048


def unit_rows(x: Tensor) -> Tensor:
    """Scale rows to unit length; all-zero rows stay zero.

    Shapes: `x` and the output are `[N, F]`.
    """
    x = x.detach().to(torch.promote_types(x.dtype, torch.float32))
    largest = x.abs().amax(dim=1, keepdim=True)
    x = x / largest.where(largest > 0, torch.ones_like(largest))
    norm = x.norm(dim=1, keepdim=True)
    return x / norm.where(norm > 0, torch.ones_like(norm))


def _lowest_of_ties(score: Tensor, k: int) -> Tensor:
    # `topk` alone picks among equal scores as it pleases.
    value, index = score.topk(min(k + 1, score.size(1)))
    tied = value[:, k - 1 : -1].eq(value[:, k:]).squeeze(1)
    index = index[:, :k]
    if bool(tied.any()):
        order = score[tied].sort(dim=1, descending=True, stable=True).indices
        index[tied] = order[:, :k]
    return index


def knn_torch(
    x: Tensor, k: int, include_self: bool, block_size: int | None
) -> Tensor:
    """Find nearest neighbours by blocked matrix products.

    Args:
        x: Unit rows.
        k: How many.
        include_self: Whether a row is its own first neighbour, or none.
        block_size: Rows per block; `None` for blocks of 64 MiB.

    Shapes: `x` is `[N, F]`, the output `[N, k]`.
    """
    block_size = block_size or max(1, 2**24 // x.size(0))
    own_score = float('inf') if include_self else float('-inf')
    out = []
    for start in range(0, x.size(0), block_size):
        score = x[start : start + block_size] @ x.t()
        score.diagonal(start).fill_(own_score)
        out.append(_lowest_of_ties(score, k))
    return torch.cat(out)


def knn_faiss(x: Tensor, k: int, include_self: bool) -> Tensor:
    """Find nearest neighbours through PyG's `MIPSKNNIndex`.

    Args:
        x: Unit rows.
        k: How many.
        include_self: Whether a row is its own first neighbour, or none.

    Shapes: `x` is `[N, F]`, the output `[N, k]`.

    Raises an `ImportError` without faiss, and a `ValueError` if `k` is
    beyond what faiss can do.
    """
    from torch_geometric.nn.pool import MIPSKNNIndex

    if k >= FAISS_MAX_K:
        raise ValueError(
            f"'k' needs to be below {FAISS_MAX_K} with faiss (got {k}); use "
            "backend='torch'"
        )
    x = x.float()
    try:
        index = MIPSKNNIndex(x)
    except ImportError as error:
        raise ImportError(
            'backend=\'faiss\' needs faiss: pip install "pyg_sea[knn]"'
        ) from error
    others = index.search(x, min(k + 1, x.size(0))).index
    own = torch.arange(x.size(0), device=x.device).unsqueeze(1)
    # A stable sort moves the row itself, if it was found, to the end.
    last = (others == own).long().sort(dim=1, stable=True).indices
    others = others.gather(1, last)
    if include_self:
        return torch.cat([own, others[:, : k - 1]], dim=1)
    return others[:, :k]
