import torch
from torch import Tensor
from torch.nn import Module
from torch_geometric.nn import LGConv
from torch_geometric.typing import Adj, OptTensor

from ..adjacency import AdjacencyCache, propagation_dtype
from ..hop_sum import hop_sum


class ItemGraphConv(Module):
    r"""The item-item layer (eq. 8-12) of the `"It is Never Too Late to Mend:
    Separate Learning for Multimedia Recommendation"
    <https://arxiv.org/abs/2406.08270>`_ paper: items take up the rows of
    their nearest neighbors.

    .. math::
        \mathbf{x}_i^{\prime} = \mathbf{x}_i + \sum_j S_{ij} \mathbf{x}_j

    The graph :math:`\mathbf{S}`, edges from :math:`j` to :math:`i`, is that
    of :class:`pyg_sea.transforms.ModalKNNGraph`, normalized there.

    Shapes:
        - **input:** item rows :math:`(I, D)`,
          edge indices :math:`(2, |\mathcal{E}|)` or a sparse matrix
          :math:`(I, I)` *(optional)*,
          edge weights :math:`(|\mathcal{E}|)` *(optional)*
        - **output:** item rows :math:`(I, D)`; the input itself where there
          is no graph

    Example:
        >>> import torch
        >>> from pyg_sea.nn import ItemGraphConv
        >>> edge_index = torch.tensor([[1], [0]])  # Item 0 has neighbor 1.
        >>> ItemGraphConv()(torch.eye(2), edge_index, torch.tensor([0.5]))
        tensor([[1.0000, 0.5000],
                [0.0000, 1.0000]])
    """

    def __init__(self) -> None:
        super().__init__()
        self.conv = LGConv(normalize=False)
        self._adjacency = AdjacencyCache(normalize=False)

    def forward(
        self,
        x: Tensor,
        edge_index: Adj | None = None,
        edge_weight: OptTensor = None,
    ) -> Tensor:
        r"""Adds the rows of the neighbors.

        Args:
            x (torch.Tensor): Item rows :math:`(I, D)`.
            edge_index (torch.Tensor or SparseTensor, optional): The item-item
                graph. (default: :obj:`None`)
            edge_weight (torch.Tensor, optional): Its weights.
                (default: :obj:`None`)
        """
        if edge_index is None:
            return x
        dtype = propagation_dtype(x)
        adj = self._adjacency(edge_index, edge_weight, x.size(0), dtype)
        adj_t = self._adjacency.transposed(adj[0])
        with torch.autocast(x.device.type, enabled=False):
            if isinstance(adj[0], Tensor) and adj_t is not None:
                return hop_sum(x.to(dtype), adj[0], adj_t, K=1).to(x.dtype)
            return x + self.conv(x.to(dtype), *adj).to(x.dtype)

    def __repr__(self) -> str:
        return f'{self.__class__.__name__}()'
