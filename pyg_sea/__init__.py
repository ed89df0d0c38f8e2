"""Separate learning for multimedia recommendation on graphs."""

__version__ = '0.1.0'
