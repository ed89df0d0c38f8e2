from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, NamedTuple

from torch import Tensor
from torch.nn import Module, ModuleDict

from .distributed import row_sizes
from .loss import CLUBLoss, NegativeL2Loss, SoloSimLoss
from .missing import CommonRows
from .modality import check_channels, check_modal_x, modality_key
from .split import GenericUniqueSplit, ModalParts


class SeparateLearningOutput(NamedTuple):
    r"""What :class:`SeparateLearning` returns.

    Args:
        parts (dict[str, ModalParts]): The generic and the unique part of
            every modality.
        loss (torch.Tensor): The weighted sum of the terms, a scalar to add
            to a ranking loss.
        terms (dict[str, torch.Tensor]): The terms before weighting:
            :obj:`"align/<later>-<earlier>"` per pair of modalities and
            :obj:`"distance/<modality>"`.

    Shapes:
        - **parts:** :math:`(N, D_g)` and :math:`(N, D_u)` per modality
        - **loss** and every term: scalars, in nats

    Example:
        >>> import torch
        >>> from pyg_sea.nn import SeparateLearningOutput
        >>> out = SeparateLearningOutput({}, torch.tensor(0.0), {})
        >>> out.loss
        tensor(0.)
    """

    parts: dict[str, ModalParts]
    loss: Tensor
    terms: dict[str, Tensor]


