from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch_geometric.data import HeteroData, InMemoryDataset

from pyg_sea.datasets._build import build_data
from pyg_sea.datasets._features import clean_features
from pyg_sea.datasets._interactions import Interactions
from pyg_sea.datasets._splits import random_split

Transform = Callable[[HeteroData], HeteroData]
Floats = NDArray[np.float32]


class FakeMultimodal(InMemoryDataset):
    r"""A generated catalogue whose generic and unique factors are known.

    Each item :math:`i` has a generic factor
    :math:`\mathbf{g}_i \sim \mathcal{N}(0, \mathbf{I})`, which all modalities
    share, and per modality a unique one
    :math:`\mathbf{u}^m_i \sim \mathcal{N}(0, \mathbf{I})`. Features mix both
    and a little noise,

    .. math::
        \mathbf{f}^m_i = \tanh \left( [\mathbf{g}_i \,\Vert\, \mathbf{u}^m_i]
        \mathbf{A}^m \right) + \sigma \boldsymbol{\epsilon}^m_i,

    and users, who have a Gaussian taste :math:`\mathbf{t}` for every part,
    choose without replacement with probabilities in proportion to

    .. math::
        \exp \left( s \left[ \frac{\langle \mathbf{t}^g, \mathbf{g}_i \rangle}
        {\sqrt{d_g}} + \sum_m \frac{\langle \mathbf{t}^m, \mathbf{u}^m_i
        \rangle}{\sqrt{|M| d_u}} \right] \right) \cdot r_i^{-1/2},

    with :math:`r_i` the item's rank in popularity. So the generic part and
    all unique parts together matter equally. Numbers of interactions per user
    are log-normal, at least 5. The split is the 80/10/10 rule of
    :func:`~pyg_sea.datasets.from_pandas`.

    Args:
        num_users: Number of users U (default: `2000`).
        num_items: Number of items I, at least 20 (default: `1000`).
        modalities: Names of modalities, 64 wide each, or a dictionary of
            names and widths (default: `('image', 'text')`).
        generic_dim: Dimension of the generic factor (default: `8`).
        unique_dim: Dimension of each unique factor (default: `8`).
        seed: Decides everything (default: `0`).
        clicks_per_user: Expected interactions per user (default: `15.0`).
        strength: The scale :math:`s` of tastes against chance
            (default: `2.0`).
        noise: The standard deviation :math:`\sigma` of the noise in features
            (default: `0.3`).
        transform: Applied on every access (default: `None`).

    Shapes:
        - `data['item'].generic_factor`: `[I, generic_dim]`
        - `data['item']['unique_factor_<m>']`: `[I, unique_dim]`
        - `data['user'].taste_generic`: `[U, generic_dim]`
        - `data['user']['taste_unique_<m>']`: `[U, unique_dim]`
        - the rest as in :class:`~pyg_sea.datasets.MMRecDataset`

    Raises a `ValueError` for sizes that are too small, and a `TypeError` if
    `modalities` is a string.

    Example:
        >>> from pyg_sea.datasets import FakeMultimodal
        >>> data = FakeMultimodal(num_users=50, num_items=40, seed=1)[0]
        >>> data['item'].x_text.shape
        torch.Size([40, 64])
        >>> data['item'].unique_factor_text.shape
        torch.Size([40, 8])
    """

    def __init__(
        self,
        num_users: int = 2000,
        num_items: int = 1000,
        modalities: Sequence[str] | Mapping[str, int] = ('image', 'text'),
        generic_dim: int = 8,
        unique_dim: int = 8,
        seed: int = 0,
        *,
        clicks_per_user: float = 15.0,
        strength: float = 2.0,
        noise: float = 0.3,
        transform: Transform | None = None,
    ) -> None:
        if isinstance(modalities, str):
            raise TypeError(
                "'modalities' needs to be a sequence of names or a dictionary "
                f'(got the string {modalities!r})'
            )
        widths = (
            dict(modalities)
            if isinstance(modalities, Mapping)
            else dict.fromkeys(modalities, 64)
        )
        for name, value, least in (
            ('num_users', num_users, 1),
            ('num_items', num_items, 20),
            ('generic_dim', generic_dim, 1),
            ('unique_dim', unique_dim, 1),
            ('clicks_per_user', clicks_per_user, 6),
            ('modalities', len(widths), 1),
        ):
            if value < least:
                raise ValueError(
                    f"'{name}' needs to be at least {least} (got {value})"
                )
        super().__init__(None, transform)

        rng = np.random.default_rng(seed)
        dims = dict.fromkeys(widths, unique_dim)
        items = _factors(rng, num_items, generic_dim, dims)
        tastes = _factors(rng, num_users, generic_dim, dims)
        features = {
            name: _mix(rng, items[None], items[name], width, noise)
            for name, width in widths.items()
        }
        # Scaling the tastes makes scores a plain sum of inner products.
        scale = {None: strength / np.sqrt(generic_dim)} | dict.fromkeys(
            widths, strength / np.sqrt(len(widths) * unique_dim)
        )
        taste = np.hstack([scale[key] * x for key, x in tastes.items()])
        pairs = _choose(
            rng, taste, np.hstack(list(items.values())), clicks_per_user
        )
        data = build_data(
            Interactions(*pairs, random_split(pairs[0], rng)),
            clean_features(features),
        )
        for key in items:
            part = 'generic' if key is None else f'unique_{key}'
            factor = (
                'generic_factor' if key is None else f'unique_factor_{key}'
            )
            data['item'][factor] = torch.from_numpy(items[key])
            data['user'][f'taste_{part}'] = torch.from_numpy(tastes[key])
        self.data = data


