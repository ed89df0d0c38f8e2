import copy

import pytest
import torch
import torch.nn.functional as F

from pyg_sea.nn import VBPR

U, I = 7, 40  # noqa: E741
SIZES = {'image': 12, 'v1.5': 9}
EDGES = torch.empty(2, 0, dtype=torch.long)
TRIPLETS = torch.tensor([[0, 3, 3, 6], [1, 9, 1, 30], [2, 8, 39, 1]])


def features():
    return {name: torch.randn(I, size) for name, size in SIZES.items()}


def score(model, modal_x, u, i):
    """The formula of the paper for one pair."""
    D = model.hidden_channels
    f = torch.cat([modal_x[name] for name in SIZES], dim=1)[i]
    joined = torch.cat(
        [model.linears[key].weight for key in ('x_image', 'x_v1%2E5')], dim=1
    )
    E, visual_bias = joined[:D], joined[D]
    gamma_u, theta_u = model.user_embedding[u].split(D)
    return (
        gamma_u @ model.item_embedding[i]
        + theta_u @ (E @ f)
        + model.item_bias[i, 0]
        + visual_bias @ f
    )


def test_scores_are_those_of_the_paper():
    model, modal_x = VBPR(U, I, SIZES, hidden_channels=5), features()
    torch.nn.init.normal_(model.item_bias)
    pairs = torch.tensor([[0, 4, 4], [U + 3, U, U + 39]])
    out = model(modal_x, EDGES, pairs)
    expected = [score(model, modal_x, u, i - U) for u, i in pairs.t().tolist()]
    torch.testing.assert_close(out, torch.stack(expected))
    assert model.get_embedding(modal_x, EDGES).shape == (U + I, 11)


def test_loss_is_the_sum_of_its_terms():
    model, modal_x = VBPR(U, I, SIZES, 5, lambda_reg=0.3), features()
    torch.nn.init.normal_(model.item_bias)
    loss, terms = model.loss(modal_x, EDGES, TRIPLETS)
    bpr = reg = 0
    for u, i, j in TRIPLETS.t().tolist():
        margin = score(model, modal_x, u, i) - score(model, modal_x, u, j)
        bpr = bpr - F.logsigmoid(margin) / 4
        rows = [model.user_embedding[u]]
        for item in (i, j):
            rows += [model.item_embedding[item], model.item_bias[item]]
        reg = reg + torch.cat(rows).square().sum() / 8
    torch.testing.assert_close(terms, {'bpr': bpr, 'reg': reg})
    torch.testing.assert_close(loss, bpr + 0.3 * reg)

    model.lambda_map = 0.7
    more, terms = model.loss(modal_x, EDGES, TRIPLETS)
    maps = sum(m.weight.square().sum() for m in model.linears.values()) / 2
    torch.testing.assert_close(terms['map'], maps)
    torch.testing.assert_close(more, loss + 0.7 * maps)


def test_every_parameter_is_alive():
    model = VBPR(U, I, SIZES)
    model.loss(features(), EDGES, TRIPLETS)[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.abs().sum() > 0, name
    # The regularizer and the ranking reach rows of the batch only.
    seen = model.item_embedding.grad.abs().sum(1) > 0
    assert set(seen.nonzero().view(-1).tolist()) == {1, 2, 8, 9, 30, 39}


def test_training_lowers_the_loss():
    model, modal_x = VBPR(U, I, SIZES), features()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(30):
        optimizer.zero_grad()
        loss, _ = model.loss(modal_x, EDGES, TRIPLETS)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_state_dict_copy_and_reset():
    model, modal_x = VBPR(U, I, SIZES), features()
    expected = model.get_embedding(modal_x, EDGES)
    for other in (copy.deepcopy(model), VBPR(U, I, SIZES)):
        other.load_state_dict(model.state_dict())
        assert torch.equal(other.get_embedding(modal_x, EDGES), expected)
    torch.nn.init.ones_(model.item_bias)
    model.reset_parameters()
    assert not model.item_bias.any()
    assert not torch.equal(model.get_embedding(modal_x, EDGES), expected)


@pytest.mark.parametrize('dtype', [torch.double, torch.bfloat16])
def test_precision(dtype):
    model, modal_x = VBPR(U, I, SIZES), features()
    expected = model.get_embedding(modal_x, EDGES)
    modal_x = {name: x.to(dtype) for name, x in modal_x.items()}
    out = model.to(dtype).get_embedding(modal_x, EDGES)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, atol=0.02, rtol=0.02)


def test_compile():
    model, modal_x = VBPR(U, I, SIZES), features()
    loss = torch.compile(model.loss, backend='aot_eager', fullgraph=True)
    torch.testing.assert_close(
        loss(modal_x, EDGES, TRIPLETS), model.loss(modal_x, EDGES, TRIPLETS)
    )


def test_rejects_arguments_and_input():
    with pytest.raises(ValueError, match='hidden_channels'):
        VBPR(U, I, SIZES, hidden_channels=0)
    for name in ('lambda_reg', 'lambda_map'):
        with pytest.raises(ValueError, match=name):
            VBPR(U, I, SIZES, **{name: -1.0})
    with pytest.raises(ValueError, match='in_channels'):
        VBPR(U, I, {})
    model, modal_x = VBPR(U, I, SIZES), features()
    modal_x.pop('image')
    with pytest.raises(ValueError, match='exactly the modalities'):
        model.loss(modal_x, EDGES, TRIPLETS)
    assert 'VBPR(7, 40' in str(model)
