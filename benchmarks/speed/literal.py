"""The released arithmetic, operation by operation, as a yardstick.

Reads and trains the parameters of a :class:`~pyg_sea.nn.ReleasedSEA`, whose
results it must equal; see `tests/benchmarks/test_literal.py`. What the
released code computes for nothing is computed for nothing here: full-width
maps of all items, degrees in every convolution, one scattered propagation per
modality, the whole table of similarities, fifty steps of the estimator, the
Python loops of sampler and metrics. Parameters that never see a gradient
(31.9 of 52.8 million at Baby's size) are left away: Adam skips them.
"""

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.nn import LGConv

from pyg_sea.nn import ReleasedSEA
from pyg_sea.nn.modality import modality_key


class LiteralStep:
    """One training step, in parts.

    Args:
        model: Holds the parameters of the model. Those of the estimator are
            copied, as the released code gives it an optimizer of its own.
        inputs: What the model is called with.
        lr: The learning rate of the model and of the estimator.
        num_steps: Steps of the estimator.
    """

    def __init__(
        self,
        model: ReleasedSEA,
        inputs: Mapping[str, Any],
        lr: float = 1e-4,
        num_steps: int = 50,
    ) -> None:
        self.model = model
        self.num_steps = num_steps
        self.earlier, self.later = model.modalities
        self.modal_x = inputs['modal_x']
        self.edge_index = inputs['edge_index']
        num_items = model.num_items
        self.item_graph = torch.sparse_coo_tensor(
            inputs['item_edge_index'].flip(0),
            inputs['item_edge_weight'],
            (num_items, num_items),
            check_invariants=True,
        ).coalesce()
        self.conv = LGConv()
        self.q = [
            t.clone().requires_grad_() for t in model.estimator.tensors()
        ]
        self.optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        self.q_optimizer = torch.optim.Adam(self.q, lr=lr)
        self.parts: dict[str, tuple[Tensor, Tensor]] = {}

    def forward(
        self,
        triplets: Tensor,
        permutations: Mapping[str, Tensor] | None = None,
    ) -> Tensor:
        """The loss of one batch."""
        model = self.model
        full = {
            name: model.item_linears[modality_key(name)](x)
            for name, x in self.modal_x.items()
        }
        half = {
            name: x.tensor_split([x.size(1) // 2], dim=1)
            for name, x in full.items()
        }

        blocks = [self.convolve(name, full[name]) for name in model.modalities]
        self.embedding = torch.cat(
            [
                torch.cat(
                    [
                        block[: model.num_users]
                        * model.encoder.user_weight[:, m : m + 1]
                        for m, block in enumerate(blocks)
                    ],
                    dim=1,
                ),
                self.smooth(
                    torch.cat([b[model.num_users :] for b in blocks], dim=1)
                ),
            ]
        )
        users, positive, negative = triplets
        x_user = self.embedding[users]
        x_positive = self.embedding[model.num_users + positive]
        x_negative = self.embedding[model.num_users + negative]
        gap = (x_user * x_positive).sum(1) - (x_user * x_negative).sum(1)
        bpr = -torch.log2(torch.sigmoid(gap)).mean()

        align = self.info_nce(
            *(
                model.heads[modality_key(name)](half[name][0])
                for name in (self.later, self.earlier)
            )
        )

        distance = 0.0
        for name, (generic, unique) in half.items():
            key = modality_key(name)
            parts = (
                model.generic_linears[key](generic),
                model.unique_linears[key](unique),
            )
            self.parts[name] = parts
            perm = None if permutations is None else permutations[name]
            distance = distance + self.club(*parts, perm)
        return bpr + model.beta * distance / 2 + model.alpha * align

    def convolve(self, name: str, x: Tensor) -> Tensor:
        """Two hops over the interactions, for one modality."""
        encoder = self.model.encoder
        m = encoder.modalities.index(name)
        first, second = encoder.convs[modality_key(name)].mlp.lins
        x = second(F.leaky_relu(first(x)))
        x = F.normalize(torch.cat([encoder.user_embedding[m], x]))
        once = self.conv(x, self.edge_index)
        twice = self.conv(once, self.edge_index)
        return x + once + twice

    def smooth(self, x: Tensor) -> Tensor:
        """Adds the rows of similar items."""
        return x + torch.sparse.mm(self.item_graph, x)

    def info_nce(self, x: Tensor, y: Tensor) -> Tensor:
        """Ranks the partner of every item among all items."""
        x, y = F.normalize(x), F.normalize(y)
        temperature = self.model.align.temperature
        positive = ((x * y).sum(1) / temperature).exp()
        every = (x @ y.t() / temperature).exp().sum(1)
        return -torch.log(positive / every).mean()

    def gaussian(self, x: Tensor, q: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Mean and log variance of every row."""
        w0, b0, w1, b1, v0, c0, v1, c1 = q
        mean = F.linear(F.relu(F.linear(x, w0, b0)), w1, b1)
        log_var = F.linear(F.relu(F.linear(x, v0, c0)), v1, c1)
        return mean, torch.tanh(log_var)

    def club(self, x: Tensor, y: Tensor, perm: Tensor | None) -> Tensor:
        """The sampled bound, halved once too often and clamped."""
        if perm is None:
            perm = torch.randperm(len(y))
        mean, log_var = self.gaussian(x, [t.detach() for t in self.q])
        positive = -((mean - y) ** 2) / log_var.exp()
        negative = -((mean - y[perm]) ** 2) / log_var.exp()
        bound = (positive.sum(1) - negative.sum(1)).mean() / 2
        return F.relu(bound / 2)

    def update(self) -> None:
        """One step of Adam, one parameter after the other."""
        self.optimizer.step()
        self.optimizer.zero_grad()

    def fit_estimator(self) -> None:
        """Steps of the estimator, on the pairs that the code takes."""
        pairs = [
            (x.detach(), y.detach())
            for x, y in zip(self.parts[self.later], self.parts[self.earlier])
        ]
        for _ in range(self.num_steps):
            loss: Any = 0.0
            for x, y in pairs:
                mean, log_var = self.gaussian(x, self.q)
                squares = (mean - y) ** 2 / log_var.exp()
                loss = loss + (squares + log_var).sum(1).mean() / 2
            self.q_optimizer.zero_grad()
            loss.backward()
            self.q_optimizer.step()


def sample(
    edge_index: Tensor, num_users: int, batch_size: int
) -> Iterator[Tensor]:
    """Batches of triplets; negatives are drawn one by one until one fits."""
    history: list[set[int]] = [set() for _ in range(num_users)]
    for user, item in edge_index.t().tolist():
        history[user].add(item)
    items = edge_index[1].unique().tolist()
    order = torch.randperm(edge_index.size(1))
    for index in order.split(batch_size):
        users, positive = edge_index[:, index]
        negative = []
        for user in users.tolist():
            item = random.choice(items)
            while item in history[user]:
                item = random.choice(items)
            negative.append(item)
        yield torch.stack([users, positive, torch.tensor(negative)])


def evaluate(
    x_user: Tensor,
    x_item: Tensor,
    held_out: Tensor,
    train: Tensor,
    k: tuple[int, ...] = (10, 20),
    batch_size: int = 4096,
) -> dict[str, float]:
    """Full ranking with Python lists of every user's items."""
    history: dict[int, list[int]] = {}
    for user, item in train.t().tolist():
        history.setdefault(user, []).append(item)
    wanted: dict[int, list[int]] = {}
    for user, item in held_out.t().tolist():
        wanted.setdefault(user, []).append(item)
    users = sorted(wanted)

    top = []
    for start in range(0, len(users), batch_size):
        batch = users[start : start + batch_size]
        scores = x_user[batch] @ x_item.t()
        rows, columns = [], []
        for row, user in enumerate(batch):
            seen = history.get(user, [])
            rows += [row] * len(seen)
            columns += seen
        scores[rows, columns] = -1e10
        top.append(scores.topk(min(50, len(x_item)), dim=-1).indices)
    hits = np.array(
        [
            [item in items for item in row]
            for items, row in zip(
                (set(wanted[user]) for user in users), torch.cat(top).tolist()
            )
        ]
    )
    count = np.array([len(wanted[user]) for user in users])
    gain = 1 / np.log2(np.arange(hits.shape[1]) + 2)
    out = {}
    for cut in k:
        found = hits[:, :cut]
        ideal = np.cumsum(gain)[np.minimum(count, cut) - 1]
        out[f'recall@{cut}'] = float((found.sum(1) / count).mean())
        out[f'ndcg@{cut}'] = float((found @ gain[:cut] / ideal).mean())
    return out
