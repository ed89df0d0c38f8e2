"""Tables as people have them, and what their columns mean."""

import re
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from pyg_sea.runs._files import replacing

# Names of columns, in lower case, letters and digits only.
_NAMES = {
    what: names.split()
    for what, names in {
        'user': 'user userid uid username customer customerid customerno '
        'customernumber client clientid member memberid visitor visitorid '
        'account accountid buyer buyerid reviewerid',
        'item': 'item itemid itemno itemnumber itemcode iid product productid '
        'productno productnumber productcode productsku sku variantsku '
        'lineitemsku stockcode article articleid articleno articlenumber '
        'asin parentasin movieid trackid bookid videoid',
        'time': 'time timestamp date datetime day orderdate orderedat '
        'createdat purchasedat purchasedate invoicedate unixreviewtime',
        'title': 'title name itemname itemtitle productname producttitle '
        'articlename',
    }.items()
}
_NAMES['id'] = [*_NAMES['item'], 'id']


def read_table(
    path: Path,
    columns: Sequence[str] | None = None,
    texts: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Read a `.csv`, `.tsv` or `.parquet` file.

    Args:
        path: The file.
        columns: The columns that are wanted (default: `None`, all).
        texts: The columns that hold texts or ids, which stay what is
            written there, such as `007` (default: `None`, those that look
            like ids by their name).

    Raises a `FileNotFoundError`, `ValueError` or `ImportError` if it cannot
    be read.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the table '{path}' does not exist")
    known = column_names(path)
    if texts is None:
        texts = [name for name in known if _simple(name) in _NAMES['id']]
        texts = texts or known[:1]
    wanted = [name for name in known if columns is None or name in columns]
    if path.suffix == '.parquet':
        table = pd.read_parquet(path, columns=wanted)
        for name in texts:
            if name in table:
                table[name] = _as_text(table[name])
        return table
    return _read_csv(
        path,
        sep=separator(path),
        usecols=wanted,
        dtype={name: str for name in texts if name in wanted},
        # 'NA' and 'null' may be ids and titles.
        keep_default_na=False,
        na_values=[''],
    )


def column_names(path: Path) -> list[str]:
    """Return the names of the columns of a file."""
    if path.suffix == '.parquet':
        if find_spec('pyarrow') is None:
            raise ImportError(
                f'to read \'{path}\' needs pyarrow: pip install "pyg_sea[cli]"'
            )
        pyarrow, parquet = map(import_module, ('pyarrow', 'pyarrow.parquet'))
        try:
            return list(parquet.read_schema(path).names)
        except pyarrow.ArrowException as error:
            raise ValueError(f"'{path}' is no Parquet file: {error}") from None
    header = _read_csv(path, sep=separator(path), nrows=0)
    return [str(name) for name in header]


def write_table(
    path: Path, table: pd.DataFrame, sep: str | None = None
) -> None:
    """Write a `.csv`, `.tsv` or `.parquet` file, which appears when
    complete.

    Args:
        path: The file.
        table: What to write, without its index.
        sep: What separates columns (default: `None`, what its suffix says).
    """
    with replacing(path) as scratch:
        if path.suffix == '.parquet':
            if find_spec('pyarrow') is None:
                raise ImportError(
                    f"to write '{path}' needs pyarrow: "
                    'pip install "pyg_sea[cli]"'
                )
            table.to_parquet(scratch, index=False)
        else:
            tabs = path.suffix in ('.tsv', '.inter')
            sep = sep or ('\t' if tabs else ',')
            table.to_csv(scratch, sep=sep, index=False)


def guess_column(table: pd.DataFrame | Sequence[str], what: str) -> str | None:
    """Return the one column whose name says what it holds, if there is just
    one.

    Args:
        table: The table, or the names of its columns.
        what: `'user'`, `'item'`, `'time'`, `'title'`, or `'id'`, of items.
    """
    names = [str(x) for x in table if _simple(x) in _NAMES[what]]
    return names[0] if len(names) == 1 else None


def text_of(rows: pd.DataFrame, columns: Sequence[str]) -> list[str | None]:
    """Return the texts of some columns, joined, one per row; `None` where
    all of them are empty.
    """
    parts = rows[list(columns)].itertuples(index=False, name=None)
    joined = (
        '\n'.join(
            str(part).strip()
            for part in row
            if not pd.isna(part) and str(part).strip()
        )
        for row in parts
    )
    return [text or None for text in joined]


def count(num: int, what: str = 'item') -> str:
    """Return a number of things."""
    return f'{num:,} {what}' + ('' if num == 1 else 's')


def separator(path: Path) -> str:
    """Return what separates the columns of a file of text."""
    if path.suffix in ('.tsv', '.inter'):
        return '\t'
    headers = {sep: _read_csv(path, sep=sep, nrows=0) for sep in ',;\t'}
    return max(headers, key=lambda sep: headers[sep].shape[1])


def _simple(name: Any) -> str:
    return re.sub('[^a-z0-9]', '', str(name).lower())


def _read_csv(path: Path, **kwargs: Any) -> pd.DataFrame:
    try:
        # Spreadsheets put a mark before the first name.
        return pd.read_csv(path, encoding='utf-8-sig', **kwargs)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ValueError(
            f"'{path}' is no table with a header: {error}"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(
            f"'{path}' is no UTF-8 text: save it as 'CSV UTF-8'"
        ) from error


def _as_text(column: 'pd.Series[Any]') -> 'pd.Series[Any]':
    if (
        pd.api.types.is_float_dtype(column)
        and (column.dropna() == column.dropna().round()).all()
    ):
        column = column.astype('Int64')  # Integers with gaps.
    return column.astype(object).where(column.isna(), column.astype(str))
