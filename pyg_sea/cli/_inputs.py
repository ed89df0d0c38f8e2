"""Tables and modalities, as `prepare` and `add-items` take them."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from pyg_sea.runs._features import Recipe


class Columns:
    """The columns of a table of interactions.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        from pyg_sea.runs._tables import column_names

        self.path = path
        self.names = column_names(path)

    def need(
        self, what: str, given: str | None, like: str | None = None
    ) -> str:
        """Return the column that is named, or is called as the one of another
        table, or has a usual name.
        """
        from pyg_sea.runs._tables import guess_column

        if given is not None:
            return self.check(what, given)
        found = guess_column(self.names, what)
        if like in self.names:
            found = like
        if found is None:
            raise click.UsageError(
                f"say with --{_option(what)} which column of '{self.path}' "
                f'holds the {"items" if what == "id" else what + "s"} '
                '(columns: '
                f'{", ".join(self.names)})'
            )
        click.echo(f"{what} of {self.path.name}: the column '{found}'")
        return found

    def check(self, what: str, given: str) -> str:
        """Return the column that is named, if it is there."""
        if given not in self.names:
            raise ValueError(
                f"'{self.path}' has no column '{given}' (columns: "
                f'{", ".join(self.names)}). Name one of them with '
                f'--{_option(what)}'
            )
        return given

    def read(self, texts: list[str], others: list[str | None]) -> Any:
        """Read some columns, those in `texts` as they are written; there has
        to be a row.
        """
        from pyg_sea.runs._tables import read_table

        columns = [*texts, *[name for name in others if name is not None]]
        table = read_table(self.path, columns, texts)
        if table.empty:
            raise ValueError(
                f"'{self.path}' holds no interactions, only names of columns"
            )
        return table


def _option(what: str) -> str:
    return 'item-id' if what == 'id' else what


def read_items(
    path: Path,
    item_id: str | None,
    title: str | None,
    like: str | None = None,
) -> tuple[Any, str, str | None]:
    """Read a table of items.

    Args:
        path: The file.
        item_id: The column of ids, if it is named.
        title: The column of titles, if it is named.
        like: What ids of items are called elsewhere (default: `None`).

    Returns the table with ids as its index, and both columns.
    """
    from pyg_sea.runs._tables import guess_column, read_table

    columns = Columns(path)
    item_id = columns.need('id', item_id, like)
    if title is None:
        title = guess_column(columns.names, 'title')
    else:
        columns.check('title', title)
    table = read_table(path, texts=columns.names)
    if table.empty:
        raise ValueError(f"'{path}' holds no items, only names of columns")
    if table[item_id].isna().any():
        raise ValueError(
            f"'{path}' has {int(table[item_id].isna().sum()):,} rows without "
            f"an id in the column '{item_id}': drop or repair them"
        )
    table = table.set_index(item_id, drop=False)
    if table.index.has_duplicates:
        raise ValueError(
            f"'{path}' repeats the id "
            f"'{table.index[table.index.duplicated()][0]}' in the column "
            f"'{item_id}': one row per item is needed"
        )
    return table, item_id, title


def recipes_of(
    text: dict[str, str],
    images: dict[str, str],
    features: dict[str, str],
    text_model: str | None = None,
    image_model: str | None = None,
) -> 'dict[str, Recipe]':
    """Where the features of each modality come from, by its name."""
    from pyg_sea.runs._features import Recipe

    out: dict[str, Recipe] = {}
    for kind, given, model in (
        ('images', images, image_model),
        ('text', text, text_model),
        ('features', features, None),
    ):
        for name, source in given.items():
            if name in out:
                raise click.UsageError(f"the modality '{name}' is given twice")
            if not name.replace('-', '_').isidentifier():
                raise click.UsageError(
                    'names of modalities are letters, digits and _, the '
                    f'first of them no digit (got {name!r})'
                )
            parts = source.split(',') if kind == 'text' else [source]
            out[name] = Recipe(kind, tuple(parts), model)
    return out


def to_time(column: Any, path: Path) -> Any:
    """Times as numbers or dates."""
    import pandas as pd

    if column.dtype != object and not pd.api.types.is_string_dtype(column):
        return column
    # 31.12.2026 is written in no other order, 12/31/2026 in both.
    dots = column.astype(str).str.match(r'\s*\d+\.\d+\.').any()
    for day_first in (True, False) if dots else (False, True):
        with warnings.catch_warnings():
            # That the order was found out.
            warnings.simplefilter('ignore', UserWarning)
            try:
                return pd.to_datetime(column, utc=True, dayfirst=day_first)
            except (ValueError, OverflowError) as error:
                reason = str(error).partition('. You might')[0]
    raise ValueError(
        f"the column '{column.name}' of '{path}' needs numbers or dates, such "
        f'as 2026-12-31: {reason}'
    )


def to_numbers(column: Any, path: Path) -> Any:
    """Numbers, those of a table with semicolons with decimal commas."""
    import pandas as pd

    from pyg_sea.runs._tables import separator

    if pd.api.types.is_numeric_dtype(column):
        return column
    texts = column.astype(str).where(column.notna())
    if path.suffix != '.parquet' and separator(path) == ';':
        texts = texts.str.replace(',', '.')
    out = pd.to_numeric(texts, errors='coerce')
    wrong = column[out.isna() & column.notna()]
    if len(wrong):
        raise ValueError(
            f"the weights '{column.name}' of '{path}' need to be numbers, "
            f"such as 1.5 (got '{wrong.iloc[0]}')"
        )
    return out
