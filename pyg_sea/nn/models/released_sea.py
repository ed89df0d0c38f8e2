import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn import BatchNorm1d, Linear, ModuleDict
from torch_geometric.typing import Adj, OptTensor

from ..conv import ItemGraphConv
from ..loss import BPRLoss, SoloSimLoss
from ..loss.estimator import MLPGaussian
from ..modal_graph_encoder import ModalGraphEncoder
from ..modality import check_modal_x, modality_key
from ..split import ModalParts
from ..unit_rows import unit_rows
from .recommender import Recommender
from .released_layers import (
    ReleasedRows,
    map_widths,
    projection_head,
    released_distance,
    released_rows,
)


class ReleasedSEA(Recommender):
    r"""The arithmetic of the code that was released with the `"It is Never
    Too Late to Mend: Separate Learning for Multimedia Recommendation"
    <https://arxiv.org/abs/2406.08270>`_ paper, for comparisons.

    The method page lists how it differs from the paper and :class:`SEA`.
    Features are split **before** the graph, which reads the unsplit map
    (multiplied out with its readers: the same function, less work); BPR is to
    base 2; the estimator is fitted by :meth:`after_backward`, on the **wrong
    pairs**, so that what is minimized bounds no mutual information; in
    evaluation mode :meth:`get_embedding` returns the embedding of the last
    training step, from before its update.

    .. math::
        \mathcal{L} = \mathcal{L}_\mathrm{BPR} / \ln 2 + \alpha \,
        \mathrm{SoloSim} + \tfrac{\beta}{2} \sum_m \max(\tfrac{1}{2}
        \mathrm{CLUB}_m, 0)

    Args:
        num_users (int): The number of users :math:`U`.
        num_items (int): The number of items :math:`I`.
        in_channels (dict[str, int]): The feature sizes of exactly two
            modalities, as released :obj:`{"image": ..., "text": ...}`.
        hidden_channels (int, optional): Embedding size per modality.
            (default: :obj:`64`)
        alpha (float, optional): Weight of the alignment.
            (default: :obj:`0.012`, as shipped)
        beta (float, optional): Weight of the distancing, there
            :obj:`ureg`. (default: :obj:`0.006`, as shipped)
        temperature (float, optional): Temperature of the alignment.
            (default: :obj:`0.2`)
        num_steps (int, optional): Estimator steps per batch.
            (default: :obj:`50`)
        estimator_lr (float, optional): Learning rate of the estimator; the
            released code takes the model's. (default: :obj:`1e-4`, as shipped)
        map_channels (int, optional): Width of the features' maps, at least 2;
            :obj:`None` for theirs, as released. (default: :obj:`None`)

    Shapes:
        - **input:** as of :class:`Recommender`
        - **output:** embeddings :math:`(U + I, 2 D)`, the block of the first
          modality first

    Raises:
        ValueError: If there are not exactly two modalities, a size is not
            positive, or the input does not fit.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import ReleasedSEA
        >>> model = ReleasedSEA(3, 12, {'image': 16, 'text': 8})
        >>> modal_x = {'image': torch.randn(12, 16),
        ...            'text': torch.randn(12, 8)}
        >>> edge_index = torch.tensor([[0, 1, 3, 4], [3, 4, 0, 1]])
        >>> triplets = torch.tensor([[0, 1], [0, 1], [1, 0]])
        >>> loss, terms = model.loss(modal_x, edge_index, triplets)
        >>> loss.backward()
        >>> model.after_backward()  # Fits the estimator, as released.
        >>> list(terms)
        ['bpr', 'align/text-image', 'distance/image', 'distance/text']
    """

    last_embedding: Tensor
    trained: Tensor

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: Mapping[str, int],
        hidden_channels: int = 64,
        alpha: float = 0.012,
        beta: float = 0.006,
        temperature: float = 0.2,
        num_steps: int = 50,
        estimator_lr: float = 1e-4,
        map_channels: int | None = None,
    ) -> None:
        super().__init__(num_users, num_items)

        widths = map_widths(in_channels, map_channels)
        self.encoder = ModalGraphEncoder(num_users, widths, hidden_channels)
        self.modalities = self.encoder.modalities
        if len(self.modalities) != 2:
            raise ValueError(
                f"'in_channels' needs exactly two modalities in "
                f"'{self.__class__.__name__}' (got {self.modalities})"
            )
        self.alpha = alpha
        self.beta = beta

        half = hidden_channels // 2
        self.item_linears = ModuleDict()
        self.heads = ModuleDict()
        self.generic_linears = ModuleDict()
        self.unique_linears = ModuleDict()
        for name, size in widths.items():
            key = modality_key(name)
            self.item_linears[key] = Linear(in_channels[name], size)
            self.heads[key] = projection_head(size // 2, hidden_channels, half)
            self.generic_linears[key] = Linear(size // 2, half)
            self.unique_linears[key] = Linear(size - size // 2, half)
        self.item_conv = ItemGraphConv()
        self.estimator = MLPGaussian(half, half, 8, num_steps, estimator_lr)
        self.align = SoloSimLoss(temperature)
        self.bpr = BPRLoss()

        self.register_buffer(
            'last_embedding',
            torch.zeros(num_users + num_items, 2 * hidden_channels),
        )
        self.register_buffer('trained', torch.tensor(False))
        self._is_trained = False  # Mirrors `trained`, readable without a sync.
        self._parts: dict[str, ModalParts] = {}

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters and the estimator."""
        self.encoder.reset_parameters()
        for module in self.modules():
            if isinstance(module, Linear | BatchNorm1d | MLPGaussian):
                module.reset_parameters()
        self.trained.fill_(False)
        self._is_trained = False

    def get_embedding(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Returns the embedding of all nodes: a new one in training mode or
        before the first step, else that of the last training step.
        """
        if not self.training and self._is_trained:
            return self.last_embedding.clone()
        rows = self._rows(modal_x, self.num_items)
        return self._embed(
            rows, edge_index, edge_weight, item_edge_index, item_edge_weight
        )

    def get_item_embedding(
        self,
        modal_x: Mapping[str, Tensor],
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Returns the embedding of any items by their features alone. The
        released code has nothing like it. The arguments are those of
        :meth:`SEA.get_item_embedding`.
        """
        rows = self._encode_items(self._rows(modal_x))
        x = torch.cat([unit_rows(x) for x in rows.values()], dim=-1)
        return self.item_conv(x, item_edge_index, item_edge_weight)

    def loss(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        triplets: Tensor,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
        permutations: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Returns the loss of one batch and its named terms, unweighted.
        The arguments are those of :meth:`Recommender.loss`, and
        :obj:`permutations`, the negatives of CLUB, :math:`(I)` per modality,
        to repeat a step; they are drawn if not given.
        """
        rows = self._rows(modal_x, self.num_items)
        out = self._embed(
            rows, edge_index, edge_weight, item_edge_index, item_edge_weight
        )
        if self.training:
            self.last_embedding.copy_(out.detach())
            self.trained.fill_(True)
            self._is_trained = True

        x_user, x_item = out.split([self.num_users, self.num_items])
        scores = self.triplet_scores(x_user, x_item, triplets)
        bpr = self.bpr(*scores) / math.log(2)

        earlier, later = self.modalities
        align = self.align(
            *(self._project(name, rows[name]) for name in (later, earlier))
        )
        terms = {'bpr': bpr, f'align/{later}-{earlier}': align}
        for name, (_, generic, unique, _) in rows.items():
            perm = None if permutations is None else permutations[name]
            terms[f'distance/{name}'] = released_distance(
                self.estimator, generic, unique, perm
            )
            self._parts[name] = ModalParts(generic.detach(), unique.detach())

        distance = terms[f'distance/{earlier}'] + terms[f'distance/{later}']
        total = bpr + self.alpha * align + self.beta * distance / 2
        return total, terms

    def after_backward(self) -> None:
        r"""Fits the estimator on the parts of the last :meth:`loss`, and on
        the pairs that the released code takes. Call it after the backward
        pass of every step.
        """
        if not self._parts:
            raise RuntimeError("Call 'loss' before 'after_backward'")
        earlier, later = (self._parts[name] for name in self.modalities)
        # The sum of the losses of both pairs is twice that of all rows.
        self.estimator.fit(torch.cat(later), torch.cat(earlier), weight=2.0)

    def get_parts(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
    ) -> dict[str, ModalParts]:
        r"""Returns the parts of every item and modality that the released
        distancing reads. They do not depend on the graph.
        """
        return {
            name: ModalParts(rows.generic, rows.unique)
            for name, rows in self._rows(modal_x).items()
        }

    def _rows(
        self, modal_x: Mapping[str, Tensor], num_rows: int | None = None
    ) -> dict[str, ReleasedRows]:
        check_modal_x(modal_x, self.modalities, num_rows)
        out = {}
        for name in self.modalities:
            key = modality_key(name)
            head: Any = self.heads[key]
            conv: Any = self.encoder.convs[key]
            clubs = self.generic_linears[key], self.unique_linears[key]
            readers = [head[0], *clubs, conv.mlp.lins[0]]
            full = self.item_linears[key]
            out[name] = released_rows(modal_x[name], full, readers)
        return out

    def _encode_items(
        self, rows: Mapping[str, ReleasedRows]
    ) -> dict[str, Tensor]:
        convs: Any = self.encoder.convs
        return {
            name: convs[modality_key(name)].mlp.lins[1](
                F.leaky_relu(rows[name].hidden)
            )
            for name in self.modalities
        }

    def _project(self, name: str, rows: ReleasedRows) -> Tensor:
        head: Any = self.heads[modality_key(name)]
        return head[1:](rows.head)

    def _embed(
        self,
        rows: Mapping[str, ReleasedRows],
        edge_index: Adj,
        edge_weight: OptTensor,
        item_edge_index: Adj | None,
        item_edge_weight: OptTensor,
    ) -> Tensor:
        x_user, x_item = self.encoder.propagate(
            self._encode_items(rows), edge_index, edge_weight
        )
        x = torch.cat([*x_item.values()], dim=-1)
        x = self.item_conv(x, item_edge_index, item_edge_weight)
        return torch.cat([x_user, x])

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._is_trained = bool(self.trained)
