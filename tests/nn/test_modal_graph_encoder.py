import pytest
import torch
import torch.nn.functional as F

from pyg_sea.nn import ModalGraphEncoder

SIZES = {'image': 12, 'type': 6}
EDGE_INDEX = torch.tensor([[0, 1, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2]])


@pytest.fixture
def modal_x():
    return {name: torch.randn(4, size) for name, size in SIZES.items()}


def test_equals_one_convolution_after_the_other(modal_x):
    encoder = ModalGraphEncoder(3, SIZES, out_channels=8, K=3)
    x_user, x_item = encoder(modal_x, EDGE_INDEX)
    for i, name in enumerate(SIZES):
        conv = encoder.convs[f'x_{name}']
        conv.normalize = True
        out = conv((encoder.user_embedding[i], modal_x[name]), EDGE_INDEX)
        weight = encoder.user_weight[:, i : i + 1]
        block = x_user[:, 8 * i : 8 * (i + 1)]
        torch.testing.assert_close(block, weight * out[:3])
        torch.testing.assert_close(x_item[name], out[3:])


def test_items_alone_are_items_without_edges(modal_x):
    encoder = ModalGraphEncoder(3, SIZES)
    empty = torch.empty(2, 0, dtype=torch.long)
    _, x_item = encoder(modal_x, empty)
    out = encoder.encode_items(modal_x)
    for name in SIZES:
        torch.testing.assert_close(out[name], x_item[name])
        torch.testing.assert_close(out[name], F.normalize(out[name]))


def test_user_weights_start_as_shares():
    encoder = ModalGraphEncoder(50, SIZES)
    share = encoder.user_weight
    torch.testing.assert_close(share.sum(dim=1), torch.ones(50))
    assert (share > 0).all()
    before = share.detach().clone()
    encoder.reset_parameters()
    assert not torch.equal(encoder.user_weight, before)
    assert str(encoder).startswith('ModalGraphEncoder(50')


def test_rows_of_some_users():
    encoder = ModalGraphEncoder(3, {'image': 16, 'text': 8})
    modal_x = {'image': torch.randn(2, 16), 'text': torch.randn(2, 8)}
    edge_index = torch.tensor([[0, 1, 3, 4], [3, 4, 0, 1]])
    users = torch.tensor([2, 0, 2])
    everybody, items = encoder(modal_x, edge_index)
    some, same = encoder(modal_x, edge_index, users=users)
    torch.testing.assert_close(some, everybody[users])
    torch.testing.assert_close(same, items)
