"""The body of a request in memory is a file like any other, however the application reads it."""

from __future__ import annotations

import io
import random

import pytest

from halfsync.http.account import Account
from halfsync.http.upload import Segments, Upload

SIZE = 700_000
"""More than two segments, the last of them not full."""

DATA = bytes(random.Random(1).choices(b"ab\n", k=SIZE))


@pytest.fixture
def memory():
    return Account(1 << 24)


@pytest.fixture
def body(memory):
    upload = Upload(Segments(memory), Account(0), SIZE, None)
    assert not upload.add(memoryview(DATA))
    return upload.whole()


STEPS = {
    "read": lambda file, rng: file.read(rng.choice((0, 1, 1000, 65_536, 300_000))),
    "read1": lambda file, rng: file.read1(rng.choice((1, 1000, 65_536))),
    "readinto": lambda file, rng: file.readinto(memoryview(bytearray(rng.choice((1, 70_000))))),
    "readline": lambda file, rng: file.readline(rng.choice((-1, 2))),
    "next": lambda file, _rng: next(file, b""),
    "lines": lambda file, _rng: file.readlines(),
    "seek": lambda file, rng: file.seek(rng.choice((0, SIZE // 2, SIZE))),
    "back": lambda file, rng: file.seek(-rng.choice((0, 1, 5000)), io.SEEK_END),
    "rest": lambda file, _rng: file.read(),
    "none": lambda file, _rng: file.read(None),
}


@pytest.mark.parametrize("seed", range(40))
def test_it_reads_as_a_file_does(body, seed):
    """Whatever is called in whatever order returns what it does on BytesIO, and ends where that ends."""
    rng, same = random.Random(seed), random.Random(seed)
    twin, order = io.BytesIO(DATA), random.Random(seed)
    # Lines last, in half of the runs: they are read in another way.
    names = [name for name in STEPS if seed % 2 or name not in {"readline", "next", "lines"}]
    for name in order.choices(names, k=30):
        assert STEPS[name](body, rng) == STEPS[name](twin, same), name
        assert body.tell() == twin.tell(), name


def test_its_end_gives_the_memory_back(body, memory):
    """Also when lines were read, and when it is closed twice; what reads it afterwards is told so."""
    assert memory.taken
    body.readline()
    body.close()
    body.close()
    assert not memory.taken
    with pytest.raises(ValueError, match="closed"):
        body.read(1)


def test_read_after_its_end_is_refused(body):
    """By a line that says what happened, not by an empty read."""
    body.close()
    with pytest.raises(ValueError, match="its response has ended"):
        body.read(10)
