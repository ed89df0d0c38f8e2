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


def normalized_adjacency():
    adj = torch.zeros(7, 7)
    adj[EDGE_INDEX[1], EDGE_INDEX[0]] = 1.0
    scale = torch.where(adj.sum(1) > 0, adj.sum(1), torch.inf).rsqrt()
    return scale[:, None] * adj * scale


def encoder_with_ids(num_items=4, **kwargs):
    return ModalGraphEncoder(
        3, SIZES, out_channels=8, num_items=num_items, **kwargs
    )


@pytest.mark.parametrize('id_channels', [None, 5])
def test_ids_are_one_more_block(modal_x, id_channels):
    encoder = encoder_with_ids(id_channels=id_channels)
    assert encoder.blocks == {'image': 8, 'type': 8, 'id': id_channels or 8}
    assert encoder.modalities == ['image', 'type']
    users = [*encoder.user_embedding, encoder.user_id_embedding]
    adj = normalized_adjacency()
    x_user, x_item = encoder(modal_x, EDGE_INDEX)
    assert list(x_item) == list(encoder.blocks)
    for i, name in enumerate(encoder.blocks):
        rows = (
            encoder.item_embedding
            if name == 'id'
            else encoder.convs[f'x_{name}'].mlp(modal_x[name])
        )
        h = F.normalize(torch.cat([users[i], rows]))
        out = h + adj @ h + adj @ adj @ h
        weight = encoder.user_weight[:, i : i + 1]
        block = x_user[:, 8 * i : 8 * i + encoder.blocks[name]]
        torch.testing.assert_close(block, weight * out[:3])
        torch.testing.assert_close(x_item[name], out[3:])
    assert x_user.shape == (3, sum(encoder.blocks.values()))

    users = torch.tensor([2, 0, 2])
    some, _ = encoder(modal_x, EDGE_INDEX, users=users)
    torch.testing.assert_close(some, x_user[users])


def test_features_alone_have_no_ids(modal_x):
    out = encoder_with_ids().encode_items(modal_x)
    assert list(out) == ['image', 'type']
    new = {name: x[:1] for name, x in modal_x.items()}
    assert encoder_with_ids().encode_items(new)['image'].shape == (1, 8)


def large(num_items, **kwargs):
    """An encoder, features, and interactions of every second item."""
    encoder = encoder_with_ids(num_items, **kwargs)
    modal_x = {m: torch.randn(num_items, size) for m, size in SIZES.items()}
    items = torch.arange(0, num_items, 2)
    edges = torch.stack([items % 3, items + 3])
    return encoder, modal_x, torch.cat([edges, edges.flip(0)], dim=1)


NO_EDGES = torch.empty(2, 0, dtype=torch.long)


def test_whole_ids_are_dropped_in_training():
    encoder, modal_x, _ = large(4000, id_dropout=0.3)
    ids = F.normalize(encoder.item_embedding)
    # Without interactions, what comes out is what the first hop reads.
    x_user, x_item = encoder(modal_x, NO_EDGES)
    dropped = (x_item['id'] == 0).all(dim=1)
    kept = x_item['id'][~dropped]
    torch.testing.assert_close(kept, ids[~dropped])
    share = dropped.double().mean().item()
    assert share == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 4000) ** 0.5)

    _, again = encoder(modal_x, NO_EDGES)
    assert not torch.equal((again['id'] == 0).all(dim=1), dropped)

    user, item = encoder.eval()(modal_x, NO_EDGES)
    torch.testing.assert_close(item['id'], ids)
    torch.testing.assert_close(user, x_user)  # They keep all their rows.
    for name in SIZES:
        torch.testing.assert_close(item[name], x_item[name])


@pytest.mark.parametrize('id_dropout', [0.0, 0.5])
def test_dropped_ids_get_no_gradient(id_dropout):
    encoder, modal_x, edge_index = large(40, id_dropout=id_dropout)
    torch.manual_seed(0)
    dropped = (encoder(modal_x, NO_EDGES)[1]['id'] == 0).all(dim=1)
    assert bool(dropped.any()) == (id_dropout > 0)
    assert not dropped.all()

    torch.manual_seed(0)
    x_user, x_item = encoder(modal_x, edge_index)
    (x_user.pow(3).sum() + x_item['id'].pow(3).sum()).backward()
    grad = encoder.item_embedding.grad
    assert grad.isfinite().all()
    assert torch.equal(grad == 0, dropped.unsqueeze(1).expand_as(grad))
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


