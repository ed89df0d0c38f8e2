import copy
from collections.abc import Mapping

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pyg_sea.evaluate import evaluate
from pyg_sea.nn import ReleasedSEA
from pyg_sea.recommend import EmbeddingScorer

# Names of the recorded weights, per modality (`t_`, `v_`), and ours.
NAMES = {
    'item_linear.weight': 'item_linears.{}.weight',
    'item_linear.bias': 'item_linears.{}.bias',
    'trans1.weight': 'generic_linears.{}.weight',
    'trans1.bias': 'generic_linears.{}.bias',
    'trans2.weight': 'unique_linears.{}.weight',
    'trans2.bias': 'unique_linears.{}.bias',
    'gcn.MLP.weight': 'encoder.convs.{}.mlp.lins.0.weight',
    'gcn.MLP.bias': 'encoder.convs.{}.mlp.lins.0.bias',
    'gcn.MLP_1.weight': 'encoder.convs.{}.mlp.lins.1.weight',
    'gcn.MLP_1.bias': 'encoder.convs.{}.mlp.lins.1.bias',
}
ESTIMATOR = {
    f'club.p_{net}.{layer}.{kind}': f'estimator.{kind}_{offset + layer // 2}'
    for net, offset in [('mu', 0), ('logvar', 2)]
    for layer in (0, 2)
    for kind in ('weight', 'bias')
}


def our_name(name: str) -> str:
    if name in ESTIMATOR:
        return ESTIMATOR[name]
    key = {'t': 'x_text', 'v': 'x_image'}[name[0]]
    if '_proj.head.' in name:
        return f'heads.{key}.' + name.split('_proj.head.')[1]
    return NAMES[name[2:]].format(key)


class Golden:
    """A recorded step, and a `ReleasedSEA` with its weights."""

    def __init__(self, path) -> None:
        with np.load(path, allow_pickle=False) as arrays:
            self.arrays = {name: arrays[name] for name in arrays.files}
        self.num_users = len(self.arrays['weight/weight_u'])
        self.num_items = len(self.arrays['input/text_feat'])

    def __getitem__(self, name: str) -> Tensor:
        out = torch.from_numpy(self.arrays[name])
        return out.double() if out.is_floating_point() else out

    def group(self, prefix: str) -> dict[str, Tensor]:
        return {
            name[len(prefix) :]: self[name]
            for name in self.arrays
            if name.startswith(prefix)
        }

    def state(self, prefix: str) -> dict[str, Tensor]:
        """The recorded tensors under our names, as far as recorded."""
        group = self.group(prefix)
        out = {}
        if 'weight_u' in group:
            out['encoder.user_weight'] = group.pop('weight_u').squeeze(-1)
        users = [
            group.pop(f'{key}_gcn.preference')
            for key in 'vt'
            if f'{key}_gcn.preference' in group
        ]
        if users:
            out['encoder.user_embedding'] = torch.stack(users)
        return out | {our_name(name): value for name, value in group.items()}

    def model(self) -> ReleasedSEA:
        model = ReleasedSEA(
            self.num_users,
            self.num_items,
            {
                'image': self['input/image_feat'].size(1),
                'text': self['input/text_feat'].size(1),
            },
            hidden_channels=self['weight/v_gcn.preference'].size(1),
            alpha=float(self['hyper/alpha_contrast']),
            beta=float(self['hyper/ureg']),
            temperature=float(self['hyper/temperature']),
            num_steps=0,
        ).double()
        missing, unexpected = model.load_state_dict(
            self.state('weight/'), strict=False
        )
        assert not unexpected
        assert all(
            name.startswith(('estimator.exp', 'estimator.step'))
            or name in ('last_embedding', 'trained')
            for name in missing
        )
        return model

    def inputs(self) -> dict[str, object]:
        user, item = self['input/train_edge_index']
        edge_index = torch.stack([user, item + self.num_users])
        # Column j of row i is an edge from j to i.
        item_graph = self['output/item_graph_dense']
        item_edge_index = item_graph.nonzero().t()
        return {
            'modal_x': {
                'image': self['input/image_feat'],
                'text': self['input/text_feat'],
            },
            'edge_index': torch.cat([edge_index, edge_index.flip(0)], dim=1),
            'item_edge_index': item_edge_index.flip(0),
            'item_edge_weight': item_graph[tuple(item_edge_index)],
        }

    def loss(self, model: ReleasedSEA) -> tuple[Tensor, dict[str, Tensor]]:
        triplets = [
            self[f'input/batch_{name}']
            for name in ('user', 'pos_item', 'neg_item')
        ]
        return model.loss(
            triplets=torch.stack(triplets),
            permutations={
                name: self[f'output/club_permutation_{name}']
                for name in ('text', 'image')
            },
            **self.inputs(),
        )


