r"""What the released code computes beside the graph; the parameters are those
of :class:`~pyg_sea.nn.ReleasedSEA`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import BatchNorm1d, Linear, ReLU, Sequential
from torch_geometric.typing import OptTensor

from pyg_sea._count import check_count

from ..chunked_linear import chunked_linear, needs_chunks
from ..loss.estimator import MLPGaussian, negative_log_likelihood
from ..modality import check_channels


class ReleasedRows(NamedTuple):
    r"""What four linear layers make of the full-width map of one modality.

    Args:
        head (torch.Tensor): The first layer of the projection head.
        generic (torch.Tensor): The generic part that CLUB reads.
        unique (torch.Tensor): The unique part that CLUB reads.
        hidden (torch.Tensor): The first layer of the graph convolution.
    """

    head: Tensor
    generic: Tensor
    unique: Tensor
    hidden: Tensor


def released_rows(
    x: Tensor, full: Any, readers: Sequence[Any]
) -> ReleasedRows:
    r"""Applies the full-width map and the four layers that read it: the first
    two its first half, the third its second half, the last all of it. Nothing
    bends in between, and the products of the matrices are much narrower than
    the map.

    Args:
        x (torch.Tensor): Raw features :math:`(I, F)`.
        full (torch.nn.Linear): The map, as released :math:`(F, F)`.
        readers (list[torch.nn.Linear]): The layers, in the order of
            :class:`ReleasedRows`.
    """
    half = full.weight.size(0) // 2
    parts = [slice(half), slice(half), slice(half, None), slice(None)]
    pairs = list(zip(readers, parts))
    weight = torch.cat([r.weight @ full.weight[part] for r, part in pairs])
    bias = torch.cat(
        [r.weight @ full.bias[part] + r.bias for r, part in pairs]
    )
    linear = chunked_linear if needs_chunks(x, weight) else F.linear
    sizes = [reader.weight.size(0) for reader in readers]
    return ReleasedRows(*linear(x, weight, bias).split(sizes, dim=1))


def map_widths(
    in_channels: Mapping[str, int], map_channels: int | None
) -> dict[str, int]:
    r"""Returns the width of the map of every modality.

    Args:
        in_channels (dict[str, int]): The number of features of each.
        map_channels (int, optional): The width of all; :obj:`None` for the
            number of features.

    Raises:
        ValueError: If a number is not positive, or a map too narrow to be
            halved.
    """
    widths = check_channels(in_channels)
    if map_channels is None:
        return widths
    check_count('map_channels', map_channels)
    if map_channels < 2:
        raise ValueError(
            f"'map_channels' needs to be at least 2, to be halved "
            f'(got {map_channels})'
        )
    return dict.fromkeys(widths, map_channels)


def projection_head(
    in_channels: int, hidden_channels: int, out_channels: int
) -> Sequential:
    r"""Returns the perceptron before the alignment.

    Args:
        in_channels (int): Size of the input.
        hidden_channels (int): Size of both hidden layers.
        out_channels (int): Size of the output.
    """
    return Sequential(
        Linear(in_channels, hidden_channels),
        BatchNorm1d(hidden_channels),
        ReLU(),
        Linear(hidden_channels, hidden_channels),
        BatchNorm1d(hidden_channels),
        ReLU(),
        Linear(hidden_channels, out_channels),
    )


def released_distance(
    estimator: MLPGaussian, generic: Tensor, unique: Tensor, perm: OptTensor
) -> Tensor:
    r"""Returns the sampled bound, halved once too often and clamped at 0.

    Args:
        estimator (MLPGaussian): The estimator, held constant.
        generic (torch.Tensor): Generic parts :math:`(I, D)`.
        unique (torch.Tensor): Unique parts :math:`(I, D)`.
        perm (torch.Tensor, optional): The negative of every item
            :math:`(I)`; drawn if :obj:`None`.
    """
    if perm is None:
        perm = torch.randperm(unique.size(0), device=unique.device)
    # A later fit writes the estimator's own tensors.
    tensors = [t.clone() for t in estimator.tensors()]
    q = estimator(generic, tensors)
    bound = negative_log_likelihood(
        unique.index_select(0, perm), *q
    ) - negative_log_likelihood(unique, *q)
    return F.relu(bound / 2)
