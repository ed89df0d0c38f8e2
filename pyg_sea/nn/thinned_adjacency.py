import torch
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import Adj, OptTensor
from torch_geometric.utils import is_sparse, to_edge_index

from .adjacency import AdjacencyCache


class ThinnedAdjacency(AdjacencyCache):
    r"""An :class:`AdjacencyCache` of some of the interactions: those between
    users and items of small degree stay more often.

    Args:
        num_users (int): The number of users; they come first.
        dropout (float): The share of interactions that is left out.

    Example:
        >>> edge_index = torch.tensor([[0, 1, 2, 3], [2, 3, 0, 1]])
        >>> cache = ThinnedAdjacency(num_users=2, dropout=0.5)
        >>> cache.start(seed=0)
        >>> adj, _ = cache(edge_index, None, 4, torch.float32)
        >>> adj.values()
        tensor([1., 1.])
    """

    def __init__(self, num_users: int, dropout: float) -> None:
        super().__init__(normalize=True)
        self.num_users = num_users
        self.dropout = dropout
        self.seed = 0

    def start(self, seed: int) -> None:
        r"""Draws other interactions, unless the seed is that of the last.

        Args:
            seed (int): Decides which interactions stay.
        """
        if seed != self.seed:
            self.seed = seed
            self.clear()

    def _norm(
        self,
        edge_index: Adj,
        edge_weight: OptTensor,
        num_nodes: int,
        dtype: torch.dtype,
    ) -> tuple[Adj, OptTensor]:
        if is_sparse(edge_index):
            edge_index, edge_weight = to_edge_index(edge_index)
        with torch.no_grad():
            _, rate = gcn_norm(
                edge_index,
                edge_weight,
                num_nodes,
                add_self_loops=False,
                dtype=dtype,
            )
            index = (edge_index[0] < self.num_users).nonzero().view(-1)
            generator = torch.Generator(index.device).manual_seed(self.seed)
            # Who comes first of independent exponential waiting times is a
            # draw without replacement in proportion to their rates.
            wait = torch.empty_like(rate[index])
            wait = wait.exponential_(generator=generator) / rate[index]
            num_kept = index.numel() - int(self.dropout * index.numel())
            index = index[wait.topk(num_kept, largest=False).indices]
        pairs = edge_index[:, index]
        if edge_weight is not None:
            edge_weight = edge_weight[index].repeat(2)
        edge_index = torch.cat([pairs, pairs.flip(0)], dim=1)
        return super()._norm(edge_index, edge_weight, num_nodes, dtype)

    def __deepcopy__(self, memo: dict[int, object]) -> 'ThinnedAdjacency':
        return ThinnedAdjacency(self.num_users, self.dropout)

    def __reduce__(self) -> tuple[type['ThinnedAdjacency'], tuple[int, float]]:  # type: ignore[override]
        return ThinnedAdjacency, (self.num_users, self.dropout)
