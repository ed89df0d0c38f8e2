import copy
import math

import pytest
import torch
from torch import Tensor

from pyg_sea.nn import CLUBLoss
from pyg_sea.nn.loss import estimator as estimators
from pyg_sea.nn.loss.estimator import (
    LinearGaussian,
    MLPGaussian,
    negative_log_likelihood,
)

# Jointly Gaussian pairs, d = 20: mutual information, correlation per
# dimension, and the bound under the exact conditional d rho^2 / (1 - rho^2).
REFERENCE = [
    (2, 0.425757, 4.428),
    (4, 0.574178, 9.836),
    (6, 0.671706, 16.442),
    (8, 0.742072, 24.511),
    (10, 0.795060, 34.366),
]


def gaussian_pairs(num_rows: int, dim: int, rho: float):
    x, noise = torch.randn(2, num_rows, dim, dtype=torch.double)
    return x, rho * x + math.sqrt(1 - rho**2) * noise


def set_exact_conditional(club: CLUBLoss, rho: float) -> None:
    q = club.estimator
    q.weight.copy_(rho * torch.eye(club.in_channels))
    q.bias.zero_()
    q.log_var.fill_(math.log(1 - rho**2))
    club._mark_fitted()


def r_squared(x: Tensor, y: Tensor) -> Tensor:
    """Per dimension of y, by an independent least-squares solver."""
    design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    fit = design @ torch.linalg.lstsq(design, y).solution
    return 1 - (y - fit).var(dim=0) / y.var(dim=0)


def naive_bound(club: CLUBLoss, x: Tensor, y: Tensor) -> Tensor:
    """The definition, over a Python loop of all pairs."""
    mean, log_var = club.estimator(x, club.estimator.tensors())
    q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    log_q = torch.stack(
        [q.log_prob(y[j].expand_as(y)).sum(-1) for j in range(len(y))], dim=1
    )
    return log_q.diagonal().mean() - log_q.mean()


@pytest.mark.parametrize('estimator', ['linear', 'mlp'])
def test_all_negatives_equal_the_naive_table(estimator):
    x, y = gaussian_pairs(50, 3, 0.7)
    club = CLUBLoss(3, 3, estimator, num_steps=30).double()
    out = club(x, y)
    torch.testing.assert_close(out, naive_bound(club, x, y))


@pytest.mark.parametrize(('mi', 'rho', 'bound'), REFERENCE)
def test_reference_values(mi, rho, bound):
    assert -10 * math.log(1 - rho**2) == pytest.approx(mi, rel=1e-4)
    assert 20 * rho**2 / (1 - rho**2) == pytest.approx(bound, rel=1e-3)

    x, y = gaussian_pairs(100_000, 20, rho)
    club = CLUBLoss(20, 20).double()
    set_exact_conditional(club, rho)
    assert float(club.bound(x, y)) == pytest.approx(bound, rel=0.01)
    # In sample the fitted bound is a little higher, and above the MI.
    assert float(club(x, y)) == pytest.approx(bound, rel=0.02)
    assert float(club(x, y)) > mi


def test_reference_value_of_a_batch():
    """Negatives that include the pair itself cost a factor of 1 - 1 / N."""
    rho, bound, num_rows = 0.671706, 16.442, 8
    club = CLUBLoss(20, 20).double()
    set_exact_conditional(club, rho)
    draws = torch.stack(
        [club.bound(*gaussian_pairs(num_rows, 20, rho)) for _ in range(1500)]
    )
    error = float(draws.std()) / len(draws) ** 0.5
    expected = bound * (1 - 1 / num_rows)
    assert float(draws.mean()) == pytest.approx(expected, abs=4 * error)
    assert abs(float(draws.mean()) - bound) > 10 * error


@pytest.mark.parametrize('num_rows', [300, 5000])
def test_linear_equals_r_squared(num_rows):
    x = torch.randn(num_rows, 6, dtype=torch.double) * 3 + 5
    y = torch.tanh(x @ torch.randn(6, 4, dtype=torch.double))
    y = y + torch.randn_like(y)
    r2 = r_squared(x, y)
    out = CLUBLoss(6, 4, ridge=0.0).double()(x, y)
    torch.testing.assert_close(out, (r2 / (1 - r2)).sum())