@pytest.fixture(scope='module')
def golden(golden_path) -> Golden:
    return Golden(golden_path)


def assert_close(out: Tensor, expected: Tensor, rtol: float, name='') -> None:
    error = (out.detach() - expected).abs().max()
    assert error <= rtol * expected.abs().max() + 1e-12, (name, float(error))


def assert_states(
    out: Mapping[str, Tensor], expected: Mapping[str, Tensor]
) -> None:
    assert expected
    for name, value in expected.items():
        assert_close(out[name], value, 1e-7, name)


def test_golden_loss(golden):
    loss, terms = golden.loss(golden.model())

    assert_close(loss, golden['output/total_loss'], 1e-9)
    for name, recorded in [
        ('bpr', 'bpr_log2'),
        ('align/text-image', 'solosim'),
        ('distance/text', 'club_released_value_text'),
        ('distance/image', 'club_released_value_image'),
    ]:
        assert_close(terms[name], golden[f'output/{recorded}'], 1e-9, name)


def test_golden_intermediates(golden):
    model = golden.model()
    golden.loss(model)
    rows = model._rows(golden.inputs()['modal_x'])
    x_item = model._encode_items(rows)
    for name in ('text', 'image'):
        key = f'x_{name}'
        full = model.item_linears[key](golden.inputs()['modal_x'][name])
        assert_close(full, golden[f'output/{name}_item_linear'], 1e-9)
        parts = model._parts[name]
        assert_close(parts.generic, golden[f'output/{name}_generic_32'], 1e-9)
        assert_close(parts.unique, golden[f'output/{name}_unique_32'], 1e-9)
        projection = F.normalize(model._project(name, rows[name]))
        assert_close(projection, golden[f'output/{name}_projection'], 1e-9)

        user = model.encoder.user_embedding[model.modalities.index(name)]
        node = F.normalize(torch.cat([user, x_item[name]]))
        edge_index = golden.inputs()['edge_index']
        adjacency = model.encoder._adjacency
        adj = adjacency(edge_index, None, len(node), node.dtype)
        node = model.encoder.convs[key].propagate_hops(node, *adj)
        assert_close(node, golden[f'output/{name}_node_embedding'], 1e-9)


def test_golden_embedding_and_scores(golden):
    model = golden.model()
    inputs = golden.inputs()
    out = model.get_embedding(**inputs)
    user, item = out.split([golden.num_users, golden.num_items])
    assert_close(user, golden['output/user_embedding'], 1e-9)
    assert_close(item, golden['output/item_embedding'], 1e-9)
    assert_close(user @ item.t(), golden['output/scores'], 1e-9)

    for name in ('pos', 'neg'):
        pairs = torch.stack(
            [
                golden['input/batch_user'],
                golden[f'input/batch_{name}_item'] + golden.num_users,
            ]
        )
        score = model(edge_label_index=pairs, **inputs)
        assert_close(score, golden[f'output/{name}_score'], 1e-9)


def test_golden_gradients(golden):
    model = golden.model()
    loss, _ = golden.loss(model)
    loss.backward()

    grads = {name: p.grad for name, p in model.named_parameters()}
    # The records of the estimator are not the gradient of the recorded total
    # loss; why is not known. Ours is tested by finite differences, below.
    expected = {
        name: value
        for name, value in golden.state('grad/').items()
        if not name.startswith('estimator.')
    }
    assert set(expected) == set(grads)
    for name, value in expected.items():
        if name.startswith('heads') and name.endswith(('.0.bias', '.3.bias')):
            # A batch-norm follows: the true gradient is 0, both are rounding.
            assert grads[name].abs().max() < 1e-12
            continue
        assert_close(grads[name], value, 1e-7, name)