def _normal(rng: np.random.Generator, *shape: int) -> Floats:
    return rng.standard_normal(shape, dtype=np.float32)


def _factors(
    rng: np.random.Generator, num: int, generic_dim: int, dims: dict[str, int]
) -> dict[str | None, Floats]:
    # `None` stands for the generic part: any string may name a modality.
    out: dict[str | None, Floats] = {None: _normal(rng, num, generic_dim)}
    return out | {name: _normal(rng, num, dim) for name, dim in dims.items()}


def _mix(
    rng: np.random.Generator,
    generic: Floats,
    unique: Floats,
    width: int,
    noise: float,
) -> Floats:
    factor = np.hstack([generic, unique])
    weight = _normal(rng, factor.shape[1], width) / np.sqrt(factor.shape[1])
    clean = np.tanh(factor @ weight)
    return clean + noise * _normal(rng, *clean.shape)


def _choose(
    rng: np.random.Generator,
    taste: Floats,
    items: Floats,
    clicks_per_user: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    num_users, num_items = len(taste), len(items)
    sigma = 1.0
    mean = np.log(clicks_per_user - 5) - sigma**2 / 2
    count = 5 + np.round(rng.lognormal(mean, sigma, num_users)).astype(int)
    count = np.minimum(count, num_items // 4)
    log_rank = np.log(1 + rng.permutation(num_items)).astype(np.float32)

    # Gumbel top-n draws n items without replacement from the softmax. The
    # negative logarithm of an exponential is Gumbel; float32 ones can be 0.
    tiny = np.float32(1e-30)
    block = max(1, 2**22 // num_items)
    users, chosen = [], []
    for start in range(0, num_users, block):
        num = count[start : start + block]
        score = taste[start : start + block] @ items.T - 0.5 * log_rank
        waiting = rng.standard_exponential(score.shape, np.float32)
        score -= np.log(waiting + tiny)
        order = torch.from_numpy(score).topk(int(num.max())).indices.numpy()
        taken = np.arange(order.shape[1]) < num[:, None]
        users.append(np.repeat(np.arange(start, start + len(num)), num))
        chosen.append(order[taken])
    return np.concatenate(users), np.concatenate(chosen)
