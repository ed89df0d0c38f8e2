import pytest
import torch

from pyg_sea.nn import BPRLoss, Recommender

U, I = 4, 9  # noqa: E741


class Factors(Recommender):
    """Free embeddings: the base class and nothing else."""

    def __init__(self):
        super().__init__(U, I)
        self.x = torch.nn.Parameter(torch.randn(U + I, 5))

    def get_embedding(self, modal_x, edge_index, *args, **kwargs):
        return self.x

    def loss(self, modal_x, edge_index, triplets, **kwargs):
        x = self.x.split([U, I])
        loss = BPRLoss()(*self.triplet_scores(*x, triplets))
        return loss, {'bpr': loss}


def test_forward_scores_pairs_of_nodes():
    model = Factors()
    pairs = torch.tensor([[0, 3, 3], [U, U + 8, U]])
    out = model({}, pairs, pairs)
    expected = [model.x[i] @ model.x[j] for i, j in pairs.t()]
    torch.testing.assert_close(out, torch.stack(expected))


def test_triplet_scores_take_local_ids():
    model = Factors()
    user, item = model.x.split([U, I])
    triplets = torch.tensor([[0, 3], [8, 1], [2, 2]])
    pos, neg = model.triplet_scores(user, item, triplets)
    torch.testing.assert_close(
        pos, torch.stack([user[0] @ item[8], user[3] @ item[1]])
    )
    torch.testing.assert_close(
        neg, torch.stack([user[0] @ item[2], user[3] @ item[2]])
    )


def test_recommend_masks_and_pads():
    model = Factors()
    edges = torch.empty(2, 0, dtype=torch.long)
    scores = model.x[:U] @ model.x[U:].t()
    top = model.recommend({}, edges, k=3)
    assert torch.equal(top, scores.topk(3).indices)

    everything = torch.stack([torch.full((I,), 1), torch.arange(I)])
    top = model.recommend({}, edges, users=[1, 0], k=2, exclude=everything)
    assert top[0].tolist() == [-1, -1]
    assert torch.equal(top[1], scores[0].topk(2).indices)


def test_embedding_is_reused():
    model = Factors()
    embedding = torch.eye(U + I)[:, :5]
    embedding[U + 3, 0] = 9.0
    top = model.recommend(None, None, users=[0], k=1, embedding=embedding)
    assert top.tolist() == [[3]]
    assert str(model) == f'Factors({U}, {I})'


def test_is_abstract():
    with pytest.raises(TypeError, match='abstract'):
        Recommender(U, I)