def test_estimator_gradient_by_finite_differences(golden):
    model = golden.model()
    tensors = model.estimator.tensors()
    for tensor in tensors:
        tensor.requires_grad_()
    golden.loss(model)[0].backward()
    for tensor in tensors:
        index = int(tensor.grad.abs().argmax())
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                tensor.view(-1)[index] += step
                values.append(golden.loss(model)[0])
                tensor.view(-1)[index] -= step
        expected = (values[0] - values[1]) / 2e-6
        out = tensor.grad.view(-1)[index]
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-7)


def test_golden_estimator_steps(golden):
    model = golden.model()
    golden.loss(model)
    for num_steps, recorded in [(1, 1), (49, 50)]:
        model.estimator.num_steps = num_steps
        model.after_backward()
        expected = golden.state(f'after/estimator_step_{recorded}/')
        assert_states(model.state_dict(), expected)
    assert model.estimator.step == 50


def test_golden_model_step(golden):
    model = golden.model()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    loss, _ = golden.loss(model)
    loss.backward()
    optimizer.step()

    state = model.state_dict()
    before = golden.state('weight/')
    for name, value in golden.state('after/model_step/').items():
        if name.startswith('heads') and name.endswith(('.0.bias', '.3.bias')):
            # Adam turns rounding noise into steps of unknown sign.
            assert (state[name] - before[name]).abs().max() <= 1.001e-4
            continue
        assert_close(state[name], value, 1e-7, name)


def test_golden_metrics(golden):
    model = golden.model()
    golden.loss(model)
    model.eval()
    user, item = model.get_embedding(**golden.inputs()).split(
        [golden.num_users, golden.num_items]
    )
    out = evaluate(
        EmbeddingScorer(user, item),
        golden['input/test_edge_index'],
        golden['input/train_edge_index'],
    )
    for name in ('recall@10', 'recall@20', 'ndcg@10', 'ndcg@20'):
        assert round(out[name], 4) == float(golden[f'output/test_{name}'])


SIZES = {'image': 12, 'text': 7}
U, I = 5, 40  # noqa: E741


