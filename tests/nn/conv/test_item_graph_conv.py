import torch
from torch_geometric.utils import to_torch_csr_tensor

from pyg_sea.nn import ItemGraphConv


def test_equals_dense_product():
    x = torch.randn(6, 3)
    edge_index = torch.randint(6, (2, 20)).unique(dim=1)
    weight = torch.rand(edge_index.size(1))
    S = torch.zeros(6, 6)
    S[edge_index[1], edge_index[0]] = weight
    conv = ItemGraphConv()
    out = conv(x, edge_index, weight)
    torch.testing.assert_close(out, x + S @ x)

    adj = to_torch_csr_tensor(edge_index.flip(0), weight, size=(6, 6))
    torch.testing.assert_close(conv(x, adj), out)
    assert str(conv) == 'ItemGraphConv()'


def test_no_graph_is_the_identity():
    x = torch.randn(6, 3)
    assert ItemGraphConv()(x) is x
