from collections.abc import Iterator
from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from pyg_sea.evaluate import with_history
from pyg_sea.loader import BPRLoader


class OneBatch:
    """A loader of a single batch, as Lightning would take a list apart.

    Args:
        batch: What to yield.

    Example:
        >>> from pyg_sea.training.data import OneBatch
        >>> list(OneBatch('everything'))
        ['everything']
    """

    def __init__(self, batch: Any) -> None:
        self.batch = batch

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Any]:
        yield self.batch


class RecommenderDataModule(LightningDataModule):
    """Hands the interactions of a :class:`~torch_geometric.data.HeteroData`
    to Lightning: triplets for training, all held-out edges as one batch for
    validation and test. Held-out edges of users without a train edge are left
    out, with a warning.

    Args:
        data: Train edges, `val_edge_index` and `test_edge_index` between
            `'user'` and `'item'`.
        batch_size: Triplets per batch (default: 2048).
        seed: The sampler's seed (default: `None`, drawn from torch's global
            generator).
        edge_type: The type of the train edges (default: `None`, the only type
            from `'user'` to `'item'`).

    Shapes:
        - a training batch: `[3, B]` triplets (user, positive, negative)
        - the validation and test batch: `[2, L]` (user, item) pairs

    Raises a `ValueError` if edges are missing or malformed.

    Example:
        >>> from pyg_sea.datasets import FakeMultimodal
        >>> from pyg_sea.training import RecommenderDataModule
        >>> data = FakeMultimodal(num_users=50, num_items=40)[0]
        >>> datamodule = RecommenderDataModule(data, batch_size=128)
        >>> next(iter(datamodule.train_dataloader())).shape
        torch.Size([3, 128])
    """

    def __init__(
        self,
        data: HeteroData,
        batch_size: int = 2048,
        seed: int | None = None,
        edge_type: EdgeType | None = None,
    ) -> None:
        super().__init__()
        self.store = interactions(data, edge_type)
        self.num_users = int(data['user'].num_nodes)
        self.num_items = int(data['item'].num_nodes)
        self.batch_size = batch_size
        self.seed = seed
        self.loader: BPRLoader | None = None
        self._loader_state: dict[str, Any] | None = None

    def train_dataloader(self) -> BPRLoader:
        """The sampler of triplets, on the trainer's device."""
        device = torch.device('cpu')
        if self.trainer is not None:
            device = self.trainer.strategy.root_device
        self.loader = BPRLoader(
            self.store.edge_index.to(device),
            self.num_users,
            self.num_items,
            self.batch_size,
            seed=self.seed,
        )
        if self._loader_state is not None:
            self.loader.load_state_dict(self._loader_state)
        return self.loader

    def val_dataloader(self) -> OneBatch:
        """All validation edges as one batch."""
        return OneBatch(held_out(self.store, 'val_edge_index'))

    def test_dataloader(self) -> OneBatch:
        """All test edges as one batch."""
        return OneBatch(held_out(self.store, 'test_edge_index'))

    def state_dict(self) -> dict[str, Any]:
        """Where the sampler stands."""
        return {} if self.loader is None else self.loader.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Lets the sampler go on where :meth:`state_dict` was taken.

        Args:
            state_dict: The dictionary to restore.
        """
        self._loader_state = state_dict


def interactions(data: HeteroData, edge_type: EdgeType | None) -> Any:
    """The store of the train edges, which also holds the held-out ones."""
    known = [
        key for key in data.edge_types if key[0] == 'user' and key[2] == 'item'
    ]
    if edge_type is None and len(known) == 1:
        edge_type = known[0]
    if edge_type not in known:
        raise ValueError(
            f"'edge_type' needs to name the train edges, one of {known} "
            f'(got {edge_type})'
        )
    return data[edge_type]


def held_out(store: Any, name: str) -> Tensor:
    """The held-out edges called `name`, of users with a train edge."""
    edge_label_index = store.get(name)
    if (
        not isinstance(edge_label_index, Tensor)
        or not edge_label_index.numel()
    ):
        raise ValueError(
            f"'data' needs held-out edges [2, L] in '{name}' of the train "
            f"edges' type (got none): data['user', 'buys', 'item'].{name} = "
            f"..., as 'pyg_sea.datasets' leave them there"
        )
    return with_history(edge_label_index, store.edge_index)