@pytest.mark.filterwarnings('ignore:.*was fitted on')
@pytest.mark.parametrize(
    ('num_rows', 'expected'), [(64, 35.5), (2048, 0.51), (7050, 0.15)]
)
def test_in_sample_bias_and_its_correction(num_rows, expected):
    biased = CLUBLoss(32, 32)
    unbiased = CLUBLoss(32, 32, unbiased=True)
    repeats = 200 if num_rows == 64 else 4
    out = torch.tensor(
        [
            [float(club(x, y)) for club in (biased, unbiased)]
            for x, y in torch.randn(repeats, 2, num_rows, 32)
        ]
    )
    mean = out.mean(dim=0)
    error = out.std(dim=0) / repeats**0.5
    assert float(mean[0]) == pytest.approx(expected, rel=0.05)
    assert abs(float(mean[1])) < 4 * float(error[1]) + 0.01


def test_correction_recovers_the_population_bound():
    rho, bound = 0.671706, 16.442
    club = CLUBLoss(20, 20, unbiased=True).double()
    out = torch.stack(
        [club(*gaussian_pairs(120, 20, rho)) for _ in range(300)]
    )
    error = float(out.std()) / len(out) ** 0.5
    assert float(out.mean()) == pytest.approx(bound, abs=4 * error)


def test_permuted_negatives_agree_in_expectation():
    x, y = gaussian_pairs(400, 5, 0.6)
    exact = CLUBLoss(5, 5).double()
    sampled = CLUBLoss(5, 5, negatives='permute').double()
    expected = exact(x, y)
    sampled.fit(x, y)
    out = torch.stack([sampled.bound(x, y) for _ in range(500)])
    error = float(out.std()) / len(out) ** 0.5
    assert out.std() > 0
    assert float(out.mean()) == pytest.approx(float(expected), abs=4 * error)


def test_mlp_is_a_bound_and_improves_with_steps():
    x, y = gaussian_pairs(4000, 5, 0.8)
    club = CLUBLoss(5, 5, 'mlp', hidden_channels=32, num_steps=20).double()
    before = club.learning_loss(x, y)
    club(x, y)
    after_one = club.learning_loss(x, y)
    for _ in range(30):
        out = club(x, y)
    assert after_one < before
    assert club.learning_loss(x, y) < after_one
    assert club.estimator.step == 31 * 20
    mi = -2.5 * math.log(1 - 0.8**2)
    assert out > mi


def test_learning_loss_is_the_likelihood():
    x, y = gaussian_pairs(100, 3, 0.5)
    club = CLUBLoss(3, 3).double()
    club.fit(x, y)
    mean, log_var = club.estimator(x, club.estimator.tensors())
    q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    expected = -q.log_prob(y).sum(-1).mean() - 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(club.learning_loss(x, y), expected)


def test_linear_fit_is_the_maximum_of_the_likelihood():
    x, y = gaussian_pairs(200, 3, 0.5)
    club = CLUBLoss(3, 3, ridge=0.0).double()
    club.fit(x, y)
    tensors = club.estimator_parameters()
    club.learning_loss(x, y).backward()
    for tensor in tensors:
        assert tensor.grad.abs().max() < 1e-10


def test_own_optimizer():
    x, y = gaussian_pairs(2000, 3, 0.5)
    club = CLUBLoss(3, 3).double()
    optimizer = torch.optim.Adam(club.estimator_parameters(), lr=0.02)
    for _ in range(800):
        optimizer.zero_grad()
        club.learning_loss(x, y).backward()
        optimizer.step()
    out = club.bound(x, y)
    assert not out.requires_grad
    torch.testing.assert_close(
        out, CLUBLoss(3, 3).double()(x, y), rtol=1e-3, atol=1e-3
    )


@pytest.mark.parametrize('estimator', ['linear', 'mlp'])
def test_gradients_reach_the_rows_only(estimator):
    club = CLUBLoss(4, 3, estimator)
    x = torch.randn(100, 4, requires_grad=True)
    y = (x.detach()[:, :3] + torch.randn(100, 3)).requires_grad_()
    club(x, y).backward()
    assert x.grad.abs().sum() > 0
    assert y.grad.abs().sum() > 0
    assert not list(club.parameters())
    assert all(not b.requires_grad and b.grad is None for b in club.buffers())
    # The estimator was fitted, yet nothing of its fit is in the graph.
    frozen = copy.deepcopy(club).eval()
    grads = torch.autograd.grad(frozen.bound(x, y), (x, y))
    torch.testing.assert_close(grads, (x.grad, y.grad))


