from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch_geometric.data import HeteroData
from torch_geometric.typing import EdgeType

from pyg_sea.evaluate import evaluate
from pyg_sea.nn.distributed import share_of_mean, world_size
from pyg_sea.recommend import EmbeddingScorer
from pyg_sea.training.data import interactions
from pyg_sea.training.terms import LossTerms
from pyg_sea.transforms.model_inputs import model_inputs

# Steps between two looks at the loss terms, each of which synchronises a GPU.
_LOOK_EVERY = 32


class RecommenderModule(LightningModule):
    r"""Trains and evaluates any model of `pyg_sea` in Lightning.

    A model has `num_users`, `num_items`, `get_embedding(**inputs)` and
    `loss(**inputs, triplets=...)`; if it has a method `after_backward()`,
    that is called after the backward pass of each step. Features and graph
    move to the device once and are not part of checkpoints.

    Logs `train/loss` and the mean of every named term as `train/<term>` once
    per epoch, `val/<metric>@<k>` and `test/<metric>@<k>` of the current
    weights over all users.

    In data-parallel training each process gets a share of every batch. A
    model with a true attribute `sync` returns losses whose mean over
    processes is that of the whole batch; the losses of others, taken to be
    means over triplets beside terms that are the same in all processes, are
    weighted by the triplets of the process, which has the same effect.
    Processes share the users to evaluate.

    Args:
        model: The model to train.
        data: Features, graph and train edges.
        lr: Adam's learning rate (default: 1e-3).
        weight_decay: Adam's weight decay (default: 0).
        k: The cut-offs to evaluate (default: `(10, 20)`).
        metrics: One or several metrics to evaluate, see
            :func:`~pyg_sea.evaluate.evaluate` (default: `('recall',
            'ndcg')`).
        edge_type: The type of the train edges (default: `None`, the only type
            from `'user'` to `'item'`).
        inputs: What to call the model with, if not
            `model_inputs(data, edge_type)` (default: `None`).
        features_on_device: Whether features move to the device, and to the
            precision, of the module. Without it they stay where they are,
            mapped files or larger than a GPU, and are read in chunks
            (default: `True`).

    Shapes:
        - a training batch: `[3, B]` triplets (user, positive, negative)
        - a validation or test batch: `[2, L]` held-out (user, item) pairs
        - :meth:`get_embedding`: `[U, D]` of users, `[I, D]` of items

    Raises a `ValueError` if `data` does not fit the model, and a
    `FloatingPointError` naming epoch and step if a loss term, a weight or a
    score becomes NaN or inf.

    Example:
        >>> from pyg_sea.datasets import FakeMultimodal
        >>> from pyg_sea.nn import SEA
        >>> from pyg_sea.training import RecommenderModule
        >>> from pyg_sea.transforms import model_inputs
        >>> data = FakeMultimodal(num_users=50, num_items=40)[0]
        >>> modal_x = model_inputs(data)['modal_x']
        >>> model = SEA(50, 40, {m: x.size(1) for m, x in modal_x.items()})
        >>> module = RecommenderModule(model, data, lr=1e-2)
        >>> module.lr
        0.01
    """

    def __init__(
        self,
        model: Any,
        data: HeteroData,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        k: int | Sequence[int] = (10, 20),
        metrics: str | Sequence[str] = ('recall', 'ndcg'),
        edge_type: EdgeType | None = None,
        inputs: Mapping[str, Any] | None = None,
        features_on_device: bool = True,
    ) -> None:
        super().__init__()
        sizes = (int(data['user'].num_nodes), int(data['item'].num_nodes))
        if sizes != (model.num_users, model.num_items):
            raise ValueError(
                f"'data' needs the model's {model.num_users} users and "
                f'{model.num_items} items (got {sizes[0]} and {sizes[1]})'
            )
        if inputs is None:
            inputs = model_inputs(data, edge_type)
        train = interactions(data, edge_type).edge_index
        order = train[0].argsort(stable=True)

        self.features_on_device = features_on_device
        self.model: Any = model
        self.lr = lr
        self.weight_decay = weight_decay
        self.k = k
        self.metrics = metrics
        # A dictionary, so that no buffer gets into checkpoints or is sent
        # around by data-parallel training.
        self._held: dict[str, Any] = {
            'inputs': dict(inputs),
            'train_edge_index': train[:, order],
        }
        self.terms = LossTerms()

    @property
    def inputs(self) -> dict[str, Any]:
        """What the model is called with, on the module's device."""
        return dict(self._held['inputs'])

    def _apply(
        self, fn: Callable[[Tensor], Tensor], recurse: bool = True
    ) -> Any:
        inputs = self._held['inputs']
        # Not even for a moment: they may be larger than the device.
        stay = () if self.features_on_device else ('modal_x',)
        moved = {name: x for name, x in inputs.items() if name not in stay}
        held = _map(fn, {**self._held, 'inputs': moved})
        self._held = {**held, 'inputs': {**inputs, **held['inputs']}}
        return super()._apply(fn, recurse)

    def get_embedding(self) -> tuple[Tensor, Tensor]:
        """The embeddings `[U, D]` of users and `[I, D]` of items."""
        embedding = self.model.get_embedding(**self.inputs)
        user, item = embedding.split(
            [self.model.num_users, self.model.num_items]
        )
        return user, item

    def evaluate(self, edge_label_index: Tensor) -> dict[str, float]:
        """Full ranking with the current weights, in evaluation mode. All
        processes have to call.

        Args:
            edge_label_index: Held-out (user, item) pairs `[2, L]`.
        """
        training = self.model.training
        self.model.eval()
        with torch.no_grad():
            user, item = self.get_embedding()
        self.model.train(training)
        # In half precision, as Lightning would score, ranks are ties.
        with torch.autocast(self.device.type, enabled=False):
            return evaluate(
                EmbeddingScorer(user.float(), item.float()),
                edge_label_index,
                self._held['train_edge_index'],
                self.k,
                self.metrics,
                sync=True,
            )

    def on_train_epoch_start(self) -> None:
        """Begins to collect the loss terms."""
        on_cpu = self.device.type == 'cpu'
        self.terms.every = 1 if on_cpu else _LOOK_EVERY
        self.terms.start(self.current_epoch)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The loss of one batch of triplets `[3, B]`."""
        weight = None
        if world_size() > 1 and not getattr(self.model, 'sync', False):
            ones = torch.ones_like(batch[0], dtype=torch.double)
            weight = share_of_mean(ones)
            # The mean of no triplets is NaN: take any, with weight 0.
            batch = batch if ones.numel() > 0 else batch.new_zeros(3, 1)
        loss, terms = self.model.loss(**self.inputs, triplets=batch)
        terms = {'loss': loss, **terms}
        if weight is not None:
            terms = {
                name: term * weight.to(term.dtype)
                for name, term in terms.items()
            }
        self.terms.add(terms)
        return terms['loss']

    def on_after_backward(self) -> None:
        """Lets the model fit what it fits after the backward pass."""
        if hasattr(self.model, 'after_backward'):
            self.model.after_backward()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        """Evaluates the validation edges `[2, L]`."""
        # A poisoned epoch is named by its term, not by its embeddings.
        self.terms.flush()
        weights = dict(self.model.named_parameters())
        finite = torch.stack([w.isfinite().all() for w in weights.values()])
        bad = [name for name, ok in zip(weights, finite.tolist()) if not ok]
        if bad:
            raise FloatingPointError(
                f'weights are not finite after {self._where()}: {bad}. Lower '
                f'the learning rate or clip gradients'
            )
        try:
            values = self.evaluate(batch)
        except FloatingPointError as error:
            raise FloatingPointError(
                f'with the weights after {self._where()}, {error}'
            ) from error
        self._log('val', values, prog_bar=True)

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        """Evaluates the test edges `[2, L]`."""
        self._log('test', self.evaluate(batch))

    def on_train_epoch_end(self) -> None:
        """Logs the means of the loss terms."""
        self._log('train', self.terms.means())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters that need a gradient."""
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        return torch.optim.Adam(
            parameters,
            lr=self.lr,
            weight_decay=self.weight_decay,
            fused=not self._may_clip_mixed(),
        )

    def _may_clip_mixed(self) -> bool:
        # In mixed precision Lightning refuses to clip for a fused optimizer,
        # which unscales gradients by itself, even where none are scaled.
        if self._trainer is None:
            return False
        precision = str(self._trainer.precision)
        clips = bool(self._trainer.gradient_clip_val)
        return precision == '16-mixed' or (
            clips and precision.endswith('-mixed')
        )

    def _where(self) -> str:
        return f'epoch {self.terms.epoch}, step {self.terms.step - 1}'

    def _log(self, stage: str, values: Mapping[str, float], **kw: Any) -> None:
        self.log_dict(
            {f'{stage}/{name}': value for name, value in values.items()},
            batch_size=1,
            on_step=False,
            on_epoch=True,
            sync_dist=world_size() > 1,
            **kw,
        )


def _map(fn: Callable[[Tensor], Tensor], value: Any) -> Any:
    if isinstance(value, Tensor):
        return fn(value)
    if isinstance(value, Mapping):
        return {name: _map(fn, item) for name, item in value.items()}
    return value