def test_dropped_items_still_hear_of_others():
    encoder, modal_x, edge_index = large(40, id_dropout=0.99)
    _, x_item = encoder(modal_x, edge_index)
    assert (x_item['id'].abs().sum(dim=1) > 0)[::2].all()


def test_ids_are_reset_and_loaded(modal_x):
    encoder, other = encoder_with_ids(), encoder_with_ids()
    other.load_state_dict(encoder.state_dict())
    assert {'item_embedding', 'user_id_embedding'} <= set(encoder.state_dict())
    for out, expected in zip(
        other(modal_x, EDGE_INDEX)[1].values(),
        encoder(modal_x, EDGE_INDEX)[1].values(),
    ):
        assert torch.equal(out, expected)

    other.reset_parameters()
    for name in ('item_embedding', 'user_id_embedding'):
        assert not torch.equal(getattr(other, name), getattr(encoder, name))
    rows = large(4000)[0].item_embedding  # Xavier's normal distribution.
    assert rows.std().item() == pytest.approx((2 / 4008) ** 0.5, rel=0.05)


def test_without_ids_nothing_is_there(modal_x):
    encoder = ModalGraphEncoder(3, SIZES, id_dropout=0.5)
    assert encoder.item_embedding is None
    assert list(encoder.blocks) == encoder.modalities
    plain = ModalGraphEncoder(3, SIZES)
    assert encoder.state_dict().keys() == plain.state_dict().keys()
    assert not any(
        'id_' in name or 'item' in name for name in plain._parameters
    )
    out = [encoder(modal_x, EDGE_INDEX)[0] for _ in range(2)]
    assert torch.equal(*out)


def test_rejects_what_does_not_go_with_ids():
    with pytest.raises(ValueError, match=r"a modality is called 'id'.*rename"):
        ModalGraphEncoder(3, {'id': 4}, num_items=5)
    assert ModalGraphEncoder(3, {'id': 4}, 7).blocks == {'id': 7}
    for size in (0, -1):
        with pytest.raises(ValueError, match="'id_channels' needs"):
            encoder_with_ids(id_channels=size)
    for share in (-0.1, 1.0, float('nan')):
        with pytest.raises(ValueError, match="'id_dropout' needs"):
            encoder_with_ids(id_dropout=share)
    encoder, modal_x, edge_index = large(40)
    modal_x = {name: x[:39] for name, x in modal_x.items()}
    with pytest.raises(ValueError, match='needs 40 rows'):
        encoder(modal_x, edge_index)


def test_free_rows_start_as_short_as_asked():
    torch.manual_seed(0)
    encoder = ModalGraphEncoder(
        2000, {'text': 4}, num_items=3000, id_channels=256, initial_norm=0.01
    )
    for rows, size in [
        (encoder.user_embedding[0], 64),
        (encoder.item_embedding, 256),
        (encoder.user_id_embedding, 256),
    ]:
        square = rows.square().sum(dim=1).mean().item()
        assert rows.size(1) == size
        assert square == pytest.approx(1e-4, rel=0.02)


def test_free_rows_start_xavier_normal_otherwise():
    torch.manual_seed(0)
    encoder = ModalGraphEncoder(2000, {'text': 4}, num_items=3000)
    variance = encoder.user_embedding[0].var().item()
    assert variance == pytest.approx(2 / (2000 + 64), rel=0.02)
    variance = encoder.item_embedding.var().item()
    assert variance == pytest.approx(2 / (3000 + 64), rel=0.02)


@pytest.mark.parametrize('initial_norm', [0.0, -1.0])
def test_bad_initial_norm_is_told(initial_norm):
    with pytest.raises(ValueError, match="'initial_norm' needs to be pos"):
        ModalGraphEncoder(3, {'text': 4}, initial_norm=initial_norm)


