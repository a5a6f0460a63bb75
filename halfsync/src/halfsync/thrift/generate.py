"""Make the Python of a package's IDL anew: all of `gen/`, from the `.thrift` files beside it, with types.

    python -m halfsync.thrift.generate hello_service        # a service's `make thrift`

`hello.thrift` begins with `namespace py hello_service.gen.hello`, and becomes `hello_service/gen/hello/`.
What stands in `gen/` is made whole or left as it was, and what has no IDL any more goes.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from halfsync.thrift import stubs

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPILER = "thrift"
NO_COMPILER = (
    "there is no compiler of Thrift. Debian, Ubuntu: apt install thrift-compiler; "
    "others: https://thrift.apache.org/download, 0.17 or newer"
)


class GenerateError(Exception):
    """The code cannot be made. One line, or what the compiler said, for a person."""


def generate(package: str) -> list[Path]:
    """Make a package's `gen/`, and return the folders in it.

    :raises GenerateError: when there is no compiler or no IDL, or what it finds in one is wrong.
    """
    found = find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise GenerateError(f"{package!r} is no package that can be imported here")
    folder = Path(found.submodule_search_locations[0])
    compiler = shutil.which(COMPILER)
    if compiler is None:
        raise GenerateError(NO_COMPILER)
    sources = sorted(folder.glob("*.thrift"))
    if not sources:
        raise GenerateError(f"there is no .thrift file in {folder}")
    with TemporaryDirectory() as temporary:
        new = Path(temporary, "gen")
        new.mkdir()
        new.joinpath("__init__.py").touch()
        for source in sources:
            # Apart: the compiler makes an __init__.py for the package itself, too.
            made = _compile(compiler, source, package, Path(temporary, source.stem))
            shutil.copytree(made, new / made.name, ignore=shutil.ignore_patterns("*-remote"))
        shutil.rmtree(folder / "gen", ignore_errors=True)
        shutil.copytree(new, folder / "gen")
    folders = sorted(path for path in (folder / "gen").iterdir() if path.is_dir())
    for each in folders:
        stubs.write(f"{package}.gen.{each.name}")
        shutil.rmtree(each / "__pycache__", ignore_errors=True)
    return folders


def _compile(compiler: str, source: Path, package: str, into: Path) -> Path:
    """Return the folder with the code of one IDL."""
    into.mkdir()
    command = [compiler, "--gen", "py:slots", "-out", str(into), str(source)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603  Thrift's compiler
    if run.returncode:
        raise GenerateError((run.stderr or run.stdout).strip())
    gen = into.joinpath(*package.split("."), "gen")
    made = {path.parent for path in into.rglob("ttypes.py")}
    if len(made) != 1 or made.copy().pop().parent != gen:
        raise GenerateError(f"{source.name}: say `namespace py {package}.gen.{source.stem}` at its top")
    return made.pop()


def main(arguments: Sequence[str]) -> int:
    """Make the code of one package."""
    if len(arguments) != 1:
        print("usage: python -m halfsync.thrift.generate PACKAGE", file=sys.stderr)  # noqa: T201  for a person
        return 2
    try:
        for folder in generate(arguments[0]):
            print(f"{folder} is made anew")  # noqa: T201  the same
    except GenerateError as error:
        print(error, file=sys.stderr)  # noqa: T201  the same
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
