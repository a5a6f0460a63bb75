"""What a pex's first start writes down: recorded by the build, here of archives that only look like a pex."""

from __future__ import annotations

import marshal
import sys
import zipfile
import zlib
from pathlib import Path

import pytest

from halfsync.build import first_start
from halfsync.build.errors import BuildError


def a_pex(path, **members):
    """Make an archive that looks like a pex to what reads it for its first start, and nothing more."""
    path.write_text('INSTALLED_PEX="${PEX_ROOT}/venvs/4/ab/cd"\n')
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in {"__main__": "", **members}.items():
            archive.writestr(f"{name}.py", text)
    return path


@pytest.mark.parametrize("main", ["raise SystemExit('no room')", ""])
def test_a_pex_that_does_not_unpack_itself_is_not_recorded(tmp_path, main):
    """Neither one that fails, nor one that unpacks itself to somewhere else: the build says so."""
    with pytest.raises(BuildError, match="the file that it made does not unpack itself"):
        first_start.record(a_pex(tmp_path / "some.pex", __main__=main), Path(sys.executable))


UNPACKS = """
import os, pathlib
site = pathlib.Path(os.environ["PEX_ROOT"], "venvs/4/ab/cd/lib/site-packages")
(site / "tests").mkdir(parents=True)
for name, text in FILES.items():
    (site / name).write_text(text.replace("ROOT", os.environ["PEX_ROOT"]))
(site.parents[1] / "pyvenv.cfg").touch()
"""


def written(record, pex):
    """Write a record into a copy of its archive; return its index, and what reads a piece."""
    path = pex.with_suffix(".written")
    path.write_bytes(pex.read_bytes())
    with zipfile.ZipFile(path, "a") as archive:
        record.add_to(archive)
        index = marshal.loads(zlib.decompress(archive.read(first_start.MEMBER)))
    data = path.read_bytes()

    def read(at, size, wbits, length):
        piece = data[at : at + size]
        unpacked = zlib.decompress(piece, wbits) if wbits else piece
        assert len(unpacked) == length
        return unpacked

    return index, read


def test_a_record_is_of_what_pex_made(tmp_path):
    """Members are named, other files are in it, compiled is what Python reads and no test of a dependency."""
    files = {"a.py": "A = 1\n", "two.py": "print 2\n", "tests/b.py": "", "own.txt": "ROOT/venvs/4/ab/cd/bin"}
    pex = a_pex(tmp_path / "some.pex", __main__=f"FILES = {files}\n{UNPACKS}", a=files["a.py"])
    found = first_start.record(pex, Path(sys.executable))
    site = "lib/site-packages"
    assert found.folders == ["lib", site, f"{site}/__pycache__", f"{site}/tests"]
    assert [each[:2] for each in found.copies] == [(f"{site}/a.py", "a.py")]
    named = {
        name: text.replace(placed, b"PLACE") if placed else text for name, text, _, placed in found.texts
    }
    assert named == {
        f"{site}/two.py": b"print 2\n",
        f"{site}/tests/b.py": b"",
        f"{site}/own.txt": b"PLACE/bin",
    }
    assert [name for name, _ in found.compiled] == [
        f"{site}/__pycache__/a.{sys.implementation.cache_tag}.pyc"
    ]
    assert first_start.record(pex, Path(sys.executable)) == found


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_record_tells_where_the_bytes_are(tmp_path, compression):
    """Of members, compressed or not, and of what is compiled, in pieces; with text ahead of it all."""
    pex = tmp_path / "some.pex"
    pex.write_bytes(b"#!/bin/sh\n")
    contents = {"a.py": b"A = 1\n" * 99, "name-\xe9.py": b"E = 2\n", "empty.py": b""}
    with zipfile.ZipFile(pex, "a", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    copies = [(f"lib/{name}", name, zlib.crc32(content)) for name, content in contents.items()]
    compiled = [(f"{number}.pyc", bytes([number]) * (first_start.PIECE // 3 + 1)) for number in range(7)]
    record = first_start.Record(b"", ["lib"], [("lib64", "lib")], [], copies, compiled)
    (folders, links, texts, places, pieces, mtime), read = written(record, pex)
    assert (folders, links, texts, mtime) == (["lib"], [("lib64", "lib")], [], first_start.MTIME)
    assert {name: (read(*place), checksum) for name, place, checksum in places} == {
        f"lib/{name}": (content, zlib.crc32(content)) for name, content in contents.items()
    }
    assert len(pieces) == 3
    assert [each for piece in pieces for each in marshal.loads(read(*piece))] == compiled


def test_a_place_that_is_named_otherwise_is_not_recorded(tmp_path):
    """A newer pex, whose files name the folder in another way, is found out when it builds."""
    main = f"FILES = {{'own.txt': 'ROOT/elsewhere'}}\n{UNPACKS}"
    with pytest.raises(BuildError, match=r"own\.txt: it names its place otherwise than that of pex 2\.105"):
        first_start.record(a_pex(tmp_path / "some.pex", __main__=main), Path(sys.executable))
