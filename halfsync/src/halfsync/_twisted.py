"""The names of Twisted that are not public and that the library uses nevertheless, each with its reason.

No other module may touch a private name of Twisted (SLF001 stands guard).
They were tested with Twisted 26.10; `tests/test_private_names.py` fails when one of them changes its meaning.
"""

from __future__ import annotations
