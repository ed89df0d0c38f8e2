from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch

from pyg_sea.serving._state import State


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a user gets an item: the score, taken apart in two ways that both
    add up to it.

    Args:
        user: The user's id.
        item: The item's id.
        score: The inner product of their rows, in double precision.
        contributions: What each modality and part adds: the columns
            `modality`, `part`, `source` and `contribution`. The source
            `'item'` is the item's own row, `'similar items'` what its
            neighbours in the item-item graph lend it; models that do not tell
            have `'all'`, and one row if they have no parts.
        because: The train items of the user, the strongest first: `item`,
            `similarity` (the cosine of its row and that of the item) and
            `contribution`, what reaches the user's row through this item.
            That is all that the item passes on over the interaction graph: in
            the first hop itself, in further ones the users who chose it, too.
            NaN for models that do not tell.
        user_vector: What the user's own free vector adds; with the
            contributions of `because` and `popularity` it adds up to the
            score. `None` for models that do not tell.
        popularity: The item's bias, which it has for every user.

    Example:
        >>> import pandas as pd
        >>> from pyg_sea.serving import Explanation
        >>> parts = pd.DataFrame({
        ...     'modality': ['text', 'text'], 'part': ['generic', 'unique'],
        ...     'source': ['item', 'item'], 'contribution': [0.5, 0.25]})
        >>> because = pd.DataFrame({
        ...     'item': ['tea'], 'similarity': [0.9], 'contribution': [0.7]})
        >>> Explanation('eve', 'cup', 0.75, parts, because, 0.05)
        Explanation(user='eve', item='cup', score=0.7500)
        modality    part source  contribution
            text generic   item        0.5000
            text  unique   item        0.2500
        because of
        item  similarity  contribution
         tea      0.9000        0.7000
        and the user's own vector: 0.0500
    """

    user: Any
    item: Any
    score: float
    contributions: pd.DataFrame
    because: pd.DataFrame
    user_vector: float | None = None
    popularity: float = 0.0

    def plot(self, ax: Any = None, num_items: int = 10) -> Any:
        """Draw both ways as bars; needs the extra `plot`.

        Args:
            ax: Two axes of matplotlib, side by side (default: `None`, those
                of a new figure).
            num_items: The train items to show (default: 10).

        Returns the axes.
        """
        if ax is None:
            try:
                from matplotlib import pyplot as plt
            except ImportError as error:
                raise ImportError(
                    '\'plot\' needs matplotlib: pip install "pyg_sea[plot]"'
                ) from error
            _, ax = plt.subplots(1, 2, figsize=(10, 4), layout='constrained')
        left, right = ax
        table = self.contributions
        label = table['modality'] + ' ' + table['part']
        wide = table.assign(label=label).pivot(
            index='label', columns='source', values='contribution'
        )
        wide = wide.loc[label.unique()[::-1]]
        # Bars of equal sign stand on each other.
        for sign in (1, -1):
            start = np.zeros(len(wide))
            for i, source in enumerate(wide):
                width = wide[source].to_numpy()
                width = np.where(sign * width > 0, width, 0.0)
                name = str(source) if sign == 1 else None
                left.barh(
                    wide.index, width, left=start, color=f'C{i}', label=name
                )
                start = start + width
        left.axvline(0, color='0.5', lw=0.8)
        left.legend()
        left.set_title(f'{self.item} for {self.user}: {self.score:.3f}')

        exact = self.user_vector is not None
        column = 'contribution' if exact else 'similarity'
        top = self.because.head(num_items).iloc[::-1]
        right.barh(top['item'].astype(str), top[column], color='C2')
        right.set_title('because of (' + column + ')')
        return ax

    def __repr__(self) -> str:
        def text(table: pd.DataFrame) -> str:
            return table.to_string(index=False, float_format='%.4f')

        lines = [
            f'{type(self).__name__}(user={self.user!r}, item={self.item!r}, '
            f'score={self.score:.4f})',
            text(self.contributions),
            'because of',
            text(self.because.head(5)),
        ]
        if self.user_vector is not None:
            lines.append(f"and the user's own vector: {self.user_vector:.4f}")
        if self.popularity:
            lines.append(f"and the item's popularity: {self.popularity:.4f}")
        return '\n'.join(lines)


@torch.no_grad()
def explain(state: State, user: int, item: int) -> Explanation:
    """The explanation for local ids."""
    x_user, x_item = state.user[user].double(), state.item[item].double()
    score = float(x_user @ x_item)
    known = state.item[:, : state.num_columns]
    x_item = known[item].double()
    sources = {'all': x_item}
    if state.terms is not None:
        own = state.terms.own[item].double() / state.terms.norm[item].double()
        sources = {'item': own, 'similar items': x_item - own}
    rows = [
        (*block, source, float(x_user[cols] @ x[cols]))
        for block, cols in state.vectors.items()
        for source, x in sources.items()
    ]
    popularity = 0.0
    for block in state.blocks.keys() - state.vectors:
        popularity = float(state.item[item, state.blocks[block]])
        rows.append((*block, next(iter(sources)), popularity))

    _, items, weight = state.seen.of(torch.tensor([user]))
    rows_of = torch.nn.functional.normalize(known[items].double())
    similarity = rows_of @ torch.nn.functional.normalize(x_item, dim=0)
    shares, rest = torch.full_like(similarity, float('nan')), None
    if state.terms is not None:
        terms = state.terms
        # The weights of modalities go to the item's side: one row, not many.
        scale = terms.scale[user].double().repeat_interleave(state.widths)
        degree = weight.double().sum().sqrt()
        shares = terms.message[items].double() @ (scale * x_item)
        shares = shares * weight.double() / degree
        rest = score - popularity - float(shares.sum())
    because = pd.DataFrame(
        {
            'item': state.items.external(items.numpy()),
            'similarity': similarity.numpy(),
            'contribution': shares.numpy(),
        }
    )
    by = 'similarity' if rest is None else 'contribution'
    return Explanation(
        _plain(state.users.index[user]),
        _plain(state.items.index[item]),
        score,
        pd.DataFrame(
            rows, columns=['modality', 'part', 'source', 'contribution']
        ),
        because.sort_values(by, ascending=False, ignore_index=True),
        rest,
        popularity,
    )


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
