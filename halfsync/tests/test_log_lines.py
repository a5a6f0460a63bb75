"""Whatever an event holds, its line is JSON for the strictest reader, and not too long."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfsync.logs.render import console, json_line, timestamp

orjson = pytest.importorskip("orjson")

DEEPEST = 64
"""Levels that the reader of .NET takes; Ruby's takes 100, serde_json (Rust) 128, PHP's 512."""


def _nested(value):
    for level in range(200):
        value = {"a": value} if level % 2 else [value]
    return value


TEXTS = st.text(st.characters(exclude_categories=()), max_size=40) | st.builds(
    lambda text, times: text * times,
    st.text(st.characters(exclude_categories=()), min_size=1),
    st.integers(1, 3000),
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    TEXTS,
    st.binary(),
    st.builds(ValueError, TEXTS),
    st.just(object),
)
# Pairs of keys that have the same text, or come to have it.
KEYS = TEXTS | st.integers() | st.sampled_from([1, "1", True, "True", None, "None", "\ud800", "\\ud800"])
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(KEYS, inner) | st.builds(_nested, inner)
    ),
    max_leaves=20,
)


@settings(max_examples=150, deadline=None, database=None)
@given(st.dictionaries(TEXTS, VALUES, max_size=20), st.sampled_from([1024, 4096, 16_384]))
def test_any_event(fields, max_line):
    """Both forms are one line; that of JSON is read by everyone, and its head is whole."""
    head = {"timestamp": timestamp(0), "level": "info", "logger": "l", "event": "e"}
    line = json_line({**fields, **head}, max_line)
    assert line.isascii()
    assert line.endswith("\n")
    assert line.count("\n") == 1
    assert len(line) <= max_line
    strict = orjson.loads(line)
    assert isinstance(strict, dict)
    read = json.loads(line, parse_constant=pytest.fail, object_pairs_hook=_unique)
    assert read.keys() == strict.keys()
    assert _depth(read) <= DEEPEST
    shown = console(colours=False, max_line=max_line)({**head, **fields, **head})
    assert shown.endswith("\n")


def _unique(pairs):
    assert len(dict(pairs)) == len(pairs), f"a key twice: {pairs}"
    return dict(pairs)


def _depth(value):
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return 0 if inner is None else 1 + max(map(_depth, inner), default=0)


def test_two_keys_of_one_text():
    """Neither is lost, and no reader refuses the line: {1: ..., "1": ...} is written as text."""
    line = json_line({"event": "e", "value": {1: "first", "1": "second"}})
    assert json.loads(line)["value"] == "{1: 'first', '1': 'second'}"


def test_values_nested_without_end():
    """What strict readers follow stays as it is; what is deeper becomes text, so that they take the line."""
    shallow, deep = [[[{"a": [1]}]]], _nested("x")
    assert json.loads(json_line({"event": "e", "value": shallow}))["value"] == shallow
    found = json.loads(json_line({"event": "e", "value": deep, "more": 1}))
    assert found["more"] == 1
    assert 20 < _depth(found) <= DEEPEST
