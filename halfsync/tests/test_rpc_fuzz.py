"""A short run of what `make fuzz` does for as long as one likes."""

from __future__ import annotations

import random

from fuzz_rpc import Fuzzer, fuzz


def test_bent_frames_logins_and_answers():
    """Whatever they are bent to: no exception, no hang, no memory held, all others answered."""
    assert fuzz(60, seed=random.randrange(1 << 32), rounds=300) > 0


def test_the_fuzzer_sees_much():
    """From a few inputs it comes to answers, refusals and errors of many kinds, else it tests nothing."""
    fuzzer = Fuzzer(1)
    for _ in range(300):
        fuzzer.once()
    kinds = {kind for kind, _ in fuzzer.seen}
    assert kinds == {"check_frames", "check_login", "check_answer"}
    outcomes = {outcome for kind, shown in fuzzer.seen if kind == "check_frames" for _, outcome in shown[0]}
    assert {"ok", "protocol_error", "unknown_method"} <= outcomes
    assert len(fuzzer.seen) > 30
