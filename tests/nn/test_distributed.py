"""Several processes against one: losses, gradients, triplets, metrics.

All processes of a world are started once, run every case below, and leave
what they got in a file.
"""

import math
import multiprocessing
import time
import warnings
from datetime import timedelta
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from pyg_sea.evaluate import METRICS, evaluate
from pyg_sea.loader import BPRLoader
from pyg_sea.nn import (
    FREEDOM,
    SEA,
    BPRLoss,
    CLUBLoss,
    NegativeL2Loss,
    SampledSoftmaxLoss,
    SeparateLearning,
    SoloSimLoss,
)
from pyg_sea.nn.distributed import (
    gather_rows,
    mean_rows,
    own_rows,
    rank,
    row_sizes,
    share,
    share_of_mean,
    share_sizes,
    sum_over_ranks,
    world_size,
)
from pyg_sea.nn.loss.solo_sim import MAX_SIMILARITIES
from pyg_sea.nn.triplet_counter import TripletCounter
from pyg_sea.recommend import EmbeddingScorer

TIMEOUT = 60
# The rows of every process; with three of them one has none.
ROWS = {1: [101], 2: [51, 50], 3: [70, 0, 31]}
TRIPLETS = {1: [23], 2: [11, 12], 3: [22, 0, 1]}

needs_gloo = pytest.mark.skipif(
    not (dist.is_available() and dist.is_gloo_available()),
    reason='needs torch.distributed with gloo',
)


# Losses, of rows that a model with parameters makes ------------------------

MAPS = {'text': 6, 'image': 9, 'v1.5': 7}

LOSSES = {
    'club': lambda sync: CLUBLoss(4, 5, sync=sync),
    'club, not frozen': lambda sync: CLUBLoss(4, 5, frozen=False, sync=sync),
    'club, unbiased': lambda sync: CLUBLoss(4, 5, unbiased=True, sync=sync),
    'club, permuted': lambda sync: CLUBLoss(
        4, 5, negatives='permute', sync=sync
    ),
    'club, mlp': lambda sync: CLUBLoss(4, 5, 'mlp', num_steps=9, sync=sync),
    'negative L2': lambda sync: NegativeL2Loss(sync),
    'solo': lambda sync: SoloSimLoss(sync=sync),
    'solo, symmetric': lambda sync: SoloSimLoss(symmetric=True, sync=sync),
    'solo, chunked': lambda sync: SoloSimLoss(
        symmetric=True, chunk_size=7, sync=sync
    ),
    'solo, no negatives': lambda sync: SoloSimLoss(
        negatives='none', sync=sync
    ),
    'solo, all anchors': lambda sync: SoloSimLoss(num_anchors=101, sync=sync),
    'BPR': lambda sync: BPRLoss(sync),
}


class Step(nn.Module):
    """A loss of two linear maps of given rows."""

    def __init__(self, name, sync=True):
        super().__init__()
        self.name = name
        self.loss = LOSSES[name](sync)
        self.x = nn.Linear(6, 4)
        self.y = nn.Linear(6, 5 if name.startswith('club') else 4)

    def forward(self, rows, sizes):
        x, y = self.x(rows), self.y(rows)
        if self.name == 'BPR':
            return self.loss(x.sum(dim=1), y.sum(dim=1)), {}
        return self.loss(x, y, sizes=sizes), {}


class SeparateStep(nn.Module):
    def __init__(self, missing=None, **kwargs):
        super().__init__()
        self.lin = nn.ModuleList([nn.Linear(6, w) for w in MAPS.values()])
        self.separate = SeparateLearning(MAPS, sync=True, **kwargs)
        self.missing = None
        if missing is not None:  # Of the rows of all processes.
            self.missing = {
                name: ~torch.isin(torch.arange(101), torch.tensor(there))
                for name, there in missing.items()
            }

    def forward(self, rows, sizes):
        x = {name: lin(rows) for name, lin in zip(MAPS, self.lin)}
        _, loss, terms = self.separate(x, sizes, self.missing)
        return loss, terms


