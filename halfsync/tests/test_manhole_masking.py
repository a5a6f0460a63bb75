from __future__ import annotations

import ast

import pytest

from halfsync.manhole.masking import masked

SECRETS = ["db.token", "token", "a.b.c"]


@pytest.mark.parametrize(
    ("source", "logged"),
    [
        ("flags.db.token = 'hush'", "flags.db.token = '********'"),
        ("flags.db.token='it\\'s hush'; print(1)", "flags.db.token='********'; print(1)"),
        ("flags.db.token = r'hush' 'hush'", "flags.db.token = '********'"),
        ("flags.db.token = b'''hush'''  # note", "flags.db.token = '********'  # note"),
        ("flags.db.token = (\n  'hush'\n  'hush'\n)", "flags.db.token = (\n  '********'\n)"),
        ('flags.db.token = """hush\nhush"""; f()', "flags.db.token = '********'; f()"),
        ("&  flags.db.token = 'hush'", "&  flags.db.token = '********'"),
        ("!flags.token = 'hush'", "!flags.token = '********'"),
        ("'ä'; flags.db.token = 'hüsh'; 'ö'", "'ä'; flags.db.token = '********'; 'ö'"),
        ("flags.a.b.c = 12345\nif x:\n    f()", "flags.a.b.c = '********'\nif x:\n    f()"),
        ("flags.token = 'a'; flags.db.token = 'b'", "flags.token = '********'; flags.db.token = '********'"),
        ("flags.name = 'x'; flags.token = 'a'\r\nf()", "flags.name = 'x'; flags.token = '********'\nf()"),
        ("flags.token = 'a'; flags = Other()", "flags.token = '********'; flags = Other()"),
    ],
)
def test_a_constant_for_a_secret_flag_is_not_logged(source, logged):
    """The rest of the line is as it was typed."""
    assert masked(source, SECRETS) == logged


@pytest.mark.parametrize(
    "source",
    [
        'flags.db.token = f"{evil()}"',
        "flags.db.token = 'a' + evil()",
        "flags.db.token = 'a', evil()",
        "flags.db.token = 'a' if evil() else 'b'",
        "flags.db.token = 'a'.join(evil())",
        "flags.db.token = 'a' f'{evil()}'",
        "flags.db.token = [evil() for _ in 'x']",
        "flags.db.token = -1",
        "flags.db.token = other.text = 'evil()'",
        "flags.db.token += 'evil()'",
        "flags.db.name = 'shown'; flags.tokens = 'shown'",
        "token = 'evil()'; exec(token)",
        "x.db.token = 'evil()'; exec(x.db.token)",
        "connect(token='shown')",
        "flags.db.token == 'asked'",
        "flags['db'].token = 'shown'",
        "flags.db.token = 'unfinished",
        'flags.db.token = """unfinished',
        "    flags.db.token = 'within something'",
        "flags.db.token = '\0'",
        "\ufeffflags.db.token = 'shown'",
        "(" * 5000,
        "flags = Other(); flags.token = 'evil()'",
        "(flags := Other()); flags.token = 'evil()'",
        "def f(flags): flags.token = 'evil()'",
        "def f(*flags): flags.token = 'evil()'",
        "import other as flags; flags.token = 'evil()'",
        "from other import flags; flags.token = 'evil()'",
        "from other import *; flags.token = 'evil()'",
        "import flags.other; flags.token = 'evil()'",
        "for flags in others: flags.token = 'evil()'",
        "with other as flags: flags.token = 'evil()'",
        "class flags: pass\nflags.token = 'evil()'",
        "def flags(): pass\nflags.token = 'evil()'",
        "try: f()\nexcept Exception as flags: flags.token = 'evil()'",
        "match other:\n  case flags: flags.token = 'evil()'",
        "match other:\n  case [*flags]: flags.token = 'evil()'",
        "match other:\n  case {**flags}: flags.token = 'evil()'",
        "del flags; flags.token = 'evil()'",
        "globals()['flags'] = Other(); flags.token = 'evil()'",
        "exec('flags = Other()'); flags.token = 'evil()'",
        "type(flags).__setattr__ = f; flags.token = 'evil()'",
        "flags.name = f(); flags.token = 'evil()'",
        "f()\nflags.token = 'evil()'",
        "'a'.x; flags.token = 'evil()'",
        "if f():\n    flags.token = 'evil()'",
        "await f(); flags.token = 'evil()'",
    ],
)
def test_code_is_always_logged(source):
    """What is no constant in an assignment to that flag stays, and what cannot be parsed by itself.

    So does what comes after anything else that runs: it may have made `flags` what runs the constant.
    """
    assert masked(source, SECRETS) == source


def test_without_a_secret_flag_everything_stays():
    """Nothing is parsed either."""
    assert masked("flags.db.token = 'shown'", []) == "flags.db.token = 'shown'"


def test_an_odd_escape_is_no_reason_to_show_a_secret():
    """The compiler's warning, which may be an error, is for when the line is run."""
    assert masked(r"flags.token = 'hu\sh'", SECRETS) == "flags.token = '********'"


def test_what_is_masked_is_what_python_reads_as_the_constant():
    """A place that is off by one would hide code: what is left parses to the same but for the constant."""
    source = "x = 'ä' ; flags.token = 'ö' 'ü' ; y = (1,\n 'ß') ; flags.db.token = 7 ; z = evil('é')"
    before, after = ast.parse(source), ast.parse(masked(source, SECRETS))
    for tree in (before, after):
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).startswith("flags"):
                node.value = ast.Constant(0)
    assert ast.dump(before) == ast.dump(after)
