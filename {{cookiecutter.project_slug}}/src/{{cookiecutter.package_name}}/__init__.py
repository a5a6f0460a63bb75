"""The service; `main.py` is its table of contents."""

from halfsync import arrange_reactor

# Ahead of the imports of everything else, which may import the reactor: --service.reactor chooses it.
arrange_reactor(__name__)

__version__ = "0.1.0"
