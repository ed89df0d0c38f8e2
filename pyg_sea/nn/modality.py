from collections.abc import Mapping, Sequence

from torch import Tensor


def modality_key(name: str) -> str:
    r"""Returns the name under which a :class:`torch.nn.ModuleDict` keeps the
    parts of a modality: module names allow no dots and clash with attributes
    such as :obj:`type`, modality names may be anything.
    """
    return 'x_' + name.replace('%', '%25').replace('.', '%2E')


def check_channels(in_channels: Mapping[str, int]) -> dict[str, int]:
    r"""Returns a copy of :obj:`in_channels`, or says what is wrong with it."""
    if not isinstance(in_channels, Mapping) or not in_channels:
        raise ValueError(
            f"'in_channels' needs to map at least one modality to its number "
            f'of features (got {in_channels!r})'
        )
    for name, size in in_channels.items():
        if not isinstance(name, str) or not name:
            raise ValueError(
                f"'in_channels' needs non-empty strings as names of "
                f'modalities (got {name!r})'
            )
        if not isinstance(size, int) or size < 1:
            raise ValueError(
                f"'in_channels[{name!r}]' needs to be a positive integer "
                f'(got {size!r})'
            )
    return dict(in_channels)


def check_modal_x(
    modal_x: Mapping[str, Tensor],
    modalities: Sequence[str],
    num_rows: int | None = None,
) -> None:
    r"""Raises if :obj:`modal_x` holds other modalities than expected, or
    unequal numbers of rows.
    """
    if not isinstance(modal_x, Mapping) or set(modal_x) != set(modalities):
        got = list(modal_x) if isinstance(modal_x, Mapping) else modal_x
        raise ValueError(
            f"'modal_x' needs to hold exactly the modalities "
            f'{list(modalities)} (got {got})'
        )
    rows = {name: x.size(0) for name, x in modal_x.items()}
    if num_rows is None:
        num_rows = rows[modalities[0]]
    if set(rows.values()) != {num_rows}:
        raise ValueError(
            f"'modal_x' needs {num_rows} rows in every modality (got {rows})"
        )