def test_gradients_through_the_fit():
    """Blind to any invertible map of x, unlike those of a frozen q."""
    x = torch.randn(16, 3, dtype=torch.double, requires_grad=True)
    y = torch.randn(16, 2, dtype=torch.double, requires_grad=True)
    club = CLUBLoss(3, 2, frozen=False, ridge=0.0).double()
    assert torch.autograd.gradcheck(club, (x, y))

    scale = torch.ones((), dtype=torch.double, requires_grad=True)
    for frozen in (True, False):
        club = CLUBLoss(3, 2, frozen=frozen, ridge=0.0).double()
        loss = club(scale * x, y.detach() + x[:, :2])
        (grad,) = torch.autograd.grad(loss, scale)
        assert grad.abs() > 0.1 if frozen else grad.abs() < 1e-10


def test_planted_wrong_pairs_are_told_apart():
    """A fit on mispaired rows knows nothing: it bounds nothing."""
    x, y = gaussian_pairs(5000, 5, 0.8)
    mi = -2.5 * math.log(1 - 0.8**2)
    club = CLUBLoss(5, 5).double()
    assert club(x, y) > mi
    club.fit(x, y.roll(1, dims=0))
    assert club.bound(x, y) < 0.1 * mi


def test_minimization_removes_the_dependence():
    """x, y mix two sources by an angle per dimension; fresh batches."""
    torch.manual_seed(0)
    theta = torch.full((2,), 0.55, requires_grad=True)
    club = CLUBLoss(2, 2)
    optimizer = torch.optim.Adam([theta], lr=1e-3)

    def true_mi() -> float:
        rho = torch.sin(2 * theta.detach())
        return float(-0.5 * torch.log1p(-(rho**2)).sum())

    assert true_mi() == pytest.approx(1.58, abs=0.01)
    for _ in range(2000):
        a, b = torch.randn(2, 256, 2)
        x = theta.sin() * a + theta.cos() * b
        y = theta.cos() * a + theta.sin() * b
        optimizer.zero_grad()
        club(x, y).backward()
        optimizer.step()
    assert true_mi() < 0.02


@pytest.mark.parametrize('estimator', ['linear', 'mlp'])
def test_state_dict_holds_fit_and_optimizer(estimator):
    x, y = gaussian_pairs(200, 3, 0.5)
    club = CLUBLoss(3, 3, estimator).double()
    for call in (club.eval(), club.bound):
        with pytest.raises(RuntimeError, match='before its first fit'):
            call(x, y)
    club.train()(x, y)

    other = CLUBLoss(3, 3, estimator).double()
    other.load_state_dict(club.state_dict())
    torch.testing.assert_close(other.eval()(x, y), club.eval()(x, y))
    # The next fit goes on from the same optimizer state.
    torch.testing.assert_close(other.train()(x, y), club.train()(x, y))

    club.reset_parameters()
    with pytest.raises(RuntimeError, match='before its first fit'):
        club.eval()(x, y)
    assert str(club).startswith('CLUBLoss(3, 3')


def test_eval_keeps_the_fit():
    x, y = gaussian_pairs(200, 3, 0.5)
    club = CLUBLoss(3, 3).double()
    club(x, y)
    state = copy.deepcopy(club.state_dict())
    club.eval()(*gaussian_pairs(50, 3, 0.9))
    for name, value in club.state_dict().items():
        assert torch.equal(value, state[name])


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_half_precision(dtype):
    x, y = gaussian_pairs(2000, 4, 0.6)
    expected = CLUBLoss(4, 4)(x.float(), y.float())
    out = CLUBLoss(4, 4)(x.to(dtype), y.to(dtype))
    torch.testing.assert_close(out, expected, rtol=0.02, atol=0.0)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        out = CLUBLoss(4, 4)(x.float(), y.float())
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize('offset', [0.0, 1e3])
def test_degenerate_columns_stay_finite(offset):
    x = torch.randn(200, 3)
    x[:, 0] = 0
    x = (x + offset).requires_grad_()
    y = torch.randn(200, 3)
    y[:, 1] = 5.0
    loss = CLUBLoss(3, 3)(x, y)
    loss.backward()
    assert loss.isfinite()
    assert x.grad.isfinite().all()
    constant = torch.ones(200, 3)
    assert CLUBLoss(3, 3)(constant, torch.randn(200, 3)).abs() < 1.0


def test_warns_when_rows_are_few():
    with pytest.warns(UserWarning, match='at least 32 rows'):
        CLUBLoss(8, 8)(torch.randn(31, 8), torch.randn(31, 8))


