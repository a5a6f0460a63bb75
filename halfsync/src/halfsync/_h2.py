"""The names of h2 and hpack that are not public and that the library uses nevertheless, each with its reason.

No other module may touch a private name of h2 or hpack (SLF001 stands guard).
They were tested with h2 4.4 and hpack 4.1; `tests/test_private_names.py` fails when one changes its meaning.
"""

from __future__ import annotations
