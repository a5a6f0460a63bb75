"""The service; `main.py` is its table of contents."""

from halfsync.life import reactors

# Ahead of the imports of everything else, which may import the reactor: --service.reactor chooses it.
reactors.arrange(__name__)

__version__ = "0.1.0"
