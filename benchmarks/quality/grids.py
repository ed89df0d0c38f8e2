"""What is tried in tuning: six settings of each model."""

from itertools import product
from typing import Any

NUM_TRIALS = 6


def grid(**values: list[Any]) -> list[dict[str, Any]]:
    """All combinations of some values."""
    return [dict(zip(values, chosen)) for chosen in product(*values.values())]


#: By model. The values around the published ones; popularity has nothing to
#: set. `sea_no_losses` has as many trials of other settings as `sea` of the
#: weights of its losses. Plug-ins take what was chosen for the model that they
#: plug into (`--set`). What `SEA` is held against in `controls.py` takes its
#: settings.
GRIDS: dict[str, list[dict[str, Any]]] = {
    'popularity': [{}],
    'content_knn': grid(k=[10, 40, 160], weighted=[False, True]),
    'bpr_mf': grid(lr=[1e-3, 3e-4], lambda_reg=[1e-1, 1e-2, 1e-3]),
    'lightgcn': grid(num_layers=[2, 3], lambda_reg=[1e-2, 1e-3, 1e-4]),
    'vbpr': grid(lambda_reg=[1e-1, 1e-2], lambda_map=[1e-1, 1e-2, 1e-3]),
    'freedom': grid(dropout=[0.8, 0.9], lambda_modal=[1e-4, 1e-3, 1e-2]),
    'mgcn': grid(lambda_cl=[0.001, 0.01, 0.1], lambda_reg=[1e-4, 1e-3]),
    'lightgcn_softmax': grid(num_layers=[2, 3], temperature=[0.1, 0.2, 0.3]),
    'mgcn_softmax': grid(lambda_cl=[0.001, 0.01, 0.1], temperature=[0.1, 0.2]),
    'sea': grid(alpha=[0.01, 0.03, 0.1], beta=[0.0003, 0.003]),
    'sea_no_losses': grid(lr=[1e-3, 3e-4], num_layers=[1, 2, 3]),
    'sea_paper': grid(alpha=[0.01, 0.1, 0.38], beta=[0.001, 0.01]),
    'released_sea': grid(alpha=[0.01, 0.1, 0.55], beta=[0.006, 0.06]),
    **dict.fromkeys(
        ('vbpr_separate', 'freedom_separate', 'lightgcn_separate'),
        grid(alpha=[0.01, 0.03, 0.1], beta=[0.0003, 0.003]),
    ),
}
