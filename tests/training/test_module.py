from types import SimpleNamespace

import pytest
import torch

from pyg_sea.evaluate import evaluate
from pyg_sea.nn import SEA
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.training import RecommenderModule
from pyg_sea.transforms import model_inputs

from .models import fake_data, tiny_model


def test_evaluates_current_weights_in_evaluation_mode():
    data, model = fake_data(), tiny_model()
    module = RecommenderModule(model, data, k=5, metrics=['recall', 'mrr'])
    store = data['user', 'buys', 'item']
    out = module.evaluate(store.val_edge_index)
    assert model.training
    model.eval()
    embedding = model.get_embedding(**model_inputs(data))
    assert out == evaluate(
        EmbeddingScorer(*embedding.split([60, 40])),
        store.val_edge_index,
        store.edge_index,
        5,
        ['recall', 'mrr'],
    )
    with torch.no_grad():
        model.lin.weight.mul_(-3)
    assert module.evaluate(store.val_edge_index) != out


def test_inputs_follow_the_module_but_not_the_checkpoint():
    module = RecommenderModule(tiny_model(), fake_data())
    names = list(tiny_model().state_dict())
    assert list(module.state_dict()) == [f'model.{name}' for name in names]
    assert len(list(module.buffers())) == len(list(tiny_model().buffers()))
    module.double()
    assert module.inputs['modal_x']['text'].dtype == torch.double
    assert module.inputs['edge_index'].dtype == torch.long
    module.to('meta')
    assert module.inputs['edge_index'].is_meta
    assert module.inputs['edge_weight'] is None


def test_features_can_stay_where_they_are():
    """As half-precision features of a model in single precision."""
    data = fake_data()
    data['item'].x_text = data['item'].x_text.half()
    size = data['item'].x_text.size(1)
    model = SEA(60, 40, {'text': size})
    module = RecommenderModule(model, data, features_on_device=False)
    edge_index, seen = module.inputs['edge_index'], []
    module._apply(lambda x: seen.append(x) or x)
    assert any(x is edge_index for x in seen)
    assert all(x is not data['item'].x_text for x in seen)
    module.double().float()
    assert module.inputs['modal_x']['text'] is data['item'].x_text
    assert module.inputs['edge_index'].dtype == torch.long
    user, item = module.get_embedding()
    assert user.dtype == item.dtype == torch.float


def test_inputs_can_be_given():
    data = fake_data()
    inputs = model_inputs(data)
    inputs['modal_x'] = {'text': torch.zeros(40, 6)}
    module = RecommenderModule(tiny_model(), data, inputs=inputs)
    _, item = module.get_embedding()
    assert item.shape == (40, 8)
    assert module.inputs['modal_x']['text'].sum() == 0


def test_optimizer():
    model = tiny_model()
    model.lin.bias.requires_grad_(False)
    module = RecommenderModule(model, fake_data(), lr=0.5, weight_decay=0.1)
    [group] = module.configure_optimizers().param_groups
    assert (group['lr'], group['weight_decay']) == (0.5, 0.1)
    assert len(group['params']) == 2
    assert group['fused']


@pytest.mark.parametrize(
    ('precision', 'clip', 'fused'),
    [
        ('16-mixed', 1.0, False),
        ('16-mixed', None, False),
        ('bf16-mixed', 1.0, False),
        ('bf16-mixed', None, True),
        ('bf16-mixed', 0.0, True),
        ('bf16-true', 1.0, True),
        ('32-true', 1.0, True),
    ],
)
def test_optimizer_allows_clipping(precision, clip, fused):
    module = RecommenderModule(tiny_model(), fake_data())
    module._trainer = SimpleNamespace(
        precision=precision, gradient_clip_val=clip
    )
    [group] = module.configure_optimizers().param_groups
    assert group['fused'] == fused


def test_data_of_another_size():
    with pytest.raises(ValueError, match='60 users and 40 items'):
        RecommenderModule(tiny_model(), fake_data(num_items=41))
