import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from pyg_sea.baselines import ContentKNN
from pyg_sea.evaluate import evaluate
from pyg_sea.nn import SampledSoftmaxLoss
from pyg_sea.transforms import model_inputs

pytest.importorskip('lightning', reason='the benchmarks train')

FOLDER = Path(__file__).parents[2] / 'benchmarks' / 'quality'
sys.path.insert(0, str(FOLDER))
import catalogue  # noqa: E402
import models  # noqa: E402
import run  # noqa: E402

sys.path.remove(str(FOLDER))


@pytest.fixture
def shop(shop_options):
    parser = run.parser_of('', '')
    return catalogue.read(parser.parse_args([*shop_options, '--out', 'x']))


def test_neighbours_by_the_weights_of_the_graph(shop_options):
    parser = run.parser_of('', '')
    weights = ['--graph-weight', 'text=1', '--graph-weight', 'image=0']
    args = parser.parse_args([*shop_options, *weights, '--out', 'x'])
    shop = catalogue.read(args)
    row, _ = run.run(shop, 'content_knn', {'weighted': True, 'k': 5}, 0)
    store = shop.data['user', 'buys', 'item']
    x = {'text': model_inputs(shop.data)['modal_x']['text']}
    scorer = ContentKNN.from_features(store.edge_index, x, 80, 5)
    assert row['test'] == evaluate(
        scorer, store.test_edge_index, store.edge_index
    )


@pytest.mark.parametrize('side_mean', [True, False])
def test_mgcn_equals_its_equations(shop, side_mean):
    settings = {'hidden_channels': 6, 'lambda_cl': 0.3, 'lambda_reg': 0.7}
    settings |= {'side_mean': side_mean}
    own = models.resolve('mgcn', settings)['model']
    model = models.build('mgcn', own, shop.data, shop.item_graphs)
    inputs = model_inputs(shop.data)
    U, num = model.num_users, model.num_users + model.num_items
    adj = torch.zeros(num, num)
    adj[tuple(inputs['edge_index'])] = 1
    scale = torch.where(adj.sum(1) > 0, adj.sum(1), torch.inf).rsqrt()
    adj = scale[:, None] * adj * scale
    e = torch.cat([model.user_embedding, model.item_embedding])
    b = (e + adj @ e + adj @ adj @ e) / 3
    z = []
    for name, (edge_index, weight) in shop.item_graphs().items():
        part = model.by_modality[f'x_{name}']
        S = torch.zeros(60, 60)
        S[edge_index[1], edge_index[0]] = weight
        gate = part.gate(part.map(inputs['modal_x'][name])).sigmoid()
        item = S @ (model.item_embedding * gate)
        z.append(torch.cat([adj[:U, U:] @ item, item]))
    a = torch.cat([model.attention(x) for x in z], 1).softmax(1)
    shared = a[:, :1] * z[0] + a[:, 1:] * z[1]
    own = sum(
        (x - shared) * part.preference(b).sigmoid()
        for x, part in zip(z, model.by_modality.values())
    )
    side = (shared + own) / 3 if side_mean else shared + own / 2
    out = model.get_embedding(**inputs)
    torch.testing.assert_close(out, b + side)

    triplets = torch.tensor([[0, 5, 5], [3, 3, 50], [7, 8, 9]])
    loss, terms = model.loss(triplets=triplets, **inputs)
    u, i, j = triplets[0], triplets[1] + U, triplets[2] + U
    margin = (out[u] * (out[i] - out[j])).sum(1)
    reg = sum(out[n].square().sum() for n in (u, i, j)) / 6
    cl = 0
    for n in (u, i):
        cosine = F.normalize(side[n]) @ F.normalize(b[n]).t()
        cl = cl - (cosine / 0.2).log_softmax(1).diagonal().mean()
    expected = {'bpr': -F.logsigmoid(margin).mean(), 'reg': reg, 'cl': cl}
    torch.testing.assert_close(terms, expected)
    torch.testing.assert_close(loss, expected['bpr'] + 0.7 * reg + 0.3 * cl)
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize('name', ['bpr_mf', 'lightgcn'])
def test_free_embeddings(shop, name):
    model = models.build(name, {'lambda_reg': 0.5}, shop.data, None)
    inputs = model_inputs(shop.data)
    out = model.get_embedding(**inputs)
    free = next(p for n, p in model.named_parameters() if 'embedding' in n)
    if name == 'bpr_mf':
        assert torch.equal(out[:80], free)
        free = out
    triplets = torch.tensor([[0, 5], [3, 3], [7, 8]])
    loss, terms = model.loss(triplets=triplets, **inputs)
    rows = torch.tensor([0, 5, 83, 83, 87, 88])
    reg = free[rows].square().sum() / 4
    torch.testing.assert_close(terms['reg'], reg)
    torch.testing.assert_close(loss, terms['bpr'] + 0.5 * reg)
    margin = (out[[0, 5]] * (out[[83, 83]] - out[[87, 88]])).sum(1)
    torch.testing.assert_close(terms['bpr'], -F.logsigmoid(margin).mean())


def test_lightgcn_is_that_of_pyg(shop):
    model = models.build('lightgcn', {'num_layers': 3}, shop.data, None)
    inputs = model_inputs(shop.data)
    adj, _ = model._adjacency(inputs['edge_index'], None, 140, torch.float)
    weight = model.gcn.embedding.weight
    ours, theirs = model.get_embedding(**inputs), model.gcn.get_embedding(adj)
    torch.testing.assert_close(ours, theirs)
    gradients = [
        torch.autograd.grad(out[::7].sin().sum(), weight)
        for out in (ours, theirs)
    ]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize('base', ['lightgcn', 'mgcn'])
def test_with_the_ranking_loss_of_sea(shop, base):
    name = f'{base}_softmax'
    settings = models.resolve(name, {'temperature': 0.3})['model']
    model = models.build(name, settings, shop.data, shop.item_graphs).eval()
    with torch.no_grad():
        model.ranking.item_bias.uniform_(-1, 1)
    plain = models.resolve(base, {})['model']
    plain = models.build(base, plain, shop.data, shop.item_graphs)
    plain.load_state_dict(model.state_dict(), strict=False)

    inputs = model_inputs(shop.data)
    rows = plain.get_embedding(**inputs)
    bias = 0.2 * model.ranking.item_bias
    score = F.normalize(rows[:80]) @ F.normalize(rows[80:]).t() + bias
    out = model.get_embedding(**inputs)
    torch.testing.assert_close(out[:80] @ out[80:].t(), score)

    triplets = torch.tensor([[0, 5], [3, 7], [7, 8]])
    loss, terms = model.loss(triplets=triplets, **inputs)
    users, items = triplets[:2]
    expected = SampledSoftmaxLoss(0.3, None).eval()(
        rows[users], rows[80:], items, users, bias
    )
    torch.testing.assert_close(terms['softmax'], expected)
    if base == 'mgcn':
        _, more = plain.loss(triplets=triplets, **inputs)
        expected = expected + 0.01 * more['cl']
    torch.testing.assert_close(loss, expected)
