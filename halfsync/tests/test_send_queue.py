"""What waits to be sent."""

from __future__ import annotations

import pytest

from halfsync.endpoints.send_queue import COPIED, SendQueue, rest_of


def test_a_short_rest_does_not_keep_the_whole_piece():
    """Where a client takes most of 64 KB, and then no more, the rest is all that is in memory."""
    piece = bytes(64 * 1024)
    assert rest_of(piece, len(piece) - 1000) == bytes(1000)
    assert type(rest_of(piece, len(piece) - 1000)) is bytes


@pytest.mark.parametrize(("size", "sent"), [(1000, 400), (10 * COPIED, 8 * COPIED)])
def test_what_costs_more_than_it_saves_is_not_copied(size, sent):
    """More than half of a piece, or much: a response of 1 MB is not copied."""
    piece = bytes(size)
    rest = rest_of(piece, sent)
    assert type(rest) is memoryview
    assert rest.obj is piece


def test_pieces_are_sent_in_order_however_they_are_cut():
    """Whatever the kernel takes of them at a time."""
    pieces = [bytes([number]) * (1 + number * 700) for number in range(12)]
    for step in (1 + 7 * 191, 8000, 100_000):
        queue = SendQueue()
        for piece in pieces:
            queue.add(piece)
        sent = b""
        while queue.size:
            turn = b"".join(queue.turn())[:step]
            sent += turn
            queue.drop(len(turn))
        assert sent == b"".join(pieces)