# The rows that have a modality: in some processes, or in all, hardly any.
THERE = {'text': range(64), 'image': range(5, 90)}
FEW = {'text': [70], 'v1.5': range(50)}


class SoftmaxStep(nn.Module):
    """Users that choose among 30 items; every process draws by itself."""

    def __init__(self, num_negatives, reverse=0.5, named=True, limit=2**21):
        super().__init__()
        self.lin = nn.Linear(6, 4)
        self.items = nn.Parameter(torch.randn(30, 4))
        self.loss = SampledSoftmaxLoss(0.3, num_negatives, reverse, sync=True)
        self.named = named
        self.limit = limit

    def forward(self, rows, targets, users):
        torch.manual_seed(8 + rank())
        users = users if self.named else None
        with mock.patch.dict(MAX_SIMILARITIES, cpu=self.limit):
            return self.loss(self.lin(rows), self.items, targets, users), {}


SOFTMAX = {
    'softmax': {'num_negatives': 7},
    'softmax, all items': {'num_negatives': 50, 'reverse': 2.0},
    'softmax, all': {'num_negatives': None},
    'softmax, items alone': {'num_negatives': 7, 'reverse': 0.0},
    'softmax, all different': {'num_negatives': None, 'named': False},
    'softmax, drawn, all different': {'num_negatives': 7, 'named': False},
    'softmax, chunked': {'num_negatives': None, 'limit': 7 * 30},
}


class ModelStep(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, inputs, triplets):
        return self.model.loss(triplets=triplets, **inputs)


class DrawingStep(ModelStep):
    """Every process draws by itself."""

    def forward(self, inputs, triplets):
        torch.manual_seed(8 + rank())
        return super().forward(inputs, triplets)


def models():
    sizes = {'image': 12, 'text': 6}
    wide = {**sizes, 'v1.5': 9}
    club_kwargs = {'num_steps': 3}
    small = {'hidden_channels': 8, 'num_anchors': None, 'id_channels': 6}
    return {
        'SEA': SEA(7, 53, sizes, **small, alpha=0.3, beta=0.2),
        'SEA, 3 modalities': SEA(
            *(7, 53, wide), **small, mode='linear', symmetric=True
        ),
        'SEA, no dropout': SEA(7, 53, sizes, **small, id_dropout=0.0),
        'SEA, no ids': SEA(7, 53, sizes, **{**small, 'id_channels': 0}),
        'SEA, drawn': SEA(
            *(7, 53, sizes),
            **small,
            id_dropout=0.5,
            ranking_kwargs={'num_negatives': 5},
        ),
        'SEA.paper': SEA.paper(
            *(7, 53, sizes), hidden_channels=8, club_kwargs=club_kwargs
        ),
        'SEA, negative L2': SEA(7, 53, sizes, **small, distance='negative_l2'),
        'SEA, missing': SEA(7, 53, sizes, **small, alpha=0.3, beta=0.2),
        'SEA.paper, missing': SEA.paper(
            *(7, 53, sizes), hidden_channels=8, club_kwargs=club_kwargs
        ),
        'SEA, not synced': SEA(7, 53, sizes, **small, sync=False),
        # After the first of two steps, an epoch of 160 triplets is over.
        'FREEDOM': thinned(FREEDOM(7, 53, sizes, 8, dropout=0.5)),
    }


def thinned(model):
    """Every process has a seed and a count of its own."""
    model.set_extra_state(torch.tensor([rank(), 140 - rank()]))
    return model


