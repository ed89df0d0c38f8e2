import copy
import io

import pytest
import torch
from torch_geometric.utils import to_torch_csr_tensor

from pyg_sea.datasets import FakeMultimodal
from pyg_sea.nn import FREEDOM, BPRLoss
from pyg_sea.transforms import ModalKNNGraph

U, I = 30, 40  # noqa: E741
SIZES = {'image': 12, 'v1.5': 9}
TRIPLETS = torch.stack([torch.arange(U), torch.arange(U), torch.arange(U) + 9])


def graph():
    pairs = torch.randperm(U * I)[:200].sort().values
    edge_index = torch.stack([pairs // I, pairs % I + U])
    return {
        'modal_x': {m: torch.randn(I, size) for m, size in SIZES.items()},
        'edge_index': torch.cat([edge_index, edge_index.flip(0)], dim=1),
        'item_edge_index': torch.randint(I, (2, 150)).unique(dim=1),
    }


def with_weights(inputs):
    half = torch.rand(inputs['edge_index'].size(1) // 2) + 0.1
    return inputs | {
        'edge_weight': half.repeat(2),
        'item_edge_weight': torch.rand(inputs['item_edge_index'].size(1)),
    }


def dense(edge_index, weight, num):
    adj = torch.zeros(num, num)
    row, col = edge_index
    adj[col, row] = torch.ones(len(row)) if weight is None else weight
    return adj


def dense_embedding(model, inputs, edge_index, edge_weight):
    adj = dense(edge_index, edge_weight, U + I)
    scale = torch.where(adj.sum(1) > 0, adj.sum(1), torch.inf).rsqrt()
    adj = scale[:, None] * adj * scale
    x = torch.cat([model.user_embedding, model.item_embedding])
    out = (x + adj @ x + adj @ adj @ x) / 3
    S = dense(inputs['item_edge_index'], inputs.get('item_edge_weight'), I)
    return torch.cat([out[:U], out[U:] + S @ model.item_embedding])


@pytest.mark.parametrize('weighted', [False, True])
def test_embedding_equals_dense_reference(weighted):
    model = FREEDOM(U, I, SIZES).eval()
    inputs = with_weights(graph()) if weighted else graph()
    expected = dense_embedding(
        model, inputs, inputs['edge_index'], inputs.get('edge_weight')
    )
    out = model.get_embedding(**inputs)
    torch.testing.assert_close(out, expected)

    del inputs['item_edge_index']
    inputs.pop('item_edge_weight', None)
    out = model.get_embedding(**inputs)
    torch.testing.assert_close(out[:U], expected[:U])
    assert not torch.allclose(out[U:], expected[U:])


@pytest.mark.parametrize('weighted', [False, True])
def test_a_share_of_the_interactions_is_left_out(weighted):
    model = FREEDOM(U, I, SIZES, dropout=0.75)
    inputs = with_weights(graph()) if weighted else graph()
    out = model.get_embedding(**inputs)
    adj, _ = model._thinned(
        inputs['edge_index'], inputs.get('edge_weight'), U + I, out.dtype
    )
    kept = adj.to_dense().nonzero().t()
    assert kept.size(1) == 2 * 50
    whole = inputs['edge_index']
    match = (kept[0] * 100 + kept[1])[:, None] == whole[0] * 100 + whole[1]
    assert match.any(1).all()  # They are some of the interactions.
    weight = inputs.get('edge_weight')
    if weight is not None:
        weight = weight[match.float().argmax(1)]
    expected = dense_embedding(model, inputs, kept, weight)
    torch.testing.assert_close(out, expected)


def test_interactions_of_small_degree_stay_more_often():
    # User 0 has all items; the others have one of item 0 each.
    items = torch.cat([torch.arange(I), torch.zeros(U - 1, dtype=torch.long)])
    users = torch.cat([torch.zeros(I, dtype=torch.long), torch.arange(1, U)])
    pairs = torch.stack([users, items + U])
    inputs = graph() | {'edge_index': torch.cat([pairs, pairs.flip(0)], 1)}
    model = FREEDOM(U, I, SIZES, dropout=0.9)
    count = torch.zeros(U + I, U + I)
    num = 600
    for seed in range(num):
        model.set_extra_state(torch.tensor([seed, 0]))
        model.get_embedding(**inputs)
        adj, _ = model._thinned(inputs['edge_index'], None, U + I, torch.float)
        count += (adj.to_dense() > 0).float()
    assert count[0, U:].sum() + count[1:U, U].sum() == num * 7
    torch.testing.assert_close(count, count.t())

    # The same from torch's own sampler. All alike would be 0.101.
    rate = (1.0 / torch.tensor([I * U] + [I] * (I - 1) + [U] * (U - 1))).sqrt()
    drawn = torch.multinomial(rate.expand(20_000, -1), 7).flatten()
    expected = torch.bincount(drawn, minlength=len(rate)) / 20_000
    found = count[pairs[0], pairs[1]] / num
    for group, error in (
        (slice(0, 1), 0.02),
        (slice(1, I), 0.005),
        (slice(I, None), 0.005),
    ):
        assert float(found[group].mean()) == pytest.approx(
            float(expected[group].mean()), abs=error
        )


def test_interactions_change_once_per_epoch():
    model, inputs = FREEDOM(U, I, SIZES), graph()  # 200 interactions
    triplets = torch.stack(
        [torch.zeros(50), torch.ones(50), torch.arange(50) % I]
    ).long()
    embeddings = []
    for _ in range(9):
        embeddings.append(model.get_embedding(**inputs).detach())
        model.loss(triplets=triplets, **inputs)
    for i in range(8):
        same = torch.equal(embeddings[i], embeddings[i + 1])
        assert same == (i not in (3, 7))

    model.eval()
    out = model.get_embedding(**inputs)
    model.loss(triplets=triplets, **inputs)
    assert torch.equal(model.get_embedding(**inputs), out)
    assert model.get_extra_state()[1] == 450


def test_state_dict_copy_and_reset():
    model, inputs = FREEDOM(U, I, SIZES), graph()
    for _ in range(10):
        model.loss(triplets=TRIPLETS, **inputs)
    expected = model.get_embedding(**inputs)
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    other = FREEDOM(U, I, SIZES)
    assert not torch.equal(other.get_embedding(**inputs), expected)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert torch.equal(other.get_embedding(**inputs), expected)
    other = copy.deepcopy(model)
    assert torch.equal(other.get_embedding(**inputs), expected)

    model.reset_parameters()
    assert not torch.equal(model.get_embedding(**inputs), expected)
    assert model.get_extra_state()[0] != other.get_extra_state()[0]
    assert model.get_extra_state()[1] == 0


@pytest.mark.filterwarnings('ignore')
def test_resumed_training_is_the_same(tmp_path):
    training = pytest.importorskip('pyg_sea.training')
    data = ModalKNNGraph(k=4)(FakeMultimodal(60, 40)[0])

    def run(out, epochs):
        torch.manual_seed(0)
        model = FREEDOM(60, 40, {'image': 64, 'text': 64}, hidden_channels=8)
        result = training.train(
            model,
            data,
            out,
            max_epochs=epochs,
            batch_size=100,
            seed=1,
            resume=True,
            progress=False,
        )
        return [row['train/loss'] for row in result.history]

    expected = run(tmp_path / 'a', 4)
    assert run(tmp_path / 'b', 2) == expected[:2]
    assert run(tmp_path / 'b', 4) == expected


def test_loss_is_the_sum_of_its_terms():
    model, inputs = FREEDOM(U, I, SIZES, lambda_modal=0.3), graph()
    loss, terms = model.loss(triplets=TRIPLETS, **inputs)
    assert list(terms) == ['bpr', 'bpr/image', 'bpr/v1.5']
    expected = terms['bpr'] + 0.3 * (terms['bpr/image'] + terms['bpr/v1.5'])
    torch.testing.assert_close(loss, expected)

    model.eval()
    _, terms = model.loss(triplets=TRIPLETS, **inputs)
    users, *items = TRIPLETS
    out = model.get_embedding(**inputs)
    x = model.linears['x_image'](inputs['modal_x']['image'])
    for name, x_item in (('bpr', out[U:]), ('bpr/image', x)):
        scores = [(out[users] * x_item[i]).sum(1) for i in items]
        torch.testing.assert_close(terms[name], BPRLoss()(*scores))

    model.lambda_modal = 0.0
    assert list(model.loss(triplets=TRIPLETS, **inputs)[1]) == ['bpr']


def test_every_parameter_is_alive():
    model = FREEDOM(U, I, SIZES)
    model.loss(triplets=TRIPLETS, **graph())[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        # The bias of a modality cancels in the difference of two items.
        alive = parameter.grad.abs().max() > 1e-9
        assert alive or name.endswith('bias'), name


def test_edge_weights_get_gradients():
    model, inputs = FREEDOM(U, I, SIZES, dropout=0.5), with_weights(graph())
    expected = model.get_embedding(**inputs)
    inputs['edge_weight'].requires_grad_()
    inputs['item_edge_weight'].requires_grad_()
    for _ in range(2):
        torch.testing.assert_close(model.get_embedding(**inputs), expected)
        model.loss(triplets=TRIPLETS, **inputs)[0].backward()
    grad = inputs['edge_weight'].grad
    assert 0 < (grad != 0).sum() <= 100
    assert inputs['item_edge_weight'].grad.abs().sum() > 0


@pytest.mark.parametrize('training', [False, True])
def test_sparse_input_agrees(training):
    model, inputs = FREEDOM(U, I, SIZES).train(training), graph()
    # In the order of a sparse matrix, which decides what is drawn.
    edge_index = inputs['edge_index']
    order = (edge_index[0] * (U + I) + edge_index[1]).argsort()
    inputs['edge_index'] = edge_index[:, order]
    expected = model.get_embedding(**inputs)
    inputs['edge_index'] = to_torch_csr_tensor(
        inputs['edge_index'], size=(U + I, U + I)
    )
    inputs['item_edge_index'] = to_torch_csr_tensor(
        inputs['item_edge_index'].flip(0), size=(I, I)
    )
    torch.testing.assert_close(model.get_embedding(**inputs), expected)
    model.loss(triplets=TRIPLETS, **inputs)[0].backward()


def test_no_dropout_is_the_whole_graph():
    model, inputs = FREEDOM(U, I, SIZES, dropout=0.0), graph()
    out = model.get_embedding(**inputs)
    assert torch.equal(model.eval().get_embedding(**inputs), out)


@pytest.mark.parametrize('autocast', [False, True])
def test_half_precision(autocast):
    model, inputs = FREEDOM(U, I, SIZES), with_weights(graph())
    expected, _ = model.loss(triplets=TRIPLETS, **inputs)
    if autocast:
        with torch.autocast('cpu', dtype=torch.bfloat16):
            loss, _ = model.loss(triplets=TRIPLETS, **inputs)
    else:
        model = model.bfloat16()
        modal_x = {m: x.bfloat16() for m, x in inputs['modal_x'].items()}
        inputs['modal_x'] = modal_x
        assert model.get_embedding(**inputs).dtype == torch.bfloat16
        loss, _ = model.loss(triplets=TRIPLETS, **inputs)
    loss.backward()
    torch.testing.assert_close(loss.float(), expected, rtol=0.05, atol=0.05)


def test_compile_with_graph_breaks():
    model, inputs = FREEDOM(U, I, SIZES), graph()
    expected = model.get_embedding(**inputs)
    compiled = torch.compile(model.get_embedding, backend='aot_eager')
    torch.testing.assert_close(compiled(**inputs), expected)


@pytest.mark.parametrize(
    'kwargs',
    [
        {'hidden_channels': 0},
        {'num_layers': -1},
        {'num_item_layers': -1},
        {'dropout': 1.0},
        {'dropout': -0.1},
        {'lambda_modal': -1.0},
    ],
)
def test_rejects_arguments(kwargs):
    with pytest.raises(ValueError, match=next(iter(kwargs))):
        FREEDOM(U, I, SIZES, **kwargs)


def test_rejects_input():
    model, inputs = FREEDOM(U, I, SIZES), graph()
    inputs['modal_x'].pop('image')
    with pytest.raises(ValueError, match='exactly the modalities'):
        model.loss(triplets=TRIPLETS, **inputs)
    assert 'FREEDOM(30, 40' in str(model)
