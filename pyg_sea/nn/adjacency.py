import warnings
import weakref

import torch
from torch import Tensor
from torch_geometric import EdgeIndex
from torch_geometric.nn.conv.gcn_conv import gcn_norm
from torch_geometric.typing import Adj, OptTensor
from torch_geometric.utils import (
    is_sparse,
    to_edge_index,
    to_torch_csr_tensor,
)


def propagation_dtype(x: Tensor) -> torch.dtype:
    r"""Returns the type to propagate rows in: sparse products on CPU know no
    half precision.
    """
    half = (torch.float16, torch.bfloat16)
    return torch.float32 if x.dtype in half else x.dtype


class AdjacencyCache:
    r"""Turns a constant graph into a :obj:`torch.sparse` CSR matrix once, and
    hands out that matrix as long as the same tensors come, unmodified.

    A graph is left as it is where the conversion would lose something: it is
    sparse already and needs no normalization, its weights require gradients,
    it was made in inference mode, or the call is traced by
    :meth:`torch.compile`.

    Args:
        normalize (bool): Whether to compute :math:`\mathbf{D}^{-1/2}
            \mathbf{A} \mathbf{D}^{-1/2}`, without self-loops.

    Example:
        >>> cache = AdjacencyCache(normalize=True)
        >>> edge_index = torch.tensor([[0, 1], [1, 0]])
        >>> adj, edge_weight = cache(edge_index, None, 2, torch.float32)
        >>> adj is cache(edge_index, None, 2, torch.float32)[0]
        True
    """

    def __init__(self, normalize: bool) -> None:
        self.normalize = normalize
        self.clear()

    def clear(self) -> None:
        r"""Forgets the last graph."""
        self._key: tuple[object, ...] | None = None
        self._refs: list[weakref.ref[Tensor]] = []
        self._value: tuple[Adj, OptTensor] | None = None
        self._transposed: Tensor | None = None

    def __call__(
        self,
        edge_index: Adj,
        edge_weight: OptTensor,
        num_nodes: int,
        dtype: torch.dtype,
    ) -> tuple[Adj, OptTensor]:
        r"""Returns an adjacency for :meth:`MessagePassing.propagate` that
        needs no further normalization, and its weights if it is not sparse.

        Args:
            edge_index (torch.Tensor or SparseTensor): The edges.
            edge_weight (torch.Tensor, optional): One weight per edge.
            num_nodes (int): The number of nodes.
            dtype (torch.dtype): The type of the rows to propagate.
        """
        if is_sparse(edge_index) and edge_weight is not None:
            raise ValueError(
                "'edge_weight' cannot go with a sparse 'edge_index', which "
                'holds its own weights: pass one of them'
            )
        if (
            (is_sparse(edge_index) and not self.normalize)
            or (edge_weight is not None and edge_weight.requires_grad)
            or not isinstance(edge_index, Tensor)
            or edge_index.requires_grad
            or torch.compiler.is_compiling()
        ):
            return self._norm(edge_index, edge_weight, num_nodes, dtype)

        tensors = [edge_index]
        if edge_weight is not None:
            tensors.append(edge_weight)
        if any(tensor.is_inference() for tensor in tensors):
            return self._norm(edge_index, edge_weight, num_nodes, dtype)
        key = (num_nodes, dtype, *((id(t), t._version) for t in tensors))
        alive = all(ref() is not None for ref in self._refs)
        if self._value is None or key != self._key or not alive:
            self._value = self._convert(
                edge_index, edge_weight, num_nodes, dtype
            )
            self._key = key
            self._transposed = None
            self._refs = [weakref.ref(tensor) for tensor in tensors]
        return self._value

    @torch.inference_mode(False)
    @torch.no_grad()
    def transposed(self, adj: Adj) -> Tensor | None:
        r"""Returns the transpose of the matrix that was handed out last, for
        backward passes, made once; :obj:`None` for anything else.

        Args:
            adj (torch.Tensor or SparseTensor): What the last call returned.
        """
        if self._value is None or adj is not self._value[0]:
            return None
        if self._transposed is None and adj.layout == torch.sparse_csr:
            index, weight = to_edge_index(adj)
            adj_t = _to_csr(index.flip(0), weight, adj.size(0))
            # That of a symmetric graph is the graph.
            self._transposed = adj if _equal(adj, adj_t) else adj_t
        return self._transposed

    @torch.inference_mode(False)
    @torch.no_grad()
    def _convert(
        self,
        edge_index: Tensor,
        edge_weight: OptTensor,
        num_nodes: int,
        dtype: torch.dtype,
    ) -> tuple[Adj, OptTensor]:
        if isinstance(edge_index, EdgeIndex):
            edge_index = edge_index.as_tensor()
        adj, weight = self._norm(edge_index, edge_weight, num_nodes, dtype)
        if is_sparse(adj):
            return adj, None
        if weight is None:
            weight = torch.ones(adj.size(1), dtype=dtype, device=adj.device)
        return _to_csr(adj.flip(0), weight, num_nodes), None

    def _norm(
        self,
        edge_index: Adj,
        edge_weight: OptTensor,
        num_nodes: int,
        dtype: torch.dtype,
    ) -> tuple[Adj, OptTensor]:
        if edge_weight is not None:
            edge_weight = edge_weight.to(dtype)
        if is_sparse(edge_index) and isinstance(edge_index, Tensor):
            edge_index = edge_index.to(dtype)
        if not self.normalize:
            return edge_index, edge_weight
        norm = gcn_norm(
            edge_index,
            edge_weight,
            num_nodes,
            add_self_loops=False,
            dtype=dtype,
        )
        return norm if isinstance(norm, tuple) else (norm, None)

    def __deepcopy__(self, memo: dict[int, object]) -> 'AdjacencyCache':
        return AdjacencyCache(self.normalize)

    def __reduce__(self) -> tuple[type['AdjacencyCache'], tuple[bool]]:
        return AdjacencyCache, (self.normalize,)


def _to_csr(index: Tensor, weight: Tensor, num_nodes: int) -> Tensor:
    with warnings.catch_warnings():  # On the beta state of CSR.
        warnings.simplefilter('ignore', UserWarning)
        adj = to_torch_csr_tensor(index, weight, size=(num_nodes, num_nodes))
        if adj.values().numel() >= 2**31:
            return adj
        # MKL and cuSPARSE would convert longer indices in every product.
        return torch.sparse_csr_tensor(
            adj.crow_indices().int(),
            adj.col_indices().int(),
            adj.values(),
            adj.shape,
        )


def _equal(a: Tensor, b: Tensor) -> bool:
    return (
        a.values().numel() == b.values().numel()
        and torch.equal(a.crow_indices(), b.crow_indices())
        and torch.equal(a.col_indices(), b.col_indices())
        and torch.equal(a.values(), b.values())
    )