def catalogue(names):
    generator = torch.Generator().manual_seed(3)
    pairs = torch.randperm(7 * 53, generator=generator)[:160]
    edges = torch.stack([pairs // 53, pairs % 53 + 7])
    widths = {'image': 12, 'text': 6, 'v1.5': 9}
    inputs = {
        'modal_x': {
            name: torch.randn(53, widths[name], generator=generator).double()
            for name in names
        },
        'edge_index': torch.cat([edges, edges.flip(0)], dim=1),
        'item_edge_index': torch.randint(53, (2, 200), generator=generator),
        'item_edge_weight': torch.rand(200, generator=generator).double(),
    }
    triplets = torch.stack(
        [
            torch.randint(size, (23,), generator=generator)
            for size in (7, 53, 53)
        ]
    )
    return inputs, triplets


def outcome(step, wrap, *args):
    """Of two steps, so that what a fit leaves behind matters."""
    module = wrap(step.double())
    torch.manual_seed(8)
    for _ in range(2):
        step.zero_grad()
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            loss, terms = module(*args)
            loss.backward()
    return {
        'loss': {'loss': loss.detach()},
        'terms': {name: term.detach() for name, term in terms.items()},
        'grad': {name: p.grad for name, p in step.named_parameters()},
        'buffer': dict(step.named_buffers()),
    }


def outcomes(wrap=lambda step: step):
    """Losses, gradients and estimators of every case, in this process."""
    sizes = ROWS[world_size()]
    rows = torch.randn(101, 6, generator=torch.Generator().manual_seed(1))
    rows = rows.double()[own_rows(sizes)]
    found = {}
    for name in LOSSES:
        for known in (None, sizes):
            torch.manual_seed(0)
            key = name if known is None else f'{name}, known sizes'
            found[key] = outcome(Step(name), wrap, rows, known)
    for key, kwargs in {
        'separate': {'symmetric': True},
        'separate, negative L2': {
            'generic_channels': 3,
            'unique_channels': 3,
            'distance': 'negative_l2',
        },
        'separate, missing': {'missing': THERE, 'symmetric': True},
        'separate, hardly there': {'missing': FEW},
        'separate, missing, negative L2': {
            'missing': THERE,
            'generic_channels': 3,
            'unique_channels': 3,
            'distance': 'negative_l2',
        },
    }.items():
        for known in (None, sizes) if 'missing' in kwargs else (None,):
            torch.manual_seed(0)
            name = key if known is None else f'{key}, known sizes'
            found[name] = outcome(SeparateStep(**kwargs), wrap, rows, known)
    torch.manual_seed(0)
    found['not synced'] = outcome(Step('solo', sync=False), wrap, rows, None)

    pairs = torch.arange(101)[own_rows(sizes)]
    for name, kwargs in SOFTMAX.items():
        torch.manual_seed(0)
        args = pairs % 30, pairs % 37
        found[name] = outcome(SoftmaxStep(**kwargs), wrap, rows, *args)

    torch.manual_seed(0)
    for name, model in models().items():
        inputs, triplets = catalogue(model.modalities)
        if name.endswith('missing'):
            inputs['modal_x']['image'][20:] = 0  # For whole processes.
            inputs['modal_x']['text'][::3] = 0
        own = own_rows(TRIPLETS[world_size()])
        step = DrawingStep if name == 'SEA, drawn' else ModelStep
        step = step(model)
        found[name] = outcome(step, wrap, inputs, triplets[:, own])
    return found


NAMES = [
    *LOSSES,
    *(f'{name}, known sizes' for name in LOSSES),
    *('separate', 'separate, negative L2'),
    *('separate, missing', 'separate, missing, known sizes'),
    *('separate, hardly there', 'separate, hardly there, known sizes'),
    'separate, missing, negative L2',
    *('SEA, missing', 'SEA.paper, missing'),
    *SOFTMAX,
    *('SEA', 'SEA, 3 modalities', 'SEA.paper', 'SEA, negative L2'),
    *('SEA, no dropout', 'SEA, no ids', 'SEA, drawn'),
    'FREEDOM',
]


# What else processes do ----------------------------------------------------


def collectives():
    """Functions and gradients on their own."""
    x = torch.full((2 * rank(), 3), 1.0 + rank(), requires_grad=True)
    sizes = [2 * r for r in range(world_size())]
    out = gather_rows(x)
    (out * (1 + rank())).sum().backward()
    y = torch.full((2,), 1.0 + rank(), requires_grad=True)
    first, second = sum_over_ranks(y, 3 * y[:1].view(1, 1))
    ((1 + rank()) * (first.sum() + second.sum())).backward()
    errors = []
    for wrong in ([1], [3] * world_size()):
        try:
            row_sizes(x, wrong)
        except ValueError as error:
            errors.append(str(error))
    return {
        'gathered': out.detach(),
        'ids': gather_rows(torch.arange(rank()), range(world_size())),
        'gather grad': x.grad,
        'sizes': row_sizes(x) == sizes,
        'sums': [first.detach(), second.detach()],
        'sum grad': y.grad,
        'mean': mean_rows(sizes, x.detach())[0],
        'part': share_of_mean(x.detach()),
        'bfloat16': share_of_mean(x.detach().bfloat16()),
        'errors': errors,
    }


def counts():
    """Of triplets, from a small batch before the end of an epoch of 95."""
    counter, looks, epochs, totals = TripletCounter(91), [], [], []
    read = counter._read
    counter._read = lambda num: (looks.append(0), read(num))
    for size in [4, *([9] * 10 + [5]) * 20]:
        part = torch.empty(3, share_sizes(size)[rank()])
        counter.add(part, 95)
        epochs.append(counter.known // 95)
        totals.append(counter.total())
    return {'epochs': epochs, 'totals': totals, 'looks': len(looks)}


def anchors():
    """Losses of many draws, with equal seeds in all processes."""
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 101, 4, generator=generator, dtype=torch.double)
    sizes = ROWS[world_size()]
    own = own_rows(sizes)
    found = {}
    torch.manual_seed(5)
    for number in (1, 9):
        loss = SoloSimLoss(num_anchors=number, sync=True)
        draws = [loss(x[own], y[own], sizes) for _ in range(300)]
        found[number] = torch.stack(draws)
    index = SoloSimLoss._draw(x[own], 30, sizes)
    found['index'] = index + own.start
    found['state'] = torch.get_rng_state()
    found['eval'] = loss.eval()(x[own], y[own])
    return found


def ranking_case():
    generator = torch.Generator().manual_seed(2)
    user, item = torch.randn(40, 6, generator=generator).split([17, 23])
    train = torch.randint(17, (2, 90), generator=generator)
    held_out = torch.randint(17, (2, 60), generator=generator)
    held_out[0] = train[0, :60]
    return user, item, train, held_out


def rankings():
    user, item, train, held_out = ranking_case()
    scorer = EmbeddingScorer(user, item)
    few = held_out[:, held_out[0] == held_out[0, 0]]

    def fails(user):
        try:
            evaluate(EmbeddingScorer(user, item), held_out, train, sync=True)
        except FloatingPointError as error:
            return str(error)

    poisoned = user.clone()
    poisoned[held_out[0].min()] = torch.nan  # A user of process 0.
    return {
        'all': evaluate(scorer, held_out, train, 5, [*METRICS], sync=True),
        'few users': evaluate(scorer, few, train, 5, [*METRICS], sync=True),
        'error': fails(poisoned),
    }


def alone():
    """What processes do without waiting for others."""
    if rank() > 0:
        return {}
    user, item, train, held_out = ranking_case()
    model = models()['SEA'].double()
    inputs, _ = catalogue(model.modalities)
    embedding = model.get_embedding(**inputs)
    model.eval()
    model.recommend(k=3, **inputs)
    loss = BPRLoss(sync=True).eval()(*torch.zeros(2, 5))
    scorer = EmbeddingScorer(user, item)
    return {
        'embedding': embedding.detach(),
        'loss': loss,
        'metrics': evaluate(scorer, held_out, train),
    }


def batches():
    train = ranking_case()[2]
    torch.manual_seed(rank())  # Not even the seeds need to be equal.
    loader = BPRLoader(train, 17, 17, batch_size=8)
    state = loader.state_dict()
    return {'batches': list(loader), 'state': state}


PARTS = (collectives, counts, anchors, rankings, alone, batches)


def work(index, num_processes, folder):
    """The main function of a process."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo',
        f'file://{folder}/store',
        rank=index,
        world_size=num_processes,
        timeout=timedelta(seconds=TIMEOUT),
    )
    found = {part.__name__: part() for part in PARTS}
    found['outcomes'] = outcomes(DistributedDataParallel)
    torch.save(found, f'{folder}/{index}.pt')
    # Not destroyed: if gloo's threads have yet to free what belongs to the
    # interpreter, both wait for each other.
    dist.barrier()


@pytest.fixture(scope='module', params=[2, 3])
def world(request, tmp_path_factory):
    """What every process of a world has found."""
    folder = tmp_path_factory.mktemp(f'world_of_{request.param}')
    # Forked from a process that has imported, but started nothing.
    server = multiprocessing.get_context('forkserver')
    server.set_forkserver_preload(['pyg_sea.evaluate', 'pyg_sea.nn'])
    context = torch.multiprocessing.start_processes(
        work,
        (request.param, str(folder)),
        request.param,
        join=False,
        start_method='forkserver',
    )
    end = time.monotonic() + TIMEOUT
    try:
        while not context.join(timeout=1):
            assert time.monotonic() < end, f'processes took {TIMEOUT} s'
    finally:
        for process in context.processes:
            process.kill()
    found = [
        torch.load(folder / f'{index}.pt') for index in range(request.param)
    ]
    return SimpleNamespace(size=request.param, found=found)


@pytest.fixture(scope='module')
def single():
    return outcomes()


def close(out, expected):
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)


@needs_gloo
@pytest.mark.parametrize('name', NAMES)
def test_equals_one_process(world, single, name):
    expected = single[name]
    found = [part['outcomes'][name] for part in world.found]
    for kind in ('loss', 'terms'):
        for term, value in expected[kind].items():
            mean = torch.stack([f[kind][term] for f in found]).mean()
            close(mean, value)
    for part in found:  # Averaged by DDP.
        close(part['grad'], expected['grad'])
        close(part['buffer'], expected['buffer'])
    assert any(grad.abs().max() > 1e-4 for grad in expected['grad'].values())


@needs_gloo
def test_without_sync_the_loss_is_another(world, single):
    """The comparison above can tell."""
    expected = single['not synced']['grad']
    found = world.found[0]['outcomes']['not synced']['grad']
    assert max((found[k] - expected[k]).abs().max() for k in found) > 1e-2


@needs_gloo
def test_a_model_that_does_not_sync_repeats_the_items(world, single):
    expected = single['SEA, not synced']['terms']
    for part in world.found:
        terms = part['outcomes']['SEA, not synced']['terms']
        items = {name for name in expected if '/' in name}
        assert len(items) == 3
        for name in items:
            close(terms[name], expected[name])


@needs_gloo
def test_collectives(world):
    size = world.size
    weights = sum(range(1, size + 1))
    rows = [
        torch.full((2 * r, 3), 1.0 + r, dtype=torch.float) for r in range(size)
    ]
    ids = torch.cat([torch.arange(r) for r in range(size)])
    for r, part in enumerate(world.found):
        out = part['collectives']
        assert torch.equal(out['gathered'], torch.cat(rows))
        assert torch.equal(out['ids'], ids)
        grad = torch.full((2 * r, 3), float(weights))
        assert torch.equal(out['gather grad'], grad)
        assert out['sizes']
        first, second = out['sums']
        assert torch.equal(first, torch.full((2,), float(weights)))
        assert torch.equal(second, torch.full((1, 1), 3.0 * weights))
        grad = weights * torch.tensor([4.0, 1.0])
        assert torch.equal(out['sum grad'], grad)
        torch.testing.assert_close(out['mean'], torch.cat(rows).mean(dim=0))
        assert len(out['errors']) == 2
        assert f'each of {size} processes' in out['errors'][0]
    for kind in ('part', 'bfloat16'):
        part = [part['collectives'][kind].float() for part in world.found]
        mean = torch.cat(rows).mean()
        torch.testing.assert_close(
            torch.stack(part).mean(), mean, rtol=1e-2, atol=0.0
        )


@needs_gloo
def test_triplets_of_all_processes_are_counted(world):
    totals = np.cumsum([95, *([9] * 10 + [5]) * 20]).tolist()
    for part in world.found:
        out = part['counts']
        assert out['totals'] == totals
        assert out['epochs'] == [total // 95 for total in totals]
        assert out['looks'] < 221 / 4  # A GPU would wait in each of them.


@needs_gloo
@pytest.mark.parametrize('number', [1, 9])
def test_anchors_are_an_unbiased_estimate(world, number):
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(2, 101, 4, generator=generator, dtype=torch.double)
    full = SoloSimLoss()(x, y)
    draws = torch.stack([p['anchors'][number] for p in world.found])
    draws = draws.mean(dim=0)
    assert draws.std() > 0.01
    error = draws.std() / len(draws) ** 0.5
    assert (draws.mean() - full).abs() < 4 * error


@needs_gloo
def test_anchors_count_once_and_keep_seeds_equal(world):
    found = [part['anchors'] for part in world.found]
    index = torch.cat([part['index'] for part in found])
    assert len(index.unique()) == 30
    for part, size in zip(found, ROWS[world.size]):
        # In proportion to the rows.
        assert abs(len(part['index']) - 30 * size / 101) < 1
        assert torch.equal(part['state'], found[0]['state'])
    # No shares in evaluation mode: candidates are those of the process.
    if world.size == 2:
        assert not torch.equal(found[0]['eval'], found[1]['eval'])


@needs_gloo
def test_users_are_shared(world):
    user, item, train, held_out = ranking_case()
    scorer = EmbeddingScorer(user, item)
    few = held_out[:, held_out[0] == held_out[0, 0]]
    for part in world.found:
        out = part['rankings']
        assert out['all'] == evaluate(scorer, held_out, train, 5, [*METRICS])
        assert out['few users'] == evaluate(scorer, few, train, 5, [*METRICS])
    errors = [part['rankings']['error'] for part in world.found]
    assert 'for 1 users' in errors[0]
    assert all('in another process' in error for error in errors[1:])


@needs_gloo
def test_one_process_alone_does_not_wait(world):
    out = world.found[0]['alone']
    user, item, train, held_out = ranking_case()
    assert out['metrics'] == evaluate(
        EmbeddingScorer(user, item), held_out, train
    )
    assert out['embedding'].shape == (60, 23)
    assert float(out['loss']) == pytest.approx(math.log(2))


@needs_gloo
def test_triplets_are_shared(world):
    found = [part['batches'] for part in world.found]
    seed = found[0]['state']['seed']
    train = ranking_case()[2]
    expected = list(BPRLoader(train, 17, 17, batch_size=8, seed=seed))
    for part in found:
        assert part['state'] == found[0]['state']
        assert len(part['batches']) == len(expected)
    for i, batch in enumerate(expected):
        parts = [part['batches'][i] for part in found]
        assert torch.equal(torch.cat(parts, dim=1), batch)


@pytest.mark.parametrize('name', LOSSES)
def test_sync_of_a_single_process_changes_nothing(single, name):
    rows = torch.randn(101, 6, generator=torch.Generator().manual_seed(1))
    torch.manual_seed(0)
    step = Step(name, sync=False)
    out = outcome(step, lambda step: step, rows.double(), None)
    for kind, values in out.items():
        for key, value in values.items():
            assert torch.equal(value, single[name][kind][key])


def test_shares_of_a_single_process():
    assert (world_size(), rank()) == (1, 0)
    assert share(5) == slice(0, 5)
    assert row_sizes(torch.ones(3, 2), [3]) is None
    x = torch.ones(3, 2)
    assert gather_rows(x) is x
    assert sum_over_ranks(x)[0] is x


@pytest.mark.parametrize('num_rows', [0, 1, 2, 7, 9])
@pytest.mark.parametrize('num_shares', [1, 2, 3, 4])
def test_shares_cover_all_rows(num_rows, num_shares):
    sizes = share_sizes(num_rows, num_shares)
    assert max(sizes) - min(sizes) <= 1
    rows = torch.arange(num_rows)
    parts = [rows[share(num_rows, num_shares, i)] for i in range(num_shares)]
    assert [len(part) for part in parts] == sizes
    assert torch.equal(torch.cat(parts), rows)
