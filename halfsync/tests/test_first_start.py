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


def test_a_record_is_of_what_pex_made(tmp_path):
    """Members are named, other files are in it, compiled is what Python reads and no test of a dependency."""
    files = {"a.py": "A = 1\n", "two.py": "print 2\n", "tests/b.py": "", "own.txt": "ROOT/venvs/4/ab/cd/bin"}
    pex = a_pex(tmp_path / "some.pex", __main__=f"FILES = {files}\n{UNPACKS}", a=files["a.py"])
    found = first_start.record(pex, Path(sys.executable))
    folders, _, texts, copies, compiled, _ = marshal.loads(zlib.decompress(found.data))
    site = "lib/site-packages"
    assert folders == ["lib", site, f"{site}/__pycache__", f"{site}/tests"]
    assert [each[:2] for each in copies] == [(f"{site}/a.py", "a.py")]
    named = {name: text.replace(placed, b"PLACE") if placed else text for name, text, _, placed in texts}
    assert named == {
        f"{site}/two.py": b"print 2\n",
        f"{site}/tests/b.py": b"",
        f"{site}/own.txt": b"PLACE/bin",
    }
    assert [name for name, _ in compiled] == [f"{site}/__pycache__/a.{sys.implementation.cache_tag}.pyc"]
    assert first_start.record(pex, Path(sys.executable)) == found


def test_a_place_that_is_named_otherwise_is_not_recorded(tmp_path):
    """A newer pex, whose files name the folder in another way, is found out when it builds."""
    main = f"FILES = {{'own.txt': 'ROOT/elsewhere'}}\n{UNPACKS}"
    with pytest.raises(BuildError, match=r"own\.txt: it names its place otherwise than that of pex 2\.105"):
        first_start.record(a_pex(tmp_path / "some.pex", __main__=main), Path(sys.executable))
