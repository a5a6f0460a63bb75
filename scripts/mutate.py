"""Mutation testing of a module of the library: whether a test fails when the code says something else.

    make mutate ARGS=http/parser                  one module below halfsync/src/halfsync, without .py
    make mutate ARGS="periodic --most 200"         more mutants than the 60 that are drawn by default
    make mutate ARGS="workers/pool --tests test_workers test_overload"

Each mutant changes one place: a comparison, `and`, `not`, a sum, a number, True, what is returned; or a call
or `raise` is left out. It is written into a copy of the library, and the module's tests run there.
The tools for this (mutmut, cosmic-ray) either run tests in one process, while many of ours start processes
of their own, or change the files in the checkout itself.
docs/mutations.md has what survived, and why.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LIBRARY = Path(__file__).parents[1] / "halfsync"
PACKAGE = Path("src/halfsync")

TESTS = {
    "admin/probe": ("test_probe",),
    "admin/": ("test_admin",),
    "background": ("test_background",),
    "deadline": ("test_deadline",),
    "flags/": ("test_flags",),
    "handover/": ("test_handover",),
    "http/head": ("test_head", "test_parser", "test_strict"),
    "http/parser": ("test_parser", "test_strict", "test_wires"),
    "life/about": ("test_about",),
    "life/allocator": ("test_collector",),
    "life/collector": ("test_collector",),
    "life/dump": ("test_stacks",),
    "life/errors": ("test_start_errors",),
    "life/facts": ("test_stacks", "test_metrics", "test_admin"),
    "life/last_resort": ("test_signals",),
    "life/open_files": ("test_open_files",),
    "life/parts": ("test_lifecycle",),
    "life/process": ("test_lifecycle",),
    "life/reactors": ("test_reactors",),
    "life/reload": ("test_reload",),
    "life/run": ("test_run", "test_signals"),
    "life/signals": ("test_signals",),
    "life/sockets": ("test_run", "test_lifecycle"),
    "life/stacks": ("test_stacks", "test_signals"),
    "life/stalls": ("test_stalls",),
    "life/systemd": ("test_systemd",),
    "logs/": ("test_log_lines", "test_logs"),
    "manhole/masking": ("test_manhole_masking",),
    "manhole/options": ("test_manhole_options",),
    "manhole/shown": ("test_manhole_interpreter",),
    "periodic": ("test_periodic",),
    "tasks": ("test_periodic",),
    "workers/": ("test_workers", "test_stuck", "test_overload", "test_shedding"),
}
"""The tests of a module, by how its name begins."""

SWAPPED: dict[type[ast.AST], type[ast.AST]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
}

NO_PROMISE = frozenset({"log", "audit"})
"""Calls on these names are not left out: whether an event is logged at level debug is no promise."""

SLOWER = 4
"""Times as long as the tests take otherwise, after which a mutant that hangs has been noticed."""


class Mutant(NamedTuple):
    """One change of a source."""

    line: int
    before: str
    after: str
    source: str


def mutants(source: str) -> Iterator[Mutant]:
    """Return every mutant of a module; comments and layout stay where they are."""
    lines = source.splitlines(keepends=True)
    # Columns of `ast` are bytes.
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))
    data = source.encode()
    for node, changed in _changes(ast.parse(source)):
        begin = starts[node.lineno - 1] + node.col_offset
        end = starts[(node.end_lineno or 0) - 1] + (node.end_col_offset or 0)
        text = ast.unparse(changed)
        # What was an operand, or went over several lines, stays one.
        text = f"({text})" if isinstance(changed, ast.expr) else text
        before = " ".join(data[begin:end].decode().split())
        yield Mutant(node.lineno, before, text, (data[:begin] + text.encode() + data[end:]).decode())


def _changes(tree: ast.Module) -> Iterator[tuple[ast.expr | ast.stmt, ast.expr | ast.stmt]]:
    for node in _run(tree):
        match node:
            case ast.Compare(ops=[operator]) if type(operator) in SWAPPED:
                yield node, ast.Compare(node.left, [_swapped(operator)], node.comparators)  # type: ignore[list-item]
            case ast.BoolOp():
                yield node, ast.BoolOp(_swapped(node.op), node.values)  # type: ignore[arg-type]
            case ast.BinOp(op=operator) if type(operator) in SWAPPED:
                yield node, ast.BinOp(node.left, _swapped(operator), node.right)  # type: ignore[arg-type]
            case ast.UnaryOp(op=ast.Not()):
                yield node, node.operand
            case ast.Constant(value=bool(value)):
                yield node, ast.Constant(not value)
            case ast.Constant(value=int(value)):
                yield node, ast.Constant(value + 1)
            case ast.Return(value=ast.expr() as value) if not _is_none(value):
                yield node, ast.Return(ast.Constant(None))
            case ast.Raise() | ast.Expr(value=ast.Call() | ast.Await()) if _promises(node):
                yield node, ast.Pass()


def _run(node: ast.AST) -> Iterator[ast.AST]:
    """Walk through what runs: no annotation, no docstring, nothing that is for type checkers only."""
    yield node
    for name, field in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list"):
            continue
        for child in field if isinstance(field, list) else [field]:
            types = isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"
            if isinstance(child, ast.AST) and not types and not isinstance(child, ast.JoinedStr):
                yield from _run(child)


def _swapped(operator: ast.AST) -> ast.AST:
    return SWAPPED[type(operator)]()


def _is_none(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and value.value is None


def _promises(node: ast.Raise | ast.Expr) -> bool:
    return ast.unparse(node).partition(".")[0] not in NO_PROMISE


def killed(folder: Path, tests: Sequence[str], timeout: float) -> bool:
    """Say whether a test fails, or hangs, in a copy of the library."""
    environ = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": str(folder / "src")}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    with subprocess.Popen(  # noqa: S603  the command is ours
        command,
        cwd=folder,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as run:
        try:
            return run.wait(timeout) != 0
        except subprocess.TimeoutExpired:
            # With what the tests have started: it is a session of its own.
            os.killpg(run.pid, 9)
            return True


def main() -> int:
    """Try the mutants of one module, and print those that no test noticed; 1 when there are any."""
    parser = argparse.ArgumentParser(description="mutation testing of one module of the library")
    parser.add_argument("module", help="below halfsync/src/halfsync, without .py: http/parser")
    parser.add_argument("--tests", nargs="+", help="names of test modules; by default those of the module")
    parser.add_argument("--most", type=int, default=60, help="mutants that are drawn (60)")
    parser.add_argument("--seed", type=int, default=1, help="which are drawn (1)")
    asked = parser.parse_args()
    path = PACKAGE / f"{asked.module}.py"
    if not (LIBRARY / path).is_file():
        parser.error(f"{asked.module}: there is no {LIBRARY / path}")
    tests = asked.tests or next(
        (names for start, names in TESTS.items() if asked.module.startswith(start)), ()
    )
    if not tests:
        parser.error(f"{asked.module}: say which tests are its own: --tests test_...")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "halfsync")
        shutil.copytree(LIBRARY, folder, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        # Some tests read the documents beside the library.
        for name in ("docs", "README.md", "pyproject.toml"):
            Path(temporary, name).symlink_to(LIBRARY.parent / name)
        return _try(folder, path, [f"tests/{name}.py" for name in tests], asked.most, asked.seed)


def _try(folder: Path, path: Path, tests: list[str], most: int, seed: int) -> int:
    source = (folder / path).read_text()
    began = time.monotonic()
    if killed(folder, tests, 600):
        print(f"the tests fail without a mutant: {' '.join(tests)}", file=sys.stderr)
        return 2
    timeout = SLOWER * (time.monotonic() - began) + 5
    every = list(mutants(source))
    drawn = sorted(random.Random(seed).sample(every, min(most, len(every))))  # noqa: S311  no secret
    survivors = []
    for mutant in drawn:
        (folder / path).write_text(mutant.source)
        if not killed(folder, tests, timeout):
            survivors.append(mutant)
            print(f"{path}:{mutant.line}: {mutant.before}  ->  {mutant.after}", flush=True)
    dead = len(drawn) - len(survivors)
    print(f"{path}: {dead} of {len(drawn)} mutants were noticed ({len(every)} there are)")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
