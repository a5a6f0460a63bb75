"""What a pex unpacks itself to, recorded when it is built, so that its first start need only write it down.

Left to itself, pex spends most of a first start on finding out what its virtual environment has to hold, and
Python the rest on compiling it.
Both are the same each time, for one minor version of Python: here pex is run once, and what it made goes into
the file, as names of the members to copy, as texts, and compiled.
`first_start_main.txt` is the code that writes it down, in the place where pex would have.
"""

from __future__ import annotations

import json
import marshal
import os
import re
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from halfsync.build.command import last_words, run
from halfsync.build.errors import BuildError
from halfsync.build.reached import reached

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CODE = Path(__file__).with_name("first_start_main.txt")
MEMBER = ".bootstrap/first-start"
"""Where the record is in the archive: pex takes no notice of it there."""
COMPILED = f"{MEMBER}-compiled"
"""Where what is compiled is, in pieces."""
PIECE = 1 << 19
"""Bytes of a piece before it is compressed, about: as many as a processor holds near to it."""
MTIME = 315532800
"""Of each source that is unpacked, 1980-01-01: what is compiled names it, as Python compares it."""
_PLACE = re.compile(rb'INSTALLED_PEX="\$\{PEX_ROOT\}/([\w/]+)"')
_SHORT = rb"/venvs/\d+/s/[0-9a-f]+/venv"
"""pex's shorter name for the place, for first lines of scripts."""
_PLACED = b"{[first-start]}"
_SCRIPTS = re.compile(rb"(?m)^((?:\.\./)+bin/[^,\n]+),[^,\n]*,\d*")
"""Of RECORD: the hash of a script, which has the place in its first line."""
_TESTS = {"test", "tests"}
"""Folders that are not compiled: nobody imports them where a service runs."""
_COMPILE = """
import json, py_compile, sys
for source, name, target in json.load(open(sys.argv[1])):
    try:
        py_compile.compile(source, target, name, doraise=True,
                           invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
    except py_compile.PyCompileError:
        pass  # what no Python 3 reads, nobody imports
"""


@dataclass(frozen=True)
class Record:
    """What goes into a pex for its first start."""

    code: bytes
    """Python for `__main__.py`, ahead of pex's own."""
    folders: list[str]
    links: list[tuple[str, str]]
    texts: list[tuple[str, bytes, bool, bytes]]
    """What pex itself has written: name, content, whether it can be run, what stands in it for its place."""
    copies: list[tuple[str, str, int]]
    """Of members: name, member, CRC-32."""
    compiled: list[tuple[str, bytes]]

    def add_to(self, archive: zipfile.ZipFile) -> None:
        """Write it into an archive that has all its other members, as bytes that tell where each of them is.

        What is read by its place in the file costs less than what Python's import system finds in it.
        """
        pieces = [(zlib.compress(each, 9), len(each)) for each in self._pieces()]
        archive.writestr(zipfile.ZipInfo(COMPILED), b"".join(piece for piece, _ in pieces))
        places = {each.filename: _place(each) for each in archive.infolist()}
        copies = [(name, places[member], checksum) for name, member, checksum in self.copies]
        at, *_ = places[COMPILED]
        compiled = []
        for piece, length in pieces:
            compiled.append((at, len(piece), zlib.MAX_WBITS, length))
            at += len(piece)
        # Compressed by itself: its own checksum is compared when it is read.
        found = _dumps((self.folders, self.links, self.texts, copies, compiled, MTIME))
        archive.writestr(zipfile.ZipInfo(MEMBER), zlib.compress(found, 9))

    def _pieces(self) -> Iterator[bytes]:
        piece: list[tuple[str, bytes]] = []
        for each in self.compiled:
            piece.append(each)
            if sum(len(code) for _, code in piece) >= PIECE:
                yield _dumps(piece)
                piece = []
        if piece:
            yield _dumps(piece)


def _dumps(value: Any) -> bytes:
    # Without references to what was seen before, which depend on what else Python holds: the same bytes.
    return marshal.dumps(value, 2)


def _place(member: zipfile.ZipInfo) -> tuple[int, int, int, int]:
    """Return where the data of a member is: offset, bytes, zlib's window (0: not compressed), bytes then."""
    at = member.header_offset + len(member.FileHeader())
    wbits = 0 if member.compress_type == zipfile.ZIP_STORED else -zlib.MAX_WBITS
    return at, member.compress_size, wbits, member.file_size


