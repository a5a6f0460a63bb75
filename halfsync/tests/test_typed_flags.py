"""`halfsync.flag` is oscar.flag, with types."""

from __future__ import annotations

import sys

import oscar.flag

from checkers import mypy, pyright
from halfsync import flag

SERVICE = '''
from halfsync import flag, flags


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """Of each kind one."""

    url = flag.String("A page.", default="")
    tries = flag.Int("Times.", default=3)
    ports = flag.List(flag.Int, ",", "Ports.", default=[1])
    every = flags.Seconds("Time between two.", default=30)
    room = flags.Size("Bytes.", default=1024)


def values() -> tuple[str, int, list[int], float, int]:
    return FLAGS.url, FLAGS.tries, FLAGS.ports, FLAGS.every, FLAGS.room


wrong: int = FLAGS.url
'''


def test_one_module_under_two_names():
    """A flag that is declared through either name is declared once."""
    assert flag is oscar.flag
    assert sys.modules["halfsync.flag"] is oscar.flag
    assert flag.GLOBAL_FLAGS is oscar.flag.GLOBAL_FLAGS


def test_values_have_types_for_mypy(tmp_path):
    """`mypy --strict` takes a class of declarations for the values that its flags have, and nothing else."""
    assert mypy(SERVICE, tmp_path) == [
        'Incompatible types in assignment (expression has type "str", variable has type "int")  [assignment]'
    ]


def test_values_have_types_for_pyright(tmp_path):
    """And so does pyright in its strict mode."""
    assert pyright(SERVICE, tmp_path) == ['Type "str" is not assignable to declared type "int"']
