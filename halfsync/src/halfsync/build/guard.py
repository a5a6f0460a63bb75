"""What a pex says where it cannot start: one line for a person.

pex itself prints a page of what it has looked at, or a traceback.
The file that pex made is written anew, with a few lines ahead of its `__main__.py`, and one in the place of
many at the end of its shell script.
They run at the first start only: later ones go to the unpacked file at once.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from halfsync.build.errors import BuildError

if TYPE_CHECKING:
    from halfsync.build.first_start import Record
    from halfsync.build.targets import Aim

GUARD = Path(__file__).with_name("guard_main.txt")
"""Python for any version, 2.7 too: the one that runs it may be the wrong one."""
AHEAD_OF = b"\nimport os\n"
NOTHING_FOUND = b'echo >&2 "Failed to find any of these python binaries on the PATH:"\n'
CHANGES_NOTHING = b"set -eu\n"
"""The first command of pex's shell script."""
PYTHON_ARGS = b'PYTHON_ARGS=""\n'
WITHOUT_SITE = b'PYTHON_ARGS="-S"\n'
"""Options of the Python that does the first start: what is installed beside it is of no use then."""
READ_ONLY = b': "${_PEX_CACHE_SET_LAST_ACCESS:=0}"; export _PEX_CACHE_SET_LAST_ACCESS\n'
"""Else each start is noted in PEX_ROOT, and fails where that is read-only or another user's (venv_pex.py)."""


def guard(pex: Path, name: str, aim: Aim, first: Record | None = None) -> None:
    """Write a pex anew, so that it says in a line what it needs.

    :param first: how its first start goes, which is left to pex when there is none.
    :raises BuildError: when the file is not as pex 2.105 makes it.
    """
    data = pex.read_bytes()
    with zipfile.ZipFile(pex) as archive:
        members = [(each, archive.read(each)) for each in archive.infolist()]
        start = min(each.header_offset for each, _ in members)
    with pex.open("wb") as file:
        file.write(_script(data[:start], aim, WITHOUT_SITE if first else PYTHON_ARGS))
        with zipfile.ZipFile(file, "w") as archive:
            for member, content in members:
                main = member.filename == "__main__.py"
                archive.writestr(member, _main(content, name, aim, first) if main else content)
            if first:
                first.add_to(archive)
    pex.chmod(0o755)


def _script(script: bytes, aim: Aim, options: bytes) -> bytes:
    head, _, rest = script.partition(CHANGES_NOTHING)
    before, _, after = rest.partition(NOTHING_FOUND)
    if not rest or not after or PYTHON_ARGS not in before:
        raise BuildError("pex: its shell script is not that of pex 2.105, which halfsync.build knows")
    line = f'echo >&2 "$0: it needs {aim.wanted()}, and there is no Python on the PATH: $PATH"\nexit 1\n\n'
    return head + CHANGES_NOTHING + READ_ONLY + before.replace(PYTHON_ARGS, options) + line.encode()


def _main(content: bytes, name: str, aim: Aim, first: Record | None) -> bytes:
    before, found, after = content.partition(AHEAD_OF)
    if not found:
        raise BuildError("pex: its __main__.py is not that of pex 2.105, which halfsync.build knows")
    call = f"__guard__({name!r}, {aim.wanted()!r}, {tuple(aim.pythons)!r}, {aim.system!r}, "
    call += f"{tuple(aim.machines)!r}, {aim.glibc!r})\n"
    ahead = GUARD.read_bytes() + call.encode() + (b"\n\n" + first.code if first else b"")
    return before + b"\n" + ahead + found + after
