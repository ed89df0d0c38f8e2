from collections.abc import Iterable, Mapping
from math import isfinite


def check_weights(
    weights: Mapping[str, float], known: Iterable[str] | None = None
) -> None:
    """Raises a `ValueError` unless weights of modalities make sense: finite,
    not negative, not all zero, and, if `known` is given, of modalities that
    are among these.
    """
    values = [*weights.values()]
    if not any(values) or not all(isfinite(w) and w >= 0 for w in values):
        raise ValueError(
            "'weights' need to be finite, not negative and not all zero "
            f'(got {dict(weights)})'
        )
    if known is not None:
        known = [*known]
        unknown = [name for name in weights if name not in known]
        if unknown:
            raise ValueError(
                f"'weights' name unknown modalities {unknown} (known: {known})"
            )
