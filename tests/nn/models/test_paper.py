import pytest

from pyg_sea.nn import SEA, BPRLoss, NegativeL2Loss
from pyg_sea.nn.models.paper import paper_settings

SIZES = (3, 200, {'image': 6, 'text': 4})


def test_the_model_of_the_paper():
    model = SEA.paper(*SIZES)

    assert isinstance(model.ranking.loss, BPRLoss)
    assert model.encoder.item_embedding is None
    assert model.separate.align.num_anchors is None
    assert model.separate.align.temperature == 0.2
    assert {s.mode for s in model.separate.splits.values()} == {'linear'}
    for club in model.separate.distances.values():
        hidden = {size for size, _ in club.estimator.sizes[1::2]}
        assert hidden == {8}
        assert (club.estimator.num_steps, club.estimator.lr) == (50, 1e-4)
        assert club.negatives == 'permute'


def test_settings_may_differ():
    settings = paper_settings(
        alpha=0.1,
        club_kwargs={'num_steps': 5},
        ranking='softmax',
        id_channels=16,
    )

    assert settings['alpha'] == 0.1
    assert settings['ranking'] == 'softmax'
    assert settings['id_channels'] == 16
    assert settings['club_kwargs']['num_steps'] == 5
    assert settings['club_kwargs']['hidden_channels'] == 8


def test_cheap_distancing_has_no_estimator():
    model = SEA.paper(*SIZES, distance='negative_l2')

    for distance in model.separate.distances.values():
        assert isinstance(distance, NegativeL2Loss)
    with pytest.raises(ValueError, match='club_kwargs'):
        SEA.paper(*SIZES, distance='negative_l2', club_kwargs={'lr': 1e-3})
