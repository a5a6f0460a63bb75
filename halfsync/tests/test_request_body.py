"""The body of a request in memory is a file like any other, however the application reads it."""

from __future__ import annotations

import io
import random

import pytest

from halfsync.http.account import Account
from halfsync.http.upload import KEPT, LARGE, SEGMENT, Segments, Upload

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


def filled_by_reads(upload, *, at_most):
    """Fill a body as a socket does; return the sizes of the reads."""
    reads = []
    while upload.size < SIZE:
        room = upload.room()[: SIZE - upload.size]
        count = min(len(room), at_most)
        room[:count] = DATA[upload.size : upload.size + count]
        upload.took(count)
        reads.append(count)
    return reads


def test_a_fast_client_is_given_more_room_at_once(memory):
    """Half a segment in one read, and each further one may take a mebibyte: a read has a price of its own."""
    upload = Upload(Segments(memory), Account(0), 3 * LARGE, None)
    assert len(upload.room()) == SEGMENT
    upload.took(SEGMENT)
    assert len(upload.room()) == LARGE
    assert memory.taken == SEGMENT + LARGE
    upload.close()
    assert not memory.taken


def test_a_slow_client_is_not(memory):
    """By what little it sends at a time it never has room for more than a segment ahead of it."""
    upload = Upload(Segments(memory), Account(0), 3 * LARGE, None)
    for _ in range(2 * LARGE // 1000):
        upload.room()
        upload.took(min(1000, len(upload.room())))
        assert memory.taken - upload.size <= SEGMENT


@pytest.mark.parametrize("at_most", [1000, 65_536, 1 << 20])
def test_the_memory_of_a_body_is_used_again(memory, at_most):
    """Fresh memory costs more than the bytes that come into it, so the next body of the size takes none."""
    segments = Segments(memory)
    first, second = (Upload(segments, Account(0), SIZE, None) for _ in range(2))
    assert sum(filled_by_reads(first, at_most=at_most)) == SIZE
    used = {id(part.obj) for part in first._parts if len(part) >= SEGMENT}
    assert first.whole().read() == DATA
    first.close()
    filled_by_reads(second, at_most=at_most)
    assert {id(part.obj) for part in second._parts if len(part) >= SEGMENT} == used
    assert second.whole().read() == DATA


def test_no_more_than_that_is_kept(memory):
    """After a burst of uploads the process is as small as before, but for 16 MiB."""
    segments = Segments(memory)
    for size in (SEGMENT, LARGE):
        taken = [segments.take(size, None) for _ in range(memory.limit // size)]
        segments.give_back(taken, None)
    assert not memory.taken
    assert sum(len(part) for free in segments._free.values() for part in free) == KEPT


@pytest.mark.parametrize("length", [1, 1000, SEGMENT // 2, SEGMENT // 2 + 1, LARGE // 2, 5 * LARGE + 1])
def test_a_body_takes_little_more_than_its_length(memory, length):
    """What it takes from the account is its length, and half a segment or a tenth of it more at most."""
    upload = Upload(Segments(memory), Account(0), length, None)
    while upload.size < length:
        upload.took(min(len(upload.room()), length - upload.size))
    assert memory.taken - length <= max(SEGMENT // 2, length // 10)
    upload.close()
    assert not memory.taken
