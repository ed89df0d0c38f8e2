import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch_geometric.utils import to_torch_csr_tensor

from pyg_sea.nn import (
    SEA,
    BPRLoss,
    NegativeL2Loss,
    ReleasedSEA,
    SampledSoftmaxLoss,
)

U, I = 7, 150  # noqa: E741
SIZES = {'image': 12, 'text': 6, 'v1.5': 9}


def graph(num_items: int = I, sizes=SIZES) -> dict[str, object]:
    pairs = torch.randperm(U * num_items)[: 4 * num_items].sort().values
    edge_index = torch.stack([pairs // num_items, pairs % num_items + U])
    return {
        'modal_x': {
            m: torch.randn(num_items, F_m) for m, F_m in sizes.items()
        },
        'edge_index': torch.cat([edge_index, edge_index.flip(0)], dim=1),
        'item_edge_index': torch.randint(num_items, (2, 5 * num_items)).unique(
            dim=1
        ),
    }


def with_weights(inputs):
    half = torch.rand(inputs['edge_index'].size(1) // 2) + 0.1
    return inputs | {
        'edge_weight': torch.cat([half, half]),
        'item_edge_weight': torch.rand(inputs['item_edge_index'].size(1)),
    }


TRIPLETS = torch.stack([torch.arange(U), torch.arange(U), torch.arange(U) + U])


def dense_embedding(model: SEA, inputs) -> Tensor:
    """Eq. 6-17, one block after the other, with dense matrices."""
    adj = torch.zeros(U + I, U + I)
    row, col = inputs['edge_index']
    adj[col, row] = inputs.get('edge_weight', torch.ones(len(row)))
    scale = torch.where(adj.sum(1) > 0, adj.sum(1), torch.inf).rsqrt()
    adj = scale[:, None] * adj * scale
    user, item = [], []
    keys = [f'x_{name.replace(".", "%2E")}' for name in model.modalities]
    user_rows = [*model.encoder.user_embedding]
    rows = [
        model.encoder.convs[key].mlp(inputs['modal_x'][name])
        * inputs['modal_x'][name].any(dim=1, keepdim=True)
        for key, name in zip(keys, model.modalities)
    ]
    splits = [model.separate.splits[key] for key in keys]
    if model.encoder.item_embedding is not None:
        rows.append(model.encoder.item_embedding)
        user_rows.append(model.encoder.user_id_embedding)
        splits.append(lambda own: [own])
    for i, (x_item, split) in enumerate(zip(rows, splits)):
        h = torch.cat([user_rows[i], x_item])
        h = F.normalize(h)
        h = h + adj @ h + adj @ adj @ h
        user.append(model.encoder.user_weight[:, i : i + 1] * h[:U])
        item += split(h[U:])
    h = torch.cat(item, dim=1)
    S = torch.zeros(I, I)
    if inputs.get('item_edge_index') is not None:
        row, col = inputs['item_edge_index']
        S[col, row] = inputs.get('item_edge_weight', torch.ones(len(row)))
    out = torch.cat([torch.cat(user, dim=1), h + S @ h])
    out = F.normalize(out) if model.ranking.name == 'softmax' else out
    if model.ranking.bias is None:
        return out
    column = torch.cat([torch.ones(U), model.ranking.bias])
    return torch.cat([out, column.unsqueeze(1)], dim=1)


def without_ids(*args, **kwargs) -> SEA:
    return SEA(*args, **kwargs, id_channels=0, item_bias=False)


def make_sea(*args, **kwargs) -> SEA:
    """With biases as if it was trained."""
    model = SEA(*args, **kwargs)
    if model.ranking.item_bias is not None:
        torch.nn.init.normal_(model.ranking.item_bias)
    return model


@pytest.mark.parametrize('make', [make_sea, without_ids, SEA.paper])
@pytest.mark.parametrize('weighted', [False, True])
def test_embedding_equals_dense_reference(make, weighted):
    model = make(U, I, SIZES).eval()
    inputs = with_weights(graph()) if weighted else graph()
    out = model.get_embedding(**inputs)
    expected = dense_embedding(model, inputs)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)

    del inputs['item_edge_index']
    inputs.pop('item_edge_weight', None)
    out = model.get_embedding(**inputs)
    expected = dense_embedding(model, inputs)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('id_channels', [128, 0])
@pytest.mark.parametrize('ranking', ['softmax', 'bpr'])
def test_loss_is_the_sum_of_its_terms(ranking, id_channels):
    model = make_sea(
        *(U, I, SIZES),
        alpha=0.3,
        beta=0.7,
        ranking=ranking,
        id_channels=id_channels,
        id_dropout=0.0,
    )
    inputs = graph()
    triplets = TRIPLETS.clone()
    triplets[0, 3:5] = 1  # A user may be there more than once.
    loss, terms = model.loss(triplets=triplets, **inputs)
    assert len(terms) == 1 + 3 + 3
    weights = {ranking: 1.0, 'align': 0.3, 'distance': 0.7}
    expected = sum(
        weights[name.split('/')[0]] * term for name, term in terms.items()
    )
    torch.testing.assert_close(loss, expected)
    if ranking == 'softmax':
        user, item = model.get_embedding(**inputs).split([U, I])
        users, pos, _ = triplets
        bias = model.ranking.bias
        rows = user[users, :-1], item[:, :-1]
        expected = SampledSoftmaxLoss()(*rows, pos, users, bias)
        torch.testing.assert_close(terms['softmax'], expected)
        return

    user, pos, neg = triplets
    pairs = torch.stack([torch.cat([user, user]), torch.cat([pos, neg]) + U])
    score = model(edge_label_index=pairs, **inputs).chunk(2)
    torch.testing.assert_close(terms['bpr'], BPRLoss()(*score))


def test_scores_equal_the_embedding():
    model = make_sea(U, I, SIZES).eval()
    inputs = graph()
    out = model.get_embedding(**inputs)
    pairs = torch.tensor([[0, 3], [U + 2, U + 9]])
    expected = torch.stack([out[0] @ out[U + 2], out[3] @ out[U + 9]])
    torch.testing.assert_close(
        model(edge_label_index=pairs, **inputs), expected
    )


def test_recommend_is_the_top_of_all_scores():
    model = make_sea(U, I, SIZES).eval()
    inputs = graph()
    modal_x, edge_index = inputs.pop('modal_x'), inputs.pop('edge_index')
    out = model.get_embedding(modal_x, edge_index, **inputs)
    scores = out[:U] @ out[U:].t()
    top = model.recommend(modal_x, edge_index, k=5, **inputs)
    assert torch.equal(top, scores.topk(5).indices)

    exclude = torch.tensor([[2, 2], top[2, :2].tolist()])
    users = torch.tensor([2, 0])
    again = model.recommend(
        modal_x, edge_index, users=users, k=3, exclude=exclude, embedding=out
    )
    assert torch.equal(again[0], top[2, 2:5])
    assert torch.equal(again[1], top[0, :3])


def test_sparse_and_normalized_inputs_agree():
    model = SEA(U, I, SIZES).eval()
    inputs = graph()
    expected = model.get_embedding(**inputs)
    adjacency = model.encoder._adjacency
    adj, _ = adjacency(inputs['edge_index'], None, U + I, torch.float)
    sparse = SEA(U, I, SIZES, normalize=False).eval()
    sparse.load_state_dict(model.state_dict())
    row, col = inputs['item_edge_index']
    item_adj = to_torch_csr_tensor(torch.stack([col, row]), size=(I, I))
    out = sparse.get_embedding(
        inputs['modal_x'], adj, item_edge_index=item_adj
    )
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize('make', [make_sea, without_ids, SEA.paper])
def test_new_items_are_placed_by_their_features(make):
    model = make(U, I, SIZES).eval()
    inputs = graph()
    # As items without interactions, and without a vector of their own.
    if model.encoder.item_embedding is not None:
        torch.nn.init.zeros_(model.encoder.item_embedding)
    no_edges = torch.empty(2, 0, dtype=torch.long)
    alone = model.get_embedding(inputs['modal_x'], no_edges)[U:]
    out = model.get_item_embedding(inputs['modal_x'])
    if make is make_sea:  # Biases of new items are not known.
        mean = model.ranking.bias.mean().expand(I)
        torch.testing.assert_close(out[:, -1], mean)
        out, alone = out[:, :-1], alone[:, :-1]
    torch.testing.assert_close(out, alone)
    model.reset_parameters()

    new = graph(num_items=3)['modal_x']
    width = 3 * 64 + (129 if make is make_sea else 0)
    out = model.get_item_embedding(new)
    assert out.shape == (3, width)
    assert (out[:, 3 * 64 :] == 0).all()
    edge_index = torch.tensor([[0], [1]])
    parts = model.separate.split(model.encoder.encode_items(new))
    smoothed = model.get_item_embedding(new, edge_index)
    raw = [
        torch.cat([part[i] for pair in parts.values() for part in pair])
        for i in (0, 1)
    ]
    raw = [F.pad(row, (0, width - len(row))) for row in raw]
    for row, expected in [(out, raw[1]), (smoothed, sum(raw))]:
        if model.ranking.name == 'softmax':
            expected = F.normalize(expected, dim=0)
        torch.testing.assert_close(row[1], expected)


def shapes(model):
    return {name: p.shape for name, p in model.named_parameters()}


@pytest.mark.parametrize('make', [without_ids, SEA.paper])
def test_items_have_no_parameters(make):
    assert shapes(make(U, 10, SIZES)) == shapes(make(U, 1000, SIZES))


def test_items_have_one_vector_each():
    small, large = shapes(SEA(U, 10, SIZES)), shapes(SEA(U, 1000, SIZES))
    different = {name for name in large if small[name] != large[name]}
    assert different == {'encoder.item_embedding', 'ranking.item_bias'}
    assert large['encoder.item_embedding'] == (1000, 128)
    assert large['ranking.item_bias'] == (1000,)
    # And users one more for it.
    users = {'encoder.user_id_embedding'}
    plain = shapes(without_ids(U, 1000, SIZES))
    assert set(large) - set(plain) == different | users
    narrow = shapes(SEA(U, 10, SIZES, id_channels=5))
    assert narrow['encoder.item_embedding'] == (10, 5)
    assert narrow['encoder.user_id_embedding'] == (U, 5)


BLOCKS = [
    {},
    {'mode': 'linear'},
    {'generic_channels': 20},
    {'id_channels': 7},
    {'id_channels': 0},
    {'id_channels': 0, 'generic_channels': 20},
    {'item_bias': False},
    {'ranking': 'bpr'},
]


@pytest.mark.parametrize('kwargs', BLOCKS)
def test_score_is_a_sum_over_blocks(kwargs):
    model = make_sea(U, I, SIZES, **kwargs).eval()
    inputs = with_weights(graph())
    out = model.get_embedding(**inputs)
    names = [(m, p) for m in SIZES for p in ('generic', 'unique')]
    if kwargs.get('id_channels', 128):
        names.append(('id', 'unique'))
    if kwargs.get('item_bias', True):
        names.append(('popularity', 'bias'))
    assert list(model.blocks) == names
    columns = torch.arange(out.size(1))
    slices = list(model.blocks.values())
    assert torch.equal(torch.cat([columns[s] for s in slices]), columns)

    user, item = out.split([U, I])
    terms = [user[:, s] @ item[:, s].t() for s in slices]
    torch.testing.assert_close(torch.stack(terms).sum(0), user @ item.t())
    pairs = torch.tensor([[0, 3], [U + 2, U + 9]])
    score = torch.stack(
        [sum(t[0, 2] for t in terms), sum(t[3, 9] for t in terms)]
    )
    torch.testing.assert_close(model(edge_label_index=pairs, **inputs), score)


@pytest.mark.parametrize('kwargs', BLOCKS)
def test_blocks_are_what_their_names_say(kwargs):
    model = SEA(U, I, SIZES, **{**kwargs, 'ranking': 'bpr'}).eval()
    inputs = graph()
    args = inputs['modal_x'], inputs['edge_index']
    item = model.get_embedding(*args)[U:]
    for name, parts in model.get_parts(*args).items():
        for part, rows in parts._asdict().items():
            torch.testing.assert_close(item[:, model.blocks[name, part]], rows)


def test_block_of_ids_alone():
    """It depends on no feature, and no other block on it."""
    model = SEA(U, I, SIZES, ranking='bpr').eval()
    inputs = graph()
    expected = model.get_embedding(**inputs)
    columns = model.blocks['id', 'unique']
    others = {
        **inputs,
        'modal_x': {m: x + 1 for m, x in inputs['modal_x'].items()},
    }
    out = model.get_embedding(**others)
    torch.testing.assert_close(out[:, columns], expected[:, columns])
    assert not torch.equal(out, expected)

    torch.nn.init.normal_(model.encoder.item_embedding)
    out = model.get_embedding(**inputs)
    same = (out == expected).all(dim=0)
    others = [*range(columns.start), columns.stop]
    assert same.nonzero().flatten().tolist() == others


def test_a_modality_may_be_called_id_without_ids():
    sizes = {'id': 12, 'text': 6}
    inputs = graph(sizes=sizes)
    model = SEA(U, I, sizes, id_channels=0)
    named = SEA(U, I, {'image': 12, 'text': 6}, id_channels=0)
    names = [('id', 'generic'), ('id', 'unique')]
    assert list(model.blocks)[:2] == names
    assert list(model.blocks.values()) == list(named.blocks.values())
    loss, terms = model.loss(triplets=TRIPLETS, **inputs)
    loss.backward()
    assert 'distance/id' in terms
    with pytest.raises(ValueError, match="a modality is called 'id'"):
        SEA(U, I, sizes)


def test_ids_are_dropped_in_training_only():
    model = SEA(U, I, SIZES, id_dropout=0.5, ranking='bpr')
    inputs = graph()
    columns = model.blocks['id', 'unique']
    no_edges = torch.empty(2, 0, dtype=torch.long)
    item = model.get_embedding(inputs['modal_x'], no_edges)[U:]
    dropped = (item[:, columns] == 0).all(dim=1)
    assert 0 < dropped.sum() < I
    torch.manual_seed(0)
    first, _ = model.loss(triplets=TRIPLETS, **inputs)
    second, _ = model.loss(triplets=TRIPLETS, **inputs)
    assert first != second
    model.eval()
    out = model.get_embedding(inputs['modal_x'], no_edges)[U:]
    own = F.normalize(model.encoder.item_embedding)
    torch.testing.assert_close(out[:, columns], own)
    torch.testing.assert_close(
        out[:, : columns.start], item[:, : columns.start]
    )


@pytest.mark.parametrize('make', [SEA, without_ids, SEA.paper])
def test_every_parameter_is_alive(make):
    model = make(U, I, SIZES)
    loss, _ = model.loss(triplets=TRIPLETS, **graph())
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
        assert parameter.grad.isfinite().all(), name


def test_edge_weights_get_gradients():
    model = SEA(U, I, SIZES)
    inputs = with_weights(graph())
    inputs['edge_weight'].requires_grad_()
    inputs['item_edge_weight'].requires_grad_()
    model.loss(triplets=TRIPLETS, **inputs)[0].backward()
    assert inputs['edge_weight'].grad.abs().sum() > 0
    assert inputs['item_edge_weight'].grad.abs().sum() > 0


def test_paper_settings():
    model = SEA.paper(U, I, SIZES, alpha=0.2)
    assert model.separate.alpha == 0.2
    assert model.encoder.K == 2
    assert model.separate.align.temperature == 0.2
    assert model.separate.align.num_anchors is None
    club = model.separate.distances['x_text']
    assert (club.in_channels, club.out_channels) == (32, 32)
    assert club.negatives == 'permute'
    assert club.estimator.num_steps == 50
    assert club.estimator.sizes[0] == (32, 8)

    model = SEA.paper(U, I, SIZES, hidden_channels=16)
    assert model.separate.splits['x_text'].generic_channels == 8
    model = SEA.paper(U, I, SIZES, club_kwargs={'num_steps': 5})
    club = model.separate.distances['x_text']
    assert (club.estimator.num_steps, club.negatives) == (5, 'permute')
    model = SEA.paper(U, I, SIZES, distance='negative_l2')
    assert isinstance(model.separate.distances['x_text'], NegativeL2Loss)


def test_one_modality():
    inputs = graph(sizes={'text': 6})
    model = SEA(U, I, {'text': 6})
    _, terms = model.loss(triplets=TRIPLETS, **inputs)
    assert list(terms) == ['softmax', 'distance/text']


def test_training_lowers_the_loss():
    model = SEA(U, I, SIZES)
    inputs = graph()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss, _ = model.loss(triplets=TRIPLETS, **inputs)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


def test_state_dict_copy_and_reset():
    model = SEA(U, I, SIZES)
    inputs = graph()
    model.loss(triplets=TRIPLETS, **inputs)
    expected = model.eval().get_embedding(**inputs)
    for other in (copy.deepcopy(model), SEA(U, I, SIZES).eval()):
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(other.get_embedding(**inputs), expected)

    own = model.encoder.item_embedding.clone()
    torch.manual_seed(1)
    model.reset_parameters()
    assert not torch.equal(model.encoder.item_embedding, own)
    assert not torch.equal(model.get_embedding(**inputs), expected)
    weight = model.encoder.user_weight
    torch.testing.assert_close(weight.sum(dim=1), torch.ones(U))


@pytest.mark.parametrize('make', [SEA, without_ids])
def test_compile_with_graph_breaks(make):
    model = make(U, I, SIZES)
    inputs = graph()

    def same_draws(function, **kwargs):
        torch.manual_seed(0)
        return function(**inputs, **kwargs)

    expected = same_draws(model.get_embedding)
    compiled = torch.compile(model.get_embedding, backend='aot_eager')
    torch.testing.assert_close(same_draws(compiled), expected)
    expected, _ = same_draws(model.loss, triplets=TRIPLETS)
    loss = torch.compile(model.loss, backend='aot_eager')
    out, _ = same_draws(loss, triplets=TRIPLETS)
    torch.testing.assert_close(out, expected)


def test_double_precision_and_device_moves():
    model = SEA(U, I, SIZES).double()
    inputs = graph()
    inputs['modal_x'] = {m: x.double() for m, x in inputs['modal_x'].items()}
    assert model.get_embedding(**inputs).dtype == torch.double


def test_rejects_arguments():
    with pytest.raises(ValueError, match='num_users'):
        SEA(0, I, SIZES)
    with pytest.raises(ValueError, match='num_items'):
        SEA(U, 0, SIZES)
    for sizes in ({}, None):
        with pytest.raises(ValueError, match='in_channels'):
            SEA(U, I, sizes)
    with pytest.raises(ValueError, match='unique_channels'):
        SEA(U, I, SIZES, unique_channels=10)
    with pytest.raises(ValueError, match="called 'popularity'"):
        SEA(U, I, {'popularity': 3})
    SEA(U, I, {'popularity': 3}, item_bias=False)
    with pytest.raises(ValueError, match="'id_dropout' needs"):
        SEA(U, I, SIZES, id_dropout=1.0)
    with pytest.raises(ValueError, match="'id_channels' needs"):
        SEA(U, I, SIZES, id_channels=-1)
    with pytest.raises(ValueError, match="'reverse' needs"):
        SEA(U, I, SIZES, ranking_kwargs={'reverse': -1.0})
    with pytest.raises(ValueError, match="'ranking' needs"):
        SEA(U, I, SIZES, ranking='hinge')
    with pytest.raises(ValueError, match="takes no 'ranking_kwargs'"):
        SEA(U, I, SIZES, ranking='bpr', ranking_kwargs={'temperature': 1.0})


def test_rejects_input():
    model = SEA(U, I, SIZES)
    inputs = graph()
    inputs['modal_x'].pop('text')
    with pytest.raises(ValueError, match='exactly the modalities'):
        model.get_embedding(**inputs)
    with pytest.raises(ValueError, match=f'{I} rows'):
        model.get_embedding(**graph(num_items=I - 1))
    assert 'SEA(7, 150' in str(model)


@pytest.mark.parametrize('make', [SEA, SEA.paper, ReleasedSEA])
def test_half_precision(make):
    sizes = {'image': 12, 'text': 6}
    model, inputs = make(U, I, sizes), with_weights(graph(sizes=sizes))
    expected, _ = model.loss(triplets=TRIPLETS, **inputs)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        loss, _ = model.loss(triplets=TRIPLETS, **inputs)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(
        float(expected.detach()), rel=0.1
    )
    assert all(p.grad.isfinite().all() for p in model.parameters())

    inputs['modal_x'] = {m: x.bfloat16() for m, x in inputs['modal_x'].items()}
    out = model.bfloat16().get_embedding(**inputs)
    assert out.dtype == torch.bfloat16
    assert out.isfinite().all()


def test_inference_mode_then_training():
    model, inputs = SEA(U, I, SIZES), graph()
    with torch.inference_mode():
        model.eval().get_embedding(**inputs)
    model.train().loss(triplets=TRIPLETS, **inputs)[0].backward()


def test_no_parameter_is_unused_in_data_parallel_training(tmp_path):
    """DDP stops in the second step if a parameter got no gradient."""
    torch.distributed.init_process_group(
        'gloo', f'file://{tmp_path / "store"}', rank=0, world_size=1
    )

    class Step(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = SEA(U, I, SIZES)

        def forward(self, inputs):
            return self.model.loss(triplets=TRIPLETS, **inputs)[0]

    try:
        step = torch.nn.parallel.DistributedDataParallel(Step())
        inputs = graph()
        for _ in range(3):
            step(inputs).backward()
    finally:
        torch.distributed.destroy_process_group()


def test_new_items_get_gradients():
    model = SEA(U, I, SIZES)
    model.get_item_embedding(graph(num_items=3)['modal_x']).sum().backward()
    conv = model.encoder.convs['x_text']
    assert conv.mlp.lins[0].weight.grad.abs().sum() > 0


def test_gradients_are_the_same_every_time():
    """With many threads and repeated ids, too."""
    x_user, x_item = torch.randn(30, 64), torch.randn(30, 64)
    triplets = torch.randint(30, (3, 20_000))

    def grads():
        leaves = [x.clone().requires_grad_() for x in (x_user, x_item)]
        pos, neg = SEA.triplet_scores(*leaves, triplets)
        return torch.autograd.grad(BPRLoss()(pos, neg), leaves)

    expected = grads()
    for _ in range(5):
        for out, value in zip(grads(), expected):
            assert torch.equal(out, value)


@pytest.mark.parametrize('make', [SEA, SEA.paper])
def test_two_losses_before_one_backward(make):
    model, inputs = make(U, I, SIZES), graph()
    first, _ = model.loss(triplets=TRIPLETS, **inputs)
    second, _ = model.loss(triplets=TRIPLETS, **inputs)
    (first + second).backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_double_features_and_backward_under_autocast():
    model, inputs = SEA(U, I, SIZES), graph()
    inputs['modal_x'] = {m: x.double() for m, x in inputs['modal_x'].items()}
    with torch.autocast('cpu', torch.bfloat16):
        loss, _ = model.loss(triplets=TRIPLETS, **inputs)
        loss.backward()
    assert model.encoder.user_embedding.grad.isfinite().all()


def lacking(inputs):
    """A third of each modality is missing, and one item has none at all."""
    modal_x = {name: x.clone() for name, x in inputs['modal_x'].items()}
    for i, x in enumerate(modal_x.values()):
        x[i::3] = 0
        x[5] = 0
    return inputs | {'modal_x': modal_x}


@pytest.mark.parametrize('make', [SEA, without_ids, SEA.paper])
def test_missing_modalities_equal_dense_reference(make):
    model = make(U, I, SIZES).eval()
    inputs = lacking(with_weights(graph()))
    out = model.get_embedding(**inputs)
    expected = dense_embedding(model, inputs)
    torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
    # Only features that are there can matter.
    encoder = model.encoder.convs['x_text'].mlp.lins[-1]
    torch.nn.init.normal_(encoder.bias)
    no_edges = torch.empty(2, 0, dtype=torch.long)
    alone = model.get_parts(inputs['modal_x'], no_edges)['text']
    is_paper = model.ranking.name == 'bpr'  # Whose linear maps add a bias.
    if not is_paper:
        assert (torch.cat(alone, dim=1)[[1, 4, 5]] == 0).all()
    new = model.get_item_embedding(inputs['modal_x'])
    assert new.isfinite().all()
    assert (new[5] == 0).all() or is_paper


@pytest.mark.parametrize('make', [SEA, without_ids, SEA.paper])
def test_loss_with_missing_modalities(make):
    model = make(U, I, SIZES, num_anchors=None)
    inputs = lacking(graph())
    torch.manual_seed(0)
    loss, terms = model.loss(triplets=TRIPLETS, **inputs)
    loss.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name

    model.eval()
    parts = model.get_parts(inputs['modal_x'], inputs['edge_index'])
    there = {m: x.any(dim=1) for m, x in inputs['modal_x'].items()}
    _, terms = model.loss(triplets=TRIPLETS, **inputs)
    for a, b in (('text', 'image'), ('v1.5', 'image'), ('v1.5', 'text')):
        both = there[a] & there[b]
        assert 40 < both.sum() < 60
        pair = (parts[m].generic[both] for m in (a, b))
        expected = model.separate.align(*pair)
        torch.testing.assert_close(terms[f'align/{a}-{b}'], expected)
    for name in SIZES:
        key = f'x_{name.replace(".", "%2E")}'
        rows = [part[there[name]] for part in parts[name]]
        if model.ranking.name != 'bpr':  # The paper's permutes at random.
            expected = model.separate.distances[key](*rows)
            torch.testing.assert_close(terms[f'distance/{name}'], expected)


class NoWait(TorchDispatchMode):
    """Refuses what has to wait for a device."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert name not in ('nonzero', '_local_scalar_dense'), name
        if name == 'amax' and args[0].size(-1) in SIZES.values():
            raise AssertionError('features are looked through again')
        return func(*args, **(kwargs or {}))


def test_steps_do_not_wait_for_what_is_missing():
    model = SEA(U, I, SIZES, num_anchors=20)
    inputs = lacking(graph())
    with pytest.raises(AssertionError), NoWait():
        model.loss(triplets=TRIPLETS, **inputs)
    model.loss(triplets=TRIPLETS, **inputs)
    with NoWait():
        loss, _ = model.loss(triplets=TRIPLETS, **inputs)
    loss.backward()
    model.eval()
    model.get_item_embedding(graph(3)['modal_x'])  # Of others in between.
    with NoWait():
        model.train().loss(triplets=TRIPLETS, **inputs)


def test_compile_with_missing_modalities():
    model = without_ids(U, I, SIZES, num_anchors=None)
    inputs = lacking(graph())
    torch.manual_seed(0)
    expected, _ = model.loss(triplets=TRIPLETS, **inputs)
    torch.manual_seed(0)
    loss = torch.compile(model.loss, backend='aot_eager')
    out, _ = loss(triplets=TRIPLETS, **inputs)
    torch.testing.assert_close(out, expected)


def test_copies_with_missing_modalities():
    model = SEA(U, I, SIZES)
    inputs = lacking(graph())
    model.loss(triplets=TRIPLETS, **inputs)
    other = copy.deepcopy(model).eval()
    expected = model.eval().get_embedding(**inputs)
    torch.testing.assert_close(other.get_embedding(**inputs), expected)
