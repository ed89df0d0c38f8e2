from typing import Any


def paper_settings(
    alpha: float = 0.38,
    beta: float = 0.001,
    distance: str = 'club',
    club_kwargs: dict[str, Any] | None = None,
    **kwargs: Any,
) -> dict[str, Any]:
    r"""Returns the arguments of :class:`~pyg_sea.nn.SEA` that make it the
    model of the paper.

    That is: linear maps to equal halves of 64 channels per modality, two
    hops, temperature 0.2, one CLUB estimator per modality with 8 hidden units
    and 50 steps of Adam at 1e-4 per batch, one permutation as negatives,
    BPR, and neither vectors nor biases of items' own. The paper's
    :math:`\alpha` and :math:`\beta` are not known: the defaults are what the
    scale of the released logs suggests for Amazon Baby (0.55, beside a
    logarithm to base 2) and the weight that the released code ships with
    (0.006, beside that logarithm and a mean of halved bounds).

    Args:
        alpha (float, optional): Weight of the alignment.
            (default: :obj:`0.38`)
        beta (float, optional): Weight of the distancing.
            (default: :obj:`0.001`)
        distance (str, optional): :obj:`"club"`, or :obj:`"negative_l2"` for
            eq. 30. (default: :obj:`"club"`)
        club_kwargs (dict[str, Any], optional): Arguments of
            :class:`~pyg_sea.nn.CLUBLoss` to set otherwise.
            (default: :obj:`None`)
        **kwargs (optional): Arguments of :class:`~pyg_sea.nn.SEA` to set
            otherwise.

    Example:
        >>> from pyg_sea.nn.models.paper import paper_settings
        >>> paper_settings(distance='negative_l2')['ranking']
        'bpr'
    """
    if distance == 'club':
        club_kwargs = {
            'estimator': 'mlp',
            'hidden_channels': 8,
            'num_steps': 50,
            'lr': 1e-4,
            'negatives': 'permute',
            **(club_kwargs or {}),
        }
    return {
        'alpha': alpha,
        'beta': beta,
        'distance': distance,
        'club_kwargs': club_kwargs,
        'mode': 'linear',
        'num_anchors': None,
        'ranking': 'bpr',
        'id_channels': 0,
        'item_bias': False,
        'initial_norm': None,
        'encoder_scale': 1.0,
        **kwargs,
    }
