from .modal_gcn_conv import ModalGCNConv

__all__ = ['ModalGCNConv']

classes = __all__
