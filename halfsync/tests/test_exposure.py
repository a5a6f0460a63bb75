from __future__ import annotations

import socket

import pytest

from halfsync.endpoints.exposure import is_shared_unix, public_address
from halfsync.endpoints.parsing import parse


@pytest.mark.parametrize(
    ("text", "mode"),
    [
        ("unix:/run/m.sock", 0o600),
        ("unix:/run/a\\:b:backlog=5", 0o600),
        ("unix:/run/m.sock:mode=660", 0o660),
        ("unix:/run/m.sock:660", 0o660),
    ],
)
def test_a_unix_socket_is_private_unless_it_is_said(text, mode):
    """Mode 600; every mode that was chosen stays as it is."""
    assert parse(text).private().source.mode == mode


def test_other_endpoints_stay_as_they_are():
    """Privacy is about UNIX sockets."""
    assert parse("tcp:8022").private() == parse("tcp:8022")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("tcp:8081", "0.0.0.0"),
        ("tcp:8081:interface=127.0.0.1", None),
        ("tcp:8081:interface=127.9.9.9", None),
        ("tcp:8081:interface=10.0.0.1", "10.0.0.1"),
        ("tcp:8081:interface=::1", None),
        ("tcp6:8081", "::"),
        ("tcp:8081:interface=fe80\\:\\:1%lo", "fe80::1"),
        ("haproxy:tcp:8081", "0.0.0.0"),
        ("unix:/run/m.sock:mode=666", None),
    ],
)
def test_who_can_reach_it_shows_in_the_string(text, address):
    """Loopback and UNIX sockets are this machine's; everything else is public."""
    assert public_address(parse(text).source) == address


def test_an_inherited_socket_is_asked(tmp_path):
    """It is what it was bound to, whatever its number; one that is none is not judged."""
    for host, address in (("127.0.0.1", None), ("0.0.0.0", "0.0.0.0")):
        with socket.create_server((host, 0)) as listening:
            source = parse(f"fd:{listening.fileno()}").source
            assert (public_address(source), is_shared_unix(source)) == (address, False)
    path = tmp_path / "sock"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        source = parse(f"fd:{listening.fileno()}").source
        for mode, shared in ((0o600, False), (0o660, True)):
            path.chmod(mode)
            assert (public_address(source), is_shared_unix(source)) == (None, shared)
    assert public_address(parse("fd:999").source) is None


def test_a_unix_socket_is_shared_by_its_mode():
    """With those who may connect."""
    assert is_shared_unix(parse("unix:/run/m.sock:mode=660").source)
    assert not is_shared_unix(parse("unix:/run/m.sock").private().source)
    assert not is_shared_unix(parse("tcp:80").source)
