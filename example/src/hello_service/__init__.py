"""The service; `main.py` is its table of contents."""

__version__ = "0.1.0"