def test_compile():
    x, y = torch.randn(2, 100, 4)
    club = CLUBLoss(4, 4)
    expected = club(x, y)
    bound = torch.compile(club.bound, fullgraph=True, backend='aot_eager')
    torch.testing.assert_close(bound(x, y), expected)
    whole = torch.compile(CLUBLoss(4, 4), backend='aot_eager')
    torch.testing.assert_close(whole(x, y), expected)


@pytest.mark.parametrize(
    ('kwargs', 'match'),
    [
        ({'estimator': 'forest'}, 'estimator'),
        ({'negatives': 'some'}, 'negatives'),
        ({'ridge': -1.0}, 'ridge'),
        ({'estimator': 'mlp', 'frozen': False}, 'frozen'),
        ({'estimator': 'mlp', 'unbiased': True}, 'unbiased'),
        ({'negatives': 'permute', 'unbiased': True}, 'unbiased'),
    ],
)
def test_rejects_arguments(kwargs, match):
    with pytest.raises(ValueError, match=match):
        CLUBLoss(4, 4, **kwargs)


def test_rejects_input():
    club = CLUBLoss(4, 3)
    for x, y in [
        (torch.randn(5, 4), torch.randn(6, 3)),
        (torch.randn(5, 4), torch.randn(5, 4)),
        (torch.randn(1, 4), torch.randn(1, 3)),
        (torch.randn(4), torch.randn(3)),
    ]:
        with pytest.raises(ValueError, match='matched rows'):
            club(x, y)
    unbiased = CLUBLoss(4, 3, unbiased=True)
    with (
        pytest.warns(UserWarning, match='was fitted on'),
        pytest.raises(ValueError, match='more than 7 rows'),
    ):
        unbiased(torch.randn(7, 4), torch.randn(7, 3))


def test_estimator_classes():
    assert isinstance(CLUBLoss(4, 3).estimator, LinearGaussian)
    assert 'MLPGaussian' in str(CLUBLoss(4, 3, 'mlp'))


def low_rank(num_rows: int, channels: int, rank: int, offset: float):
    x = torch.randn(num_rows, rank) @ torch.randn(rank, channels)
    return x + offset, torch.randn(num_rows, channels)


@pytest.mark.filterwarnings('ignore:.*was fitted on')
@pytest.mark.parametrize('frozen', [True, False])
@pytest.mark.parametrize('offset', [0.0, 10.0])
@pytest.mark.parametrize(
    ('num_rows', 'channels', 'rank'),
    [(7050, 32, 1), (2000, 128, 2), (500, 256, 2), (20, 32, 20)],
)
def test_redundant_columns(num_rows, channels, rank, offset, frozen):
    """As in the columns they depend on: the bound sees the space, only."""
    x, y = low_rank(num_rows, channels, rank, offset)
    x.requires_grad_()
    loss = CLUBLoss(channels, channels, frozen=frozen)(x, y)
    loss.backward()
    assert x.grad.isfinite().all()
    assert loss.isfinite()
    if rank < num_rows / 4:
        bias = channels * rank / num_rows
        assert float(loss) == pytest.approx(bias, rel=0.8)
        assert x.grad.norm() < 10


def test_correction_is_for_the_rows_of_the_fit():
    rho, bound = 0.671706, 16.442
    club = CLUBLoss(20, 20, unbiased=True).double()
    club(*gaussian_pairs(5000, 20, rho))
    fresh = [
        float(club.eval()(*gaussian_pairs(5000, 20, rho))) for _ in range(20)
    ]
    assert sum(fresh) / 20 == pytest.approx(bound, rel=0.03)


def test_own_optimizer_may_evaluate_and_reset():
    x, y = gaussian_pairs(100, 3, 0.5)
    club = CLUBLoss(3, 3).double()
    club.estimator_parameters()
    assert club.eval()(x, y).isfinite()
    club.reset_parameters()
    assert (club.estimator.weight == 0).all()


@pytest.mark.parametrize('estimator', ['linear', 'mlp'])
@pytest.mark.parametrize(
    'dtypes',
    [
        (torch.float32, torch.float64, torch.float64),
        (torch.float64, torch.float32, torch.float32),
        (torch.float32, torch.float32, torch.bfloat16),
    ],
)
def test_mixed_types(estimator, dtypes):
    module, x_type, y_type = dtypes
    x, y = gaussian_pairs(2000, 3, 0.6)
    club = CLUBLoss(3, 3, estimator).to(module)
    out = club(x.to(x_type), y.to(y_type))
    assert out.isfinite()
    assert club.learning_loss(x.to(x_type), y.to(y_type)).isfinite()
    if estimator == 'linear':
        expected = CLUBLoss(3, 3).double()(x, y)
        assert float(out) == pytest.approx(float(expected), rel=0.03)