def test_encoders_start_as_small_as_asked():
    encoders = []
    for scale in (1.0, 0.01):
        torch.manual_seed(0)
        encoders.append(ModalGraphEncoder(3, {'text': 4}, encoder_scale=scale))
    usual, small = (e.convs['x_text'].mlp.lins for e in encoders)
    torch.testing.assert_close(small[0].weight, 0.01 * usual[0].weight)
    assert torch.equal(small[0].bias, usual[0].bias)
    assert torch.equal(small[1].weight, usual[1].weight)

    encoders[1].reset_parameters()
    assert small[0].weight.abs().max() <= 0.01 * 4**-0.5
    with pytest.raises(ValueError, match="'encoder_scale' needs to be pos"):
        ModalGraphEncoder(3, {'text': 4}, encoder_scale=0.0)


def lacking(modal_x, **rows):
    """Features without those of some items."""
    out = {name: x.clone() for name, x in modal_x.items()}
    for name, index in rows.items():
        out[name][index] = 0
    return out


@pytest.mark.parametrize('hidden_channels', [None, 0])
def test_missing_modalities_are_zero_before_the_first_hop(
    modal_x, hidden_channels
):
    modal_x = lacking(modal_x, image=[0, 3])
    encoder = ModalGraphEncoder(3, SIZES, 8, hidden_channels)
    x_user, x_item = encoder(modal_x, EDGE_INDEX)
    adj = normalized_adjacency()
    for i, name in enumerate(SIZES):
        rows = encoder.convs[f'x_{name}'].mlp(modal_x[name])
        if name == 'image':
            assert (rows[0] != 0).any()  # Of no features, not of none.
            rows = torch.stack([0 * rows[0], rows[1], rows[2], 0 * rows[3]])
        h = F.normalize(torch.cat([encoder.user_embedding[i], rows]))
        out = h + adj @ h + adj @ adj @ h
        weight = encoder.user_weight[:, i : i + 1]
        block = x_user[:, 8 * i : 8 * (i + 1)]
        torch.testing.assert_close(block, weight * out[:3])
        torch.testing.assert_close(x_item[name], out[3:])
    # What its users bring, and nothing where there are none.
    assert (x_item['image'][0] != 0).any()
    assert (x_item['image'][3] == 0).all()

    out = encoder.encode_items(modal_x)
    assert (out['image'][[0, 3]] == 0).all()
    whole = ModalGraphEncoder(3, SIZES, 8, hidden_channels)
    whole.load_state_dict(encoder.state_dict())
    some = {name: x[1:3] for name, x in modal_x.items()}
    for name, x in whole.encode_items(some).items():
        torch.testing.assert_close(out[name][1:3], x)


def test_missing_modalities_teach_nothing(modal_x):
    """Encoders learn as if those items were not there."""
    encoder = ModalGraphEncoder(3, SIZES)
    other = ModalGraphEncoder(3, SIZES)
    other.load_state_dict(encoder.state_dict())
    out = encoder.encode_items(lacking(modal_x, type=[1, 2]))['type']
    some = {name: x[[0, 3]] for name, x in modal_x.items()}
    goal = torch.randn(4, 64)
    ((out - goal) ** 3).sum().backward()
    ((other.encode_items(some)['type'] - goal[[0, 3]]) ** 3).sum().backward()
    expected = dict(other.named_parameters())
    for name, parameter in encoder.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(parameter.grad, expected[name].grad)
    assert encoder.convs['x_type'].mlp.lins[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_missing_modalities_under_autocast(modal_x, dtype):
    encoder = ModalGraphEncoder(3, SIZES)
    with torch.autocast('cpu', dtype):
        x_user, x_item = encoder(lacking(modal_x, image=[0, 3]), EDGE_INDEX)
    assert (x_item['image'][3] == 0).all()
    (x_user.sum() + x_item['image'].pow(3).sum()).backward()
    for name, parameter in encoder.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def test_complete_features_add_nothing(modal_x):
    encoder = ModalGraphEncoder(3, SIZES)
    rows = {name: torch.randn(4, 8) for name in SIZES}
    out = encoder.missing.clear(rows, modal_x)
    assert all(out[name] is rows[name] for name in SIZES)


def test_features_that_are_not_finite_are_told(modal_x):
    encoder = ModalGraphEncoder(3, SIZES)
    modal_x['type'][2] = torch.nan
    for call in (
        lambda: encoder(modal_x, EDGE_INDEX),
        lambda: encoder.encode_items(modal_x),
    ):
        with pytest.raises(ValueError, match=r"\['type'\]' needs finite rows"):
            call()