class SeparateLearning(Module):
    r"""Separate learning (eq. 13-16) of the `"It is Never Too Late to Mend:
    Separate Learning for Multimedia Recommendation"
    <https://arxiv.org/abs/2406.08270>`_ paper, for any recommender that has
    one matrix of item rows per modality.

    Every modality is split into a generic part :math:`\mathbf{g}^m` and a
    unique part :math:`\mathbf{u}^m`. The generic parts are aligned across
    modalities, each unordered pair once, the later one against the earlier
    one; inside every modality the unique part is driven away from the
    generic one:

    .. math::
        \mathcal{L} = \alpha \sum_{a > b} \mathrm{SoloSim}(\mathbf{g}^a,
        \mathbf{g}^b) + \beta \sum_m \mathrm{CLUB}(\mathbf{g}^m,
        \mathbf{u}^m)

    A single modality has nothing to align with. A term of weight 0 is not
    computed. An item counts for a term if it has the modalities of that term;
    where less than two items do, the term is 0.

    Args:
        in_channels (dict[str, int]): The size :math:`C_m` of the rows of each
            modality. Its order is the order of the modalities.
        generic_channels (int, optional): Size :math:`D_g` of generic parts,
            the same for all modalities. If set to :obj:`None`, is half of
            the narrowest modality. (default: :obj:`None`)
        unique_channels (int, optional): Size of unique parts. If set to
            :obj:`None`, is what :obj:`generic_channels` leaves of each
            modality. (default: :obj:`None`)
        mode (str, optional): The mode of :class:`GenericUniqueSplit`.
            (default: :obj:`"linear"`)
        alpha (float, optional): Weight :math:`\alpha` of the alignment.
            (default: :obj:`0.03`)
        beta (float, optional): Weight :math:`\beta` of the distancing.
            (default: :obj:`0.0003`)
        temperature (float, optional): The temperature of
            :class:`SoloSimLoss`. (default: :obj:`0.2`)
        symmetric (bool, optional): If set to :obj:`True`, adds the reverse
            alignment of every pair. (default: :obj:`False`)
        num_anchors (int, optional): Rows that :class:`SoloSimLoss` draws per
            training step. (default: :obj:`None`, all)
        distance (str, optional): :obj:`"club"` for :class:`CLUBLoss` or
            :obj:`"negative_l2"` for :class:`NegativeL2Loss`.
            (default: :obj:`"club"`)
        club_kwargs (dict[str, Any], optional): Further arguments of
            :class:`CLUBLoss`. (default: :obj:`None`)
        sync (bool, optional): If set to :obj:`True`, the rows of a process
            of :mod:`torch.distributed` are its share of all rows: in
            training mode the mean of the losses over processes is the loss
            of one process on all of them. (default: :obj:`False`)

    Shapes:
        - **input:** a dictionary of rows :math:`(N, C_m)`
        - **output:** :class:`SeparateLearningOutput`

    Raises:
        ValueError: If an option is out of range, or the input holds other
            modalities or widths than stated.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import SeparateLearning
        >>> separate = SeparateLearning({'image': 64, 'text': 64})
        >>> x = {'image': torch.randn(500, 64), 'text': torch.randn(500, 64)}
        >>> out = separate(x)
        >>> out.parts['image'].generic.shape
        torch.Size([500, 32])
        >>> list(out.terms)
        ['align/text-image', 'distance/image', 'distance/text']
    """

    def __init__(
        self,
        in_channels: Mapping[str, int],
        generic_channels: int | None = None,
        unique_channels: int | None = None,
        mode: str = 'linear',
        alpha: float = 0.03,
        beta: float = 0.0003,
        temperature: float = 0.2,
        symmetric: bool = False,
        num_anchors: int | None = None,
        distance: str = 'club',
        club_kwargs: dict[str, Any] | None = None,
        sync: bool = False,
    ) -> None:
        super().__init__()

        self.in_channels = check_channels(in_channels)
        self.modalities = list(self.in_channels)
        if generic_channels is None:
            generic_channels = min(self.in_channels.values()) // 2
        self.generic_channels = generic_channels
        if distance not in ('club', 'negative_l2'):
            raise ValueError(
                f"'distance' needs to be 'club' or 'negative_l2' "
                f'(got {distance!r})'
            )
        if distance == 'negative_l2' and club_kwargs:
            raise ValueError(
                f"distance='negative_l2' takes no 'club_kwargs' "
                f'(got {sorted(club_kwargs)})'
            )
        for name, value in [('alpha', alpha), ('beta', beta)]:
            if value < 0:
                raise ValueError(
                    f"'{name}' needs to be at least 0 (got {value})"
                )

        self.alpha = alpha
        self.beta = beta

        self.splits = ModuleDict()
        self.distances = ModuleDict()
        for name, size in self.in_channels.items():
            split = GenericUniqueSplit(
                size, generic_channels, unique_channels, mode
            )
            self.splits[modality_key(name)] = split
            self.distances[modality_key(name)] = (
                CLUBLoss(
                    generic_channels,
                    split.unique_channels,
                    **{'sync': sync, **(club_kwargs or {})},
                )
                if distance == 'club'
                else NegativeL2Loss(sync)
            )
        self.align = SoloSimLoss(
            temperature,
            symmetric=symmetric,
            num_anchors=num_anchors,
            sync=sync,
        )
        self.sync = sync
        self._common = CommonRows()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters and estimators of the module."""
        for module in [*self.splits.values(), *self.distances.values()]:
            if isinstance(module, GenericUniqueSplit | CLUBLoss):
                module.reset_parameters()

    def forward(
        self,
        modal_x: Mapping[str, Tensor],
        sizes: Sequence[int] | None = None,
        missing: Mapping[str, Tensor] | None = None,
    ) -> SeparateLearningOutput:
        r"""Splits the rows and computes the loss.

        Args:
            modal_x (dict[str, torch.Tensor]): The rows of every modality,
                :math:`(N, C_m)`, row :math:`i` the same item in all of them.
            sizes (list[int], optional): With :obj:`sync`, the number of rows
                in every process, if known: to ask for it takes a wait for
                the device. (default: :obj:`None`)
            missing (dict[str, torch.Tensor], optional): Which items lack a
                modality, :math:`(N)` booleans; modalities that all items have
                may be left out. With :obj:`sync` in training mode, of the
                rows of all processes. Pass the same tensors in all steps:
                others are looked through, which takes a wait for the device.
                (default: :obj:`None`)
        """
        parts = self.split(modal_x)
        loss, terms = self.loss(parts, sizes, missing)
        return SeparateLearningOutput(parts, loss, terms)

    def split(self, modal_x: Mapping[str, Tensor]) -> dict[str, ModalParts]:
        r"""Splits the rows of every modality (eq. 13-14).

        Args:
            modal_x (dict[str, torch.Tensor]): The rows of every modality.
        """
        check_modal_x(modal_x, self.modalities)
        return {
            name: self.splits[modality_key(name)](modal_x[name])
            for name in self.modalities
        }

    def loss(
        self,
        parts: Mapping[str, ModalParts],
        sizes: Sequence[int] | None = None,
        missing: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Returns the weighted loss and its named terms (eq. 15-16).

        Args:
            parts (dict[str, ModalParts]): The parts of every modality.
            sizes (list[int], optional): As of :meth:`forward`.
                (default: :obj:`None`)
            missing (dict[str, torch.Tensor], optional): As of
                :meth:`forward`. (default: :obj:`None`)
        """
        missing = {} if missing is None else missing
        unknown = [name for name in missing if name not in parts]
        if unknown:
            raise ValueError(
                f"'missing' names unknown modalities {unknown} (known: "
                f'{self.modalities})'
            )
        terms: dict[str, Tensor] = {}
        loss = next(iter(parts.values())).generic.new_zeros(())
        if self.alpha > 0:
            for earlier, later in combinations(self.modalities, 2):
                pair = parts[later].generic, parts[earlier].generic
                masks = [missing[m] for m in (earlier, later) if m in missing]
                term = self._term(self.align, pair, sizes, masks)
                terms[f'align/{later}-{earlier}'] = term
                loss = loss + self.alpha * term
        if self.beta > 0:
            for name in self.modalities:
                distance = self.distances[modality_key(name)]
                masks = [missing[name]] if name in missing else []
                term = self._term(distance, parts[name], sizes, masks)
                terms[f'distance/{name}'] = term
                loss = loss + self.beta * term
        return loss, terms

    def _term(
        self,
        loss: Module,
        pair: tuple[Tensor, Tensor],
        sizes: Sequence[int] | None,
        masks: Sequence[Tensor],
    ) -> Tensor:
        if not masks:
            return loss(*pair, sizes)
        num_rows = pair[0].size(0)
        synced = self.sync and self.training
        shares = row_sizes(pair[0], sizes) if synced else None
        chosen = self._common(masks, num_rows, shares)
        if chosen.total < 2:  # With a graph: others wait for its gradients.
            return pair[0][:0].sum() + pair[1][:0].sum()
        x, y = (x.index_select(0, chosen.rows) for x in pair)
        return loss(x, y, chosen.sizes)

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.in_channels}, '
            f'alpha={self.alpha}, beta={self.beta})'
        )
