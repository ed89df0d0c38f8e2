from .item_graph_conv import ItemGraphConv
from .modal_gcn_conv import ModalGCNConv

__all__ = ['ModalGCNConv', 'ItemGraphConv']

classes = __all__
