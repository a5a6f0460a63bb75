"""Whatever an event holds, its line is JSON for the strictest reader, and not too long."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from halfsync.logs.render import console, json_line, timestamp

orjson = pytest.importorskip("orjson")

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
VALUES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(TEXTS | st.integers() | st.none(), inner)
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
    assert json.loads(line, parse_constant=pytest.fail).keys() == strict.keys()
    shown = console(colours=False, max_line=max_line)({**head, **fields, **head})
    assert shown.endswith("\n")
