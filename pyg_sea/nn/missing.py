import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .distributed import own_rows

_CHUNK_NUMEL = 2**21


def zero_rows(x: Tensor, name: str = 'x') -> Tensor:
    r"""Returns which rows are all zero, reading them in chunks: they may be
    mapped from a file.

    Args:
        x (torch.Tensor): Raw features.
        name (str, optional): What messages call them.
            (default: :obj:`"x"`)

    Shapes:
        - **input:** :math:`(N, F)`
        - **output:** :math:`(N)`, booleans

    Raises:
        ValueError: If a row is not finite.

    Example:
        >>> import torch
        >>> from pyg_sea.nn.missing import zero_rows
        >>> zero_rows(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
        tensor([False,  True])
    """
    chunks = x.detach().split(max(1, _CHUNK_NUMEL // x.size(1)))
    largest = torch.cat([chunk.abs().amax(dim=1) for chunk in chunks])
    bad = (~largest.isfinite()).nonzero().view(-1)
    if bad.numel() > 0:
        raise ValueError(
            f"'{name}' needs finite rows, all zero for an item that lacks the "
            f'modality (row {int(bad[0])} is not finite, and '
            f'{bad.numel() - 1} more)'
        )
    return largest == 0


class MissingRows:
    r"""Finds the items that lack a modality, those whose features are all
    zero. The answer is kept as long as the same tensors come, unmodified, so
    that training steps neither read the features for it nor wait for the
    device.

    Example:
        >>> import torch
        >>> from pyg_sea.nn.missing import MissingRows
        >>> modal_x = {'image': torch.zeros(1, 4), 'text': torch.ones(1, 2)}
        >>> MissingRows()(modal_x, torch.device('cpu'))
        {'image': tensor([True])}
    """

    def __init__(self) -> None:
        self._cache = _TensorCache()

    @torch.compiler.disable
    def __call__(
        self, modal_x: Mapping[str, Tensor], device: torch.device
    ) -> dict[str, Tensor]:
        r"""Returns one mask :math:`(N)` per modality, true where it is
        missing; modalities that all items have are left out.

        Args:
            modal_x (dict[str, torch.Tensor]): Raw item features per modality.
            device (torch.device): Where the masks are to be.
        """
        out = {}
        for name, x in modal_x.items():
            mask = self._cache([x], (name, device), _mask_of)
            if mask is not None:
                out[name] = mask
        return out

    def clear(
        self, x_item: Mapping[str, Tensor], modal_x: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        r"""Sets the rows of items that lack a modality to zero. They get a
        gradient of zero, too.

        Args:
            x_item (dict[str, torch.Tensor]): Item rows per modality,
                :math:`(N, D)`.
            modal_x (dict[str, torch.Tensor]): Raw item features per modality.
        """
        out = dict(x_item)
        device = next(iter(out.values())).device
        for name, mask in self(modal_x, device).items():
            out[name] = out[name].masked_fill(mask.unsqueeze(1), 0.0)
        return out


class Chosen(NamedTuple):
    r"""Some of the rows.

    Args:
        rows (torch.Tensor): Which of the rows of this process.
        sizes (list[int], optional): How many in every process, if they are
            shares.
        total (int): How many in all processes.

    Shapes:
        - **rows:** :math:`(N^{\prime})`

    Example:
        >>> import torch
        >>> from pyg_sea.nn.missing import Chosen
        >>> Chosen(torch.tensor([0, 2]), None, 2).total
        2
    """

    rows: Tensor
    sizes: list[int] | None
    total: int


class CommonRows:
    r"""Chooses the items that have all of some modalities. The answer is kept
    as long as the same masks come, unmodified.

    Example:
        >>> import torch
        >>> from pyg_sea.nn.missing import CommonRows
        >>> missing = torch.tensor([[True, False, False],
        ...                         [False, False, True]])
        >>> CommonRows()([*missing], num_rows=3).rows
        tensor([1])
    """

    def __init__(self) -> None:
        self._cache = _TensorCache()

    @torch.compiler.disable
    def __call__(
        self,
        masks: Sequence[Tensor],
        num_rows: int,
        sizes: Sequence[int] | None = None,
    ) -> Chosen:
        r"""Returns the rows that no mask names.

        Args:
            masks (list[torch.Tensor]): True where a modality is missing,
                :math:`(N)`, of the rows of all processes.
            num_rows (int): The number of rows in this process.
            sizes (list[int], optional): The number of rows in every process,
                if they are shares. (default: :obj:`None`)

        Raises:
            ValueError: If there are more or less of them.
        """
        total = num_rows if sizes is None else sum(sizes)
        for mask in masks:
            if mask.dtype != torch.bool or mask.shape != (total,):
                raise ValueError(
                    f"'missing' needs masks of {total} booleans, one per row "
                    f'of all processes that share them (got {mask.dtype} of '
                    f'shape {list(mask.shape)})'
                )
        key = None if sizes is None else tuple(sizes)
        return self._cache(masks, key, _choose)


class _TensorCache:
    def __init__(self) -> None:
        self._found: dict[Any, tuple[list[Any], list[int], Any]] = {}

    def __call__(
        self, tensors: Sequence[Tensor], key: Any, make: Callable[..., Any]
    ) -> Any:
        if any(tensor.is_inference() for tensor in tensors):
            return make(tensors, key)  # They do not tell of changes.
        versions = [tensor._version for tensor in tensors]
        where = (key, *(id(tensor) for tensor in tensors))
        if where in self._found:
            refs, then, value = self._found[where]
            same = all(ref() is t for ref, t in zip(refs, tensors))
            if same and then == versions:
                return value
        self._found = {
            where: found
            for where, found in self._found.items()
            if all(ref() is not None for ref in found[0])
        }
        value = make(tensors, key)
        refs = [weakref.ref(tensor) for tensor in tensors]
        self._found[where] = refs, versions, value
        return value

    def __deepcopy__(self, memo: dict[int, object]) -> '_TensorCache':
        return _TensorCache()

    def __reduce__(self) -> tuple[type['_TensorCache'], tuple[()]]:
        return _TensorCache, ()


@torch.inference_mode(False)
@torch.no_grad()
def _mask_of(
    tensors: Sequence[Tensor], key: tuple[str, torch.device]
) -> Tensor | None:
    [x], (name, device) = tensors, key
    mask = zero_rows(x, f'modal_x[{name!r}]')
    return mask.to(device) if bool(mask.any()) else None


@torch.inference_mode(False)
@torch.no_grad()
def _choose(masks: Sequence[Tensor], sizes: tuple[int, ...] | None) -> Chosen:
    there = ~torch.stack([*masks]).any(dim=0)
    if sizes is None:
        rows = there.nonzero().view(-1)
        return Chosen(rows, None, rows.numel())
    counts = [int(part.sum()) for part in there.split([*sizes])]
    rows = there[own_rows(sizes)].nonzero().view(-1)
    return Chosen(rows, counts, sum(counts))
