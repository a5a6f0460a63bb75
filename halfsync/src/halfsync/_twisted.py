"""The names of Twisted that are not public and that the library uses nevertheless, each with its reason.

No other module may touch a private name of Twisted (SLF001 stands guard).
They were tested with Twisted 26.10; `tests/test_private_names.py` fails when one of them changes its meaning.
"""

from __future__ import annotations

from twisted.plugins.twisted_core import systemdEndpointParser


def systemd_sockets() -> list[tuple[int, str]]:
    """Return descriptor and name of each socket that systemd handed over, in its order.

    Twisted takes LISTEN_FDS out of the environment when it is imported, so only its parser knows.
    What it tells publicly lacks all but one of the sockets that have one name.
    """
    known = systemdEndpointParser._sddaemon  # noqa: SLF001
    names = known._names  # noqa: SLF001
    return [
        (number, names[at] if at < len(names) else "") for at, number in enumerate(known.inheritedDescriptors())
    ]
