from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import ModuleDict, Parameter
from torch.nn.init import xavier_uniform_, zeros_
from torch_geometric.typing import Adj, OptTensor

from ..chunked_linear import FeatureLinear
from ..loss import BPRLoss
from ..modality import check_channels, check_modal_x, modality_key
from .recommender import Recommender


class VBPR(Recommender):
    r"""The matrix factorization with item features from the `"VBPR: Visual
    Bayesian Personalized Ranking from Implicit Feedback"
    <https://arxiv.org/abs/1510.01784>`_ paper, for any number of modalities.

    .. math::
        \hat{y}_{ui} &= \boldsymbol{\gamma}_u^\top \boldsymbol{\gamma}_i +
        \boldsymbol{\theta}_u^\top \mathbf{E} \mathbf{f}_i + \beta_i +
        \boldsymbol{\beta}^{\prime\top} \mathbf{f}_i, \qquad
        \mathbf{f}_i = \big\Vert_m \, \mathbf{f}_i^m

        \mathcal{L} &= - \tfrac{1}{B} \sum \ln \sigma(\hat{y}^+ - \hat{y}^-)
        + \frac{\lambda}{2B} \sum \left( \|\boldsymbol{\gamma}_u\|^2 +
        \|\boldsymbol{\theta}_u\|^2 + \|\boldsymbol{\gamma}_i\|^2 +
        \|\boldsymbol{\gamma}_j\|^2 + \beta_i^2 + \beta_j^2 \right)
        + \frac{\lambda_E}{2} \left( \|\mathbf{E}\|^2 +
        \|\boldsymbol{\beta}^{\prime}\|^2 \right)

    The features of all modalities are joined, so users have one
    :math:`\boldsymbol{\theta}_u` for all of them. The regularizer covers the
    users and items of a batch, and, if wanted, the maps. What the paper's
    score has beyond, a global offset and a bias per user, changes no ranking.
    Neither graph is used.

    Args:
        num_users (int): The number of users :math:`U`.
        num_items (int): The number of items :math:`I`.
        in_channels (dict[str, int]): The number of features :math:`F_m` of
            each modality.
        hidden_channels (int, optional): Size :math:`D` of
            :math:`\boldsymbol{\gamma}` and of :math:`\boldsymbol{\theta}`
            each. (default: :obj:`64`)
        lambda_reg (float, optional): Weight :math:`\lambda` of the
            regularizer. (default: :obj:`1e-3`)
        lambda_map (float, optional): Weight :math:`\lambda_E` of that of
            the maps. The features lead the free rows astray where they say
            little, unless this is large enough. (default: :obj:`0.0`)

    Shapes:
        - **input:** as of :class:`Recommender`
        - **output:** embeddings :math:`(U + I, 2 D + 1)`; the last channel is
          1 for users and the bias for items

    Raises:
        ValueError: If a size is not positive, the weight is negative, or the
            input does not fit.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import VBPR
        >>> model = VBPR(num_users=3, num_items=20,
        ...              in_channels={'image': 16, 'text': 8})
        >>> modal_x = {'image': torch.randn(20, 16),
        ...            'text': torch.randn(20, 8)}
        >>> edge_index = torch.tensor([[0, 1, 3, 4], [3, 4, 0, 1]])
        >>> triplets = torch.tensor([[0, 1], [0, 1], [7, 9]])
        >>> loss, terms = model.loss(modal_x, edge_index, triplets)
        >>> list(terms)
        ['bpr', 'reg']
        >>> model.get_embedding(modal_x, edge_index).shape
        torch.Size([23, 129])
    """

    def __init__(
        self,
        num_users: int,
        num_items: int,
        in_channels: Mapping[str, int],
        hidden_channels: int = 64,
        lambda_reg: float = 1e-3,
        lambda_map: float = 0.0,
    ) -> None:
        super().__init__(num_users, num_items)

        if hidden_channels < 1:
            raise ValueError(
                f"'hidden_channels' needs to be positive "
                f'(got {hidden_channels})'
            )
        for name, value in (
            ('lambda_reg', lambda_reg),
            ('lambda_map', lambda_map),
        ):
            if value < 0:
                raise ValueError(
                    f"'{name}' needs to be at least 0 (got {value})"
                )
        self.in_channels = check_channels(in_channels)
        self.modalities = list(self.in_channels)
        self.hidden_channels = hidden_channels
        self.lambda_reg = lambda_reg
        self.lambda_map = lambda_map

        self.user_embedding = Parameter(
            torch.empty(num_users, 2 * hidden_channels)
        )
        self.item_embedding = Parameter(
            torch.empty(num_items, hidden_channels)
        )
        self.item_bias = Parameter(torch.empty(num_items, 1))
        # A map of joined features is a sum of maps. The last row is beta'.
        self.linears = ModuleDict(
            {
                modality_key(name): FeatureLinear(
                    size, hidden_channels + 1, bias=False
                )
                for name, size in self.in_channels.items()
            }
        )
        self.bpr = BPRLoss()

        self.reset_parameters()

    def reset_parameters(self) -> None:
        r"""Resets all learnable parameters of the module."""
        with torch.no_grad():
            for block in self.user_embedding.chunk(2, dim=1):
                xavier_uniform_(block)
        xavier_uniform_(self.item_embedding)
        zeros_(self.item_bias)
        for linear in self.linears.values():
            if isinstance(linear, FeatureLinear):
                linear.reset_parameters()

    def get_embedding(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Returns the embedding of all nodes, :math:`(U + I, 2 D + 1)`. The
        arguments are those of :class:`Recommender`; only :obj:`modal_x` is
        used.
        """
        return torch.cat(self._embed(modal_x))

    def loss(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        triplets: Tensor,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Returns the loss of one batch and its terms :obj:`"bpr"`,
        :obj:`"reg"` and, if it has a weight, :obj:`"map"`, unweighted. The
        arguments are those of :meth:`Recommender.loss`.
        """
        scores = self.triplet_scores(*self._embed(modal_x), triplets)
        bpr = self.bpr(*scores)
        users, *items = triplets
        rows = [self.user_embedding.index_select(0, users)]
        for index in items:
            rows.append(self.item_embedding.index_select(0, index))
            rows.append(self.item_bias.index_select(0, index))
        reg = torch.stack([row.square().sum() for row in rows]).sum()
        reg = reg / (2 * triplets.size(1))
        loss, terms = bpr + self.lambda_reg * reg, {'bpr': bpr, 'reg': reg}
        if self.lambda_map > 0:
            maps = [w.square().sum() for w in self.linears.parameters()]
            terms['map'] = torch.stack(maps).sum() / 2
            loss = loss + self.lambda_map * terms['map']
        return loss, terms

    def _embed(self, modal_x: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
        check_modal_x(modal_x, self.modalities, self.num_items)
        x = torch.stack(
            [
                self.linears[modality_key(name)](modal_x[name])
                for name in self.modalities
            ]
        ).sum(dim=0)
        x, bias = x.split([self.hidden_channels, 1], dim=1)
        one = self.user_embedding.new_ones(self.num_users, 1)
        return (
            torch.cat([self.user_embedding, one], dim=1),
            torch.cat([self.item_embedding, x, self.item_bias + bias], dim=1),
        )

    def __repr__(self) -> str:
        return (
            f'{self.__class__.__name__}({self.num_users}, {self.num_items}, '
            f'{self.in_channels}, hidden_channels={self.hidden_channels})'
        )
