import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.typing import OptTensor


def with_bias(x: Tensor, y: Tensor, bias: OptTensor) -> tuple[Tensor, Tensor]:
    r"""Returns rows whose inner products are :math:`\mathbf{x}_u^\top
    \mathbf{y}_i + b_i`: one more column, of ones and of biases.

    Args:
        x (torch.Tensor): Rows of users.
        y (torch.Tensor): Rows of items.
        bias (torch.Tensor, optional): One number per item; without them, rows
            stay as they are.

    Shapes:
        - **input:** :math:`(U, D)`, :math:`(I, D)`, :math:`(I)` *(optional)*
        - **output:** :math:`(U, D + 1)` and :math:`(I, D + 1)`

    Example:
        >>> import torch
        >>> from pyg_sea.nn.item_bias import with_bias
        >>> x, y = with_bias(torch.eye(2), torch.eye(2), torch.tensor([0., 3]))
        >>> x @ y.t()
        tensor([[1., 3.],
                [0., 4.]])
    """
    if bias is None:
        return x, y
    column = bias.to(y.dtype).unsqueeze(1)
    return F.pad(x, (0, 1), value=1.0), torch.cat([y, column], dim=1)
