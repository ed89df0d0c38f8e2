import pytest
import torch

from pyg_sea.evaluate import evaluate
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.transforms import model_inputs


def test_evaluate(run, process):
    args = ['--k', '3', '--metric', 'mrr', '--metric', 'recall']
    out, _ = process('evaluate', 'runs/shop', *args, '--split', 'val')
    data, model = run.data(), run.model()
    store = data['user', 'buys', 'item']
    with torch.no_grad():
        rows = model.get_embedding(**model_inputs(data)).split([60, 32])
    expected = evaluate(
        EmbeddingScorer(*rows),
        store.val_edge_index,
        store.edge_index,
        3,
        ['mrr', 'recall'],
    )
    lines = [line.split() for line in out.splitlines()]
    assert lines[0] == ['val', 'mrr@3', 'recall@3']
    assert [line[0] for line in lines[1:]] == ['popularity', 'content', 'SEA']
    shown = dict(zip(lines[0][1:], map(float, lines[3][1:])))
    assert shown == pytest.approx(expected, abs=5e-5)


def test_evaluate_gives_the_metrics_of_training(run, call):
    lines = call('evaluate', 'runs/shop')[0].splitlines()
    rows = {**run.metrics['baselines'], 'SEA': run.metrics['test']}
    for line, metrics in zip(lines[1:], rows.values(), strict=True):
        shown = [float(x) for x in line.split()[-4:]]
        assert shown == pytest.approx(list(metrics.values()), abs=5e-5)


@pytest.mark.parametrize(
    ('args', 'code', 'message'),
    [
        ('nowhere', 1, "'pyg-sea train' makes one"),
        ('photos', 1, "has no 'run.json'"),
        ('runs/shop --metric x', 2, "'x' is not one of"),
        ('runs/shop --k 0', 2, '0 is not in the range'),
    ],
)
def test_bad_input(trained, refuses, args, code, message):
    refuses('evaluate', args, code, message)
