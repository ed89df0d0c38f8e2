from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.typing import Adj, OptTensor

from pyg_sea.recommend import top_k_items


class Recommender(Module, ABC):
    r"""What all models share: the score of a user and an item is the inner
    product of their rows in :meth:`get_embedding`.

    All methods read the same inputs, with defaults for what a graph lacks;
    :func:`pyg_sea.transforms.model_inputs` makes them from a
    :class:`~torch_geometric.data.HeteroData`.

    Args:
        num_users (int): The number of users :math:`U`.
        num_items (int): The number of items :math:`I`.

    Shapes:
        - **modal_x** (dict[str, torch.Tensor]): raw item features per
          modality, :math:`(I, F_m)`
        - **edge_index** (torch.Tensor or SparseTensor): the interactions,
          :math:`(2, |\mathcal{E}|)` over :math:`U + I` nodes, users first,
          both directions, or a sparse matrix
        - **edge_weight** (torch.Tensor): one weight per interaction,
          :math:`(|\mathcal{E}|)` *(optional)*
        - **item_edge_index** (torch.Tensor or SparseTensor): the item-item
          graph, :math:`(2, |\mathcal{E}_S|)` over :math:`I` items
          *(optional)*
        - **item_edge_weight** (torch.Tensor): its weights,
          :math:`(|\mathcal{E}_S|)` *(optional)*
        - **output:** embeddings :math:`(U + I, D)`, users first

    Raises:
        ValueError: If a number is not positive.

    Example:
        >>> import torch
        >>> from pyg_sea.nn import BPRLoss, Recommender
        >>> class ContentModel(Recommender):  # A model of your own.
        ...     def get_embedding(self, modal_x, edge_index, *args):
        ...         item = modal_x['text']
        ...         return torch.cat([item.mean(0).expand(2, -1), item])
        ...     def loss(self, modal_x, edge_index, triplets, **kwargs):
        ...         x = self.get_embedding(modal_x, edge_index).split([2, 3])
        ...         loss = BPRLoss()(*self.triplet_scores(*x, triplets))
        ...         return loss, {'bpr': loss}
        >>> model = ContentModel(num_users=2, num_items=3)
        >>> edge_index = torch.empty(2, 0, dtype=torch.long)
        >>> model.recommend({'text': torch.eye(3) + 1}, edge_index, k=1).shape
        torch.Size([2, 1])
    """

    def __init__(self, num_users: int, num_items: int) -> None:
        super().__init__()
        for name, size in [('num_users', num_users), ('num_items', num_items)]:
            if size < 1:
                raise ValueError(f"'{name}' needs to be positive (got {size})")
        self.num_users = num_users
        self.num_items = num_items

    @abstractmethod
    def get_embedding(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Returns the embedding of all nodes, :math:`(U + I, D)`."""

    @abstractmethod
    def loss(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        triplets: Tensor,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        r"""Returns the loss of one batch and its named terms, unweighted.

        Args:
            modal_x (dict[str, torch.Tensor]): Raw item features.
            edge_index (torch.Tensor or SparseTensor): The interactions.
            triplets (torch.Tensor): Local ids of users, items they have
                chosen, and items they have not, :math:`(3, B)`, as of
                :class:`pyg_sea.loader.BPRLoader`.
            edge_weight (torch.Tensor, optional): Interaction weights.
                (default: :obj:`None`)
            item_edge_index (torch.Tensor or SparseTensor, optional): The
                item-item graph. (default: :obj:`None`)
            item_edge_weight (torch.Tensor, optional): Its weights.
                (default: :obj:`None`)
        """

    def forward(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        edge_label_index: Tensor,
        edge_weight: OptTensor = None,
        item_edge_index: Adj | None = None,
        item_edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Returns the scores of pairs of nodes, :math:`(B)`.

        Args:
            modal_x (dict[str, torch.Tensor]): Raw item features.
            edge_index (torch.Tensor or SparseTensor): The interactions.
            edge_label_index (torch.Tensor): The pairs to score,
                :math:`(2, B)`; item :math:`i` is node :math:`U + i`.
            edge_weight (torch.Tensor, optional): Interaction weights.
                (default: :obj:`None`)
            item_edge_index (torch.Tensor or SparseTensor, optional): The
                item-item graph. (default: :obj:`None`)
            item_edge_weight (torch.Tensor, optional): Its weights.
                (default: :obj:`None`)
        """
        out = self.get_embedding(
            modal_x, edge_index, edge_weight, item_edge_index, item_edge_weight
        )
        src, dst = (out.index_select(0, index) for index in edge_label_index)
        return (src * dst).sum(dim=-1)

    @staticmethod
    def triplet_scores(
        x_user: Tensor, x_item: Tensor, triplets: Tensor
    ) -> tuple[Tensor, Tensor]:
        r"""Returns the scores of positive and of negative pairs,
        :math:`(B)` each.

        Args:
            x_user (torch.Tensor): Embeddings of users :math:`(U, D)`.
            x_item (torch.Tensor): Embeddings of items :math:`(I, D)`.
            triplets (torch.Tensor): Local ids of users, positive items and
                negative items, :math:`(3, B)`.
        """
        # The backward pass of indexing by brackets adds up in any order.
        users, pos_items, neg_items = triplets
        x = x_user.index_select(0, users)
        pos_score = (x * x_item.index_select(0, pos_items)).sum(dim=-1)
        neg_score = (x * x_item.index_select(0, neg_items)).sum(dim=-1)
        return pos_score, neg_score

    @torch.no_grad()
    def recommend(
        self,
        modal_x: Mapping[str, Tensor],
        edge_index: Adj,
        users: OptTensor = None,
        k: int = 20,
        exclude: OptTensor = None,
        embedding: OptTensor = None,
        **kwargs: Any,
    ) -> Tensor:
        r"""Returns the local ids of the top-:math:`k` items per user,
        :math:`(B, k)`, best first; :obj:`-1` where a user has fewer
        candidates. Call :meth:`eval` first.

        Args:
            modal_x (dict[str, torch.Tensor]): Raw item features.
            edge_index (torch.Tensor or SparseTensor): The interactions.
            users (torch.Tensor, optional): Local ids of users :math:`(B)`.
                If set to :obj:`None`, is all users. (default: :obj:`None`)
            k (int, optional): Items per user. (default: :obj:`20`)
            exclude (torch.Tensor, optional): Local (user, item) pairs
                :math:`(2, E)` never to recommend, *e.g.*, the train
                interactions. (default: :obj:`None`)
            embedding (torch.Tensor, optional): What :meth:`get_embedding`
                returned earlier, to be reused. (default: :obj:`None`)
            **kwargs (optional): Further arguments of :meth:`get_embedding`.
        """
        if embedding is None:
            embedding = self.get_embedding(modal_x, edge_index, **kwargs)
        user, item = embedding.split([self.num_users, self.num_items])
        return top_k_items(user, item, k, users=users, exclude=exclude)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}({self.num_users}, {self.num_items})'