def record(pex: Path, python: Path) -> Record:
    """Run a pex that was just made, and return what it has unpacked itself to.

    :param python: for which it was made, of the minor version that runs this.
    :raises BuildError: when it does not run, or unpacks itself otherwise than pex 2.105 does.
    """
    found = _PLACE.search(pex.read_bytes())
    if not found:
        raise BuildError("pex: its shell script is not that of pex 2.105, which halfsync.build knows")
    place = found[1].decode()
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve() / "root"
        environ = {"PEX_ROOT": str(root), "PEX_INTERPRETER": "1", "HOME": name, "PATH": os.defpath}
        # By its name alone, since that is what pex-repl is told.
        done = run([str(python), pex.name, "-c", "pass"], pex.parent, environ)
        if done.returncode != 0 or not (root / place / "pyvenv.cfg").is_file():
            raise BuildError(f"pex: the file that it made does not unpack itself: {last_words(done)}")
        with zipfile.ZipFile(pex) as archive:
            members = {each.filename: each.CRC for each in archive.infolist()}
        call = f"__first_start__({place!r}, {MEMBER!r}, {sys.implementation.cache_tag!r})\n"
        return _record(CODE.read_bytes() + call.encode(), root / place, root, members)


def _record(code: bytes, venv: Path, root: Path, members: Mapping[str, int]) -> Record:
    texts: list[tuple[str, bytes, bool, bytes]] = []
    copies: list[tuple[str, str, int]] = []
    links: list[tuple[str, str]] = []
    sources: list[tuple[str, str]] = []
    place = re.compile(re.escape(str(root).encode()) + rb"(?:%s|/%s)" % (_SHORT, _relative(venv, root)))
    for path in _files(venv):
        name = path.relative_to(venv).as_posix()
        if path.is_symlink() and "/" not in str(path.readlink()):
            links.append((name, str(path.readlink())))
            continue
        if path.is_symlink() and path.parent == venv / "bin" and path.name.startswith("python"):
            continue  # the interpreter, which is not known yet
        data = path.read_bytes()
        member = _member(path.resolve(), root)
        if members.get(member) == zlib.crc32(data):
            copies.append((name, member, zlib.crc32(data)))
        elif name != "pyvenv.cfg":
            text = place.sub(_PLACED, _SCRIPTS.sub(rb"\1,,", data) if path.name == "RECORD" else data)
            if str(root).encode() in text:
                raise BuildError(f"pex: {name}: it names its place otherwise than that of pex 2.105")
            placed = _PLACED if _PLACED in text else b""
            texts.append((name, text, os.access(path, os.X_OK), placed))
        sources += [(name, str(path))] if _is_compiled(path.relative_to(venv)) else []
    needed = reached({_module(name): Path(path) for name, path in sources})
    compiled = _compiled([each for each in sources if _module(each[0]) in needed], root / "compiled")
    names = [each[0] for rows in (links, texts, copies, compiled) for each in rows]
    folders = {parent.as_posix() for name in names for parent in Path(name).parents} - {"."}
    return Record(code, sorted(folders), links, texts, copies, compiled)


def _relative(venv: Path, root: Path) -> bytes:
    return re.escape(venv.relative_to(root).as_posix().encode())


def _files(folder: Path) -> Iterator[Path]:
    """Walk what pex has made, in the order of names; into the folders that it has linked too."""
    for path in sorted(folder.iterdir()):
        linked = path.is_symlink() and "/" not in str(path.readlink())  # lib64
        if path.is_dir() and not linked:
            yield from _files(path) if path.name != "__pycache__" else ()
        else:
            yield path


def _member(path: Path, root: Path) -> str:
    """Return the member of the archive that pex has unpacked to a path."""
    kind, *rest = path.relative_to(root).parts
    if kind == "installed_wheels":  # /3/<hash>/<wheel>/...
        return "/".join([".deps", *rest[2:]])
    if kind == "user_code":  # /0/<hash>/...
        return "/".join(rest[2:])
    return "/".join(rest).partition("/site-packages/")[2]


def _is_compiled(path: Path) -> bool:
    return path.suffix == ".py" and path.parts[0] == "lib" and not _TESTS & set(path.parts)


def _module(name: str) -> str:
    """Return the module whose source is called so, below `site-packages`."""
    return name.partition("site-packages/")[2].removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _compiled(sources: list[tuple[str, str]], folder: Path) -> list[tuple[str, bytes]]:
    """Compile sources in a Python that has nothing else in it; return where each result goes."""
    folder.mkdir()
    jobs = []
    for number, (name, source) in enumerate(sources):
        os.utime(source, (MTIME, MTIME))
        jobs.append((source, name.partition("site-packages/")[2], str(folder / str(number))))
    given = folder / "jobs"
    given.write_text(json.dumps(jobs), encoding="utf-8")
    alone = [sys.executable, "-W", "ignore", "-S", "-s", "-P", "-c", _COMPILE, str(given)]
    done = run(alone, folder, {"PYTHONHASHSEED": "0"})
    if done.returncode != 0:
        raise BuildError(f"compiling what the pex holds: {last_words(done)}")
    tag = sys.implementation.cache_tag
    found = []
    for (name, _), (*_, target) in zip(sources, jobs, strict=True):
        path = Path(name)
        if Path(target).is_file():
            place = path.parent / "__pycache__" / f"{path.stem}.{tag}.pyc"
            found.append((place.as_posix(), Path(target).read_bytes()))
    return found
