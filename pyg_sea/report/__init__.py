"""One page about a training run, to be read without anything else."""

from pyg_sea.report.write import write_report

__all__ = ['write_report']

classes = __all__