def small_graph() -> dict[str, object]:
    pairs = torch.randperm(U * I)[:80]
    edge_index = torch.stack([pairs // I, pairs % I + U])
    return {
        'modal_x': {name: torch.randn(I, F) for name, F in SIZES.items()},
        'edge_index': torch.cat([edge_index, edge_index.flip(0)], dim=1),
    }


TRIPLETS = torch.tensor([[0, 1, 2], [3, 4, 5], [6, 7, 8]])


def test_evaluation_returns_the_embedding_of_the_last_step():
    model = ReleasedSEA(U, I, SIZES)
    inputs = small_graph()
    fresh = model.eval().get_embedding(**inputs)
    model.train()
    before = model.get_embedding(**inputs)
    model.loss(triplets=TRIPLETS, **inputs)
    with torch.no_grad():
        model.encoder.user_embedding.mul_(-1)
    assert torch.equal(model.eval().get_embedding(**inputs), before)
    assert torch.equal(fresh, before)
    assert not torch.equal(model.train().get_embedding(**inputs), before)

    kept = model.eval().get_embedding(**inputs)
    model.train().loss(triplets=TRIPLETS, **inputs)
    assert torch.equal(kept, before)
    model.last_embedding.copy_(before)

    other = ReleasedSEA(U, I, SIZES)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval().get_embedding(**inputs), before)


def test_estimator_is_fitted_on_the_wrong_pairs():
    model = ReleasedSEA(U, I, SIZES, num_steps=500, estimator_lr=1e-2)
    with pytest.raises(RuntimeError, match="Call 'loss' before"):
        model.after_backward()
    loss, _ = model.loss(triplets=TRIPLETS, **small_graph())
    loss.backward()
    model.after_backward()

    def nll(x, y):
        mean, log_var = model.estimator(x, model.estimator.tensors())
        square = (mean - y).square() / log_var.exp()
        return float((square + log_var).sum(dim=1).mean())

    image, text = model._parts['image'], model._parts['text']
    wrong = nll(text.generic, image.generic) + nll(text.unique, image.unique)
    right = nll(*text) + nll(*image)
    assert wrong < right


def test_distance_is_never_negative_and_drawn_anew():
    model = ReleasedSEA(U, I, SIZES, num_steps=300, estimator_lr=1e-2)
    inputs = small_graph()

    def draw() -> float:
        _, terms = model.loss(triplets=TRIPLETS, **inputs)
        return float(terms['distance/text'].detach())

    assert min(draw() for _ in range(20)) >= 0
    text = model._parts['text']
    model.estimator.fit(*text)  # On the right pairs: a positive bound.
    values = {draw() for _ in range(20)}
    assert min(values) > 0
    assert len(values) == 20


def test_no_estimator_among_the_parameters():
    model = ReleasedSEA(U, I, SIZES)
    assert not any('estimator' in name for name, _ in model.named_parameters())
    names = dict(model.named_buffers())
    assert 'estimator.weight_0' in names
    torch.manual_seed(1)
    before = model.encoder.user_embedding.clone()
    model.reset_parameters()
    assert not torch.equal(model.encoder.user_embedding, before)


def test_rejects_other_than_two_modalities():
    with pytest.raises(ValueError, match='exactly two'):
        ReleasedSEA(U, I, {'text': 7})


def test_new_items_are_placed_by_their_features():
    model = ReleasedSEA(U, I, SIZES)
    modal_x = small_graph()['modal_x']
    alone = model.get_embedding(modal_x, torch.empty(2, 0, dtype=torch.long))
    torch.testing.assert_close(model.get_item_embedding(modal_x), alone[U:])
    new = {name: torch.randn(3, size) for name, size in SIZES.items()}
    assert model.get_item_embedding(new).shape == (3, 128)


def test_maps_of_another_width():
    model = ReleasedSEA(3, 5, {'image': 16, 'text': 8}, map_channels=10)
    modal_x = {'image': torch.randn(5, 16), 'text': torch.randn(5, 8)}
    parts = model.get_parts(modal_x, torch.empty(2, 0, dtype=torch.long))
    for name, x in modal_x.items():
        full = model.item_linears[f'x_{name}'](x)
        assert full.shape == (5, 10)
        generic = model.generic_linears[f'x_{name}'](full[:, :5])
        unique = model.unique_linears[f'x_{name}'](full[:, 5:])
        torch.testing.assert_close(parts[name].generic, generic)
        torch.testing.assert_close(parts[name].unique, unique)
    assert model.get_item_embedding(modal_x).shape == (5, 128)


@pytest.mark.parametrize('width', [-1, 0, 1])
def test_rejects_maps_without_halves(width):
    sizes = {'image': 16, 'text': 8}
    with pytest.raises(ValueError, match='map_channels'):
        ReleasedSEA(3, 5, sizes, map_channels=width)
    with pytest.raises(ValueError, match=r"in_channels\['text'\]"):
        ReleasedSEA(3, 5, {'image': 16, 'text': 0}, map_channels=4)


def test_rejects_a_wrong_number_of_items():
    inputs = small_graph()
    with pytest.raises(ValueError, match='41 rows'):
        ReleasedSEA(U, I + 1, SIZES).get_embedding(**inputs)


def test_fit_before_backward_changes_no_gradient():
    model, inputs = ReleasedSEA(U, I, SIZES, beta=1.0), small_graph()
    perms = {name: torch.randperm(I) for name in SIZES}
    model.loss(**inputs, triplets=TRIPLETS)
    model.estimator.num_steps = 300
    model.estimator.lr = 1e-2
    model.estimator.fit(*model._parts['text'])  # No bound is clamped at 0.
    grads = []
    state = copy.deepcopy(model.state_dict())
    for fit_first in (False, True):
        model.load_state_dict(state)
        model.zero_grad()
        loss, terms = model.loss(
            **inputs, triplets=TRIPLETS, permutations=perms
        )
        assert terms['distance/text'] > 0
        if fit_first:
            model.after_backward()
        loss.backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(*grads, rtol=0, atol=0)


def test_fit_in_full_precision_under_autocast():
    model = ReleasedSEA(U, I, SIZES, estimator_lr=1e-2)
    model.loss(**small_graph(), triplets=TRIPLETS)
    other = copy.deepcopy(model)
    model.after_backward()
    with torch.autocast('cpu', dtype=torch.bfloat16):
        other.after_backward()
    tensors = [m.estimator.tensors() for m in (model, other)]
    torch.testing.assert_close(*tensors, rtol=0, atol=0)
