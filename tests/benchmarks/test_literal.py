import importlib.util
from pathlib import Path

import pytest
import torch
from torch_geometric import seed_everything

from pyg_sea.datasets import FakeMultimodal
from pyg_sea.evaluate import evaluate
from pyg_sea.loader import BPRLoader
from pyg_sea.nn import ReleasedSEA
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.transforms import ModalKNNGraph, model_inputs


@pytest.fixture(scope='module')
def literal():
    path = Path(__file__).parents[2] / 'benchmarks' / 'speed' / 'literal.py'
    spec = importlib.util.spec_from_file_location('literal', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def setup():
    seed_everything(0)
    data = ModalKNNGraph(k=5)(FakeMultimodal(60, 40)[0])
    inputs = model_inputs(data)
    inputs['modal_x'] = {m: x.double() for m, x in inputs['modal_x'].items()}
    inputs['item_edge_weight'] = inputs['item_edge_weight'].double()
    model = ReleasedSEA(
        60,
        40,
        {m: x.size(1) for m, x in inputs['modal_x'].items()},
        alpha=0.3,
        beta=0.5,
        num_steps=3,
    ).double()
    edges = data['user', 'buys', 'item']
    triplets = next(iter(BPRLoader(edges.edge_index, 60, 40, 50, seed=0)))
    return inputs, model, edges, triplets


def test_step_is_that_of_released_sea(literal):
    inputs, model, _, triplets = setup()
    step = literal.LiteralStep(model, inputs, lr=1e-4, num_steps=3)
    perms = {name: torch.randperm(40) for name in inputs['modal_x']}

    expected, _ = model.loss(**inputs, triplets=triplets, permutations=perms)
    expected.backward()
    grads = {n: p.grad.clone() for n, p in model.named_parameters()}
    state = {n: b.clone() for n, b in model.named_buffers()}
    model.after_backward()
    model.zero_grad()
    # The batch norms of the heads count a forward pass.
    model.load_state_dict(state, strict=False)

    loss = step.forward(triplets, perms)
    loss.backward()
    step.fit_estimator()

    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(
            parameter.grad, grads[name], rtol=1e-9, atol=1e-11, msg=name
        )

    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    step.update()
    for name, parameter in model.named_parameters():
        # The first step of Adam.
        change = -1e-4 * grads[name] / (grads[name].abs() + 1e-8)
        torch.testing.assert_close(
            parameter.detach() - before[name], change, rtol=1e-4, atol=1e-9
        )
        assert parameter.grad is None


def test_estimator_is_fitted_as_in_released_sea(literal):
    inputs, model, _, triplets = setup()
    step = literal.LiteralStep(model, inputs, lr=1e-4, num_steps=3)
    step.forward(triplets)
    step.fit_estimator()
    model.loss(**inputs, triplets=triplets)
    model.after_backward()
    for ours, theirs in zip(model.estimator.tensors(), step.q):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-12)


def test_sampler_avoids_the_history(literal):
    _, _, edges, _ = setup()
    seen = set(map(tuple, edges.edge_index.t().tolist()))
    batches = list(literal.sample(edges.edge_index, 60, 32))
    assert sum(b.size(1) for b in batches) == edges.edge_index.size(1)
    for user, positive, negative in torch.cat(batches, 1).t().tolist():
        assert (user, positive) in seen
        assert (user, negative) not in seen


def test_metrics_are_those_of_evaluate(literal):
    _, _, edges, _ = setup()
    user, item = torch.randn(60, 8), torch.randn(40, 8)
    values = literal.evaluate(
        user, item, edges.test_edge_index, edges.edge_index, k=(5, 10)
    )
    expected = evaluate(
        EmbeddingScorer(user, item),
        edges.test_edge_index,
        edges.edge_index,
        k=(5, 10),
    )
    assert values == pytest.approx(expected, abs=1e-6)