def test_inductor():
    x, y = torch.randn(2, 100, 4)
    club = CLUBLoss(4, 4)
    expected = club(x, y)
    compiled = torch.compile(club.bound, fullgraph=True)
    torch.testing.assert_close(compiled(x, y), expected)


@pytest.mark.parametrize('one_variance', [False, True])
def test_likelihood(one_variance):
    y, mean, log_var = torch.randn(3, 5, 3, dtype=torch.double)
    if one_variance:
        log_var = log_var[0]
    q = torch.distributions.Normal(mean, (0.5 * log_var).exp())
    expected = -q.log_prob(y).sum(dim=1).mean()
    out = negative_log_likelihood(y, mean, log_var)
    constant = 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(out + constant, expected)


@pytest.mark.parametrize(
    ('max_columns', 'hidden'), [(7, 8), (10, 1), (100, 5)]
)
def test_fit_takes_the_steps_of_adam(monkeypatch, max_columns, hidden):
    monkeypatch.setattr(estimators, '_MAX_COLUMNS', max_columns)
    estimator = MLPGaussian(3, 2, hidden, num_steps=4, lr=0.1).double()
    x, y = (torch.randn(20, size, dtype=torch.double) for size in (3, 2))
    leaves = [t.clone().requires_grad_() for t in estimator.tensors()]
    optimizer = torch.optim.Adam(leaves, lr=0.1)
    for _ in range(2 * 4):
        optimizer.zero_grad()
        loss = 3.0 * negative_log_likelihood(y, *estimator(x, leaves))
        loss.backward()
        optimizer.step()
    for _ in range(2):
        estimator.fit(x, y, weight=3.0)
    torch.testing.assert_close(estimator.tensors(), leaves)
    # Steps of Adam hardly depend on how large gradients are.
    means = [optimizer.state[leaf]['exp_avg'] for leaf in leaves]
    torch.testing.assert_close(estimator._stack('exp_avg_'), means)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_fit_in_half_precision(dtype):
    estimator = MLPGaussian(4, 3, 8, num_steps=20, lr=5e-3).to(dtype)
    other = copy.deepcopy(estimator).float()
    x, y = (10 * torch.randn(7050, size).to(dtype) for size in (4, 3))
    estimator.fit(x, y)
    other.fit(x, y)
    tensors = [t.float() for t in estimator.tensors()]
    torch.testing.assert_close(tensors, other.tensors(), rtol=0.01, atol=0.01)


@pytest.mark.parametrize('estimator', ['linear', 'mlp'])
def test_later_fits_leave_earlier_losses_alone(estimator):
    club = CLUBLoss(3, 2, estimator=estimator)
    x = torch.randn(64, 3, requires_grad=True)
    y, other = torch.randn(64, 2), torch.randn(64, 2)
    torch.manual_seed(0)
    loss = club(x, y)
    [expected] = torch.autograd.grad(loss, x, retain_graph=True)
    club(x, other)
    [grad] = torch.autograd.grad(loss, x)
    assert torch.equal(grad, expected)


def test_fits_are_seen_by_autograd():
    club = CLUBLoss(3, 2, estimator='mlp', num_steps=1)
    tensor = club.estimator.tensors()[0]
    before = tensor._version
    club.fit(torch.randn(64, 3), torch.randn(64, 2))
    assert tensor._version > before


def test_half_precision_goes_on_counting():
    club = CLUBLoss(3, 2, estimator='mlp', num_steps=300).bfloat16()
    for _ in range(2):
        club.fit(torch.randn(64, 3), torch.randn(64, 2))
    assert club.estimator.step == 600


def test_state_dicts_that_count_in_floats():
    x, y = torch.randn(64, 3), torch.randn(64, 2)
    club = CLUBLoss(3, 2, estimator='mlp')
    club.fit(x, y)
    state = club.state_dict()
    state['estimator.step'] = state['estimator.step'].float()
    other = CLUBLoss(3, 2, estimator='mlp')
    other.load_state_dict(state)
    for each in (club, other):
        each.fit(x, y)
    assert other.estimator.step == 40
    for out, expected in zip(other.buffers(), club.buffers()):
        assert torch.equal(out, expected)
