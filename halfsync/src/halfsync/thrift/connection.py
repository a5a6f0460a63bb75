"""The calls of a connection: from frames to jobs, and answers to the client. In the reactor.

    bytes -> frames -> waiting -> one job at a time in a thread -> answers -> one write

While a job is out, or the client does not take its answers, what arrives waits, and past a bound
the transport is paused: the rest waits with the client.
"""

from __future__ import annotations

from collections import deque
from math import inf
from time import monotonic

from twisted.internet.defer import Deferred

from halfsync.thrift import errors
from halfsync.thrift.counts import log_call
from halfsync.thrift.job import LARGEST, LONGEST, Job
from halfsync.thrift.processor import Done, Ready
from halfsync.thrift.wire import Wire
from halfsync.workers.pool import Busy

JOB_CALLS, JOB_BYTES = 32, 256 * 1024
"""What one job takes at most: the next client's turn comes after that."""

REFUSALS = 64
"""Calls that are refused before others have their turn: a read may hold thousands, each a line of the log."""

SMALL = 4 * 1024
"""Bytes of a call up to which the reactor decodes it itself, when its handler is `async`."""


class Connection(Wire):
    """One client."""

    _heavy = False
    """Whether it has one of the turns for heavy calls."""

    def proceed(self) -> None:
        """Do what can be done next."""
        if self.busy is None and not self._full and not self._over:
            if self.waiting and not self._closing:
                self._next_job()
            elif self._paused:
                self._resume()
        if self.busy is None and not self.waiting and not self._full and self.login is None:
            self.deadline = self.server.patience(self)

    def answered(self, job: Job) -> None:
        """Take over what a job has done."""
        server = self.server
        server.counts.add(job.done)
        self.busy = None
        if self._heavy:
            self._heavy = False
            server.heavy_done()
        if self._over:
            return
        left = job.frames
        self._hold(sum(4 + len(frame) for _, frame in left) - job.size)
        if left:
            left.extend(self.waiting)
            self.waiting = left
        if job.answers:
            self.send(b"".join(job.answers) if len(job.answers) > 1 else job.answers[0])
        if job.broken is not None:
            self.refuse("message", job.broken)
        elif job.pending is not None:
            self._run_async(job.pending)
        else:
            self.proceed()

    def _next_job(self) -> None:
        server = self.server
        waiting = self.waiting
        frame = waiting[0][1]
        if server.past_grace:
            self._refuse_waiting(errors.ServerDraining())
            return
        if server.processor.any_async and self._may_begin_here():
            self._begin_here()
            return
        if server.is_heavy(frame):
            if not server.heavy_turn(self):
                return
            self._heavy = True
            frames = deque((waiting.popleft(),))
            size = 4 + len(frame)
        else:
            frames, size = self._batch()
        job = Job(self, frames, size)
        try:
            server.submit(job, job.describe)
        except Busy:
            waiting.extendleft(reversed(frames))
            if self._heavy:
                self._heavy = False
                server.heavy_done()
            self._refuse_waiting(errors.ServerOverloaded())
            return
        self.busy = job
        self.deadline = inf

    def _batch(self) -> tuple[deque[tuple[float, bytes]], int]:
        """Take the calls of the next job; return them, and how many bytes they are."""
        waiting = self.waiting
        is_heavy = self.server.is_heavy
        frames = deque((waiting.popleft(),))
        size = 4 + len(frames[0][1])
        while waiting and len(frames) < JOB_CALLS and size < JOB_BYTES and not is_heavy(waiting[0][1]):
            frames.append(waiting.popleft())
            size += 4 + len(frames[-1][1])
        return frames, size

    def _refuse_waiting(self, error: errors.RpcError) -> None:
        """Answer what waits with an error of ours, a part now and the rest soon."""
        server = self.server
        done: list[Done] = []
        size = 0
        try:
            while self.waiting and len(done) < REFUSALS:
                arrived, frame = self.waiting.popleft()
                size += 4 + len(frame)
                done.append(server.processor.refuse(frame, error, arrived))
        except errors.FrameError as broken:
            self.refuse("message", str(broken))
            return
        finally:
            self._finish(done)
            self._hold(-min(size, self.held))
        if self.waiting:
            server.soon(self.proceed)
        else:
            self.proceed()

    def _finish(self, done: list[Done]) -> None:
        """Send answers that were made in the reactor, and account for them."""
        self.server.counts.add(done)
        if self.server.access_log:
            for each in done:
                log_call(each, self.peer, self.identity)
        answer = b"".join([each.answer for each in done])
        if answer and not self._over:
            self.send(answer)

    def _begin_here(self) -> None:
        """Begin calls of `async` handlers for as long as each ends at once; their answers are one write."""
        server = self.server
        waiting = self.waiting
        done: list[Done] = []
        size = 0
        broken = later = None
        begun = monotonic()
        while True:
            arrived, frame = waiting.popleft()
            self._hold(-4 - len(frame))
            try:
                step = server.processor.begin(frame, self.identity, self.peer, arrived)
            except errors.FrameError as error:
                broken = str(error)
                break
            if isinstance(step, Ready):
                # It stays so until the answers are sent: nothing that a handler does begins another call.
                self.busy = step
                self.deadline = inf
                step = server.run_async(self, step)
                if isinstance(step, Deferred):
                    later = step
                    break
            done.append(step)
            size += len(step.answer)
            if (
                not self._may_begin_here()
                or len(done) >= JOB_CALLS
                or size > LARGEST
                or monotonic() - begun > LONGEST
            ):
                break
        self._finish(done)
        if later is not None:
            later.addCallback(self._ran_async)
            return
        self.busy = None
        if broken is not None:
            self.refuse("message", broken)
        elif waiting or self._paused:
            # Not by recursion: hundreds may wait.
            server.soon(self.proceed)

    def _may_begin_here(self) -> bool:
        """Say whether the next call that waits is for the reactor: small, and of an `async` handler."""
        if not self.waiting or self._closing or self._over or self.server.past_grace:
            return False
        frame = self.waiting[0][1]
        return len(frame) <= SMALL and self.server.processor.is_async(frame)

    def _run_async(self, ready: Ready) -> None:
        self.busy = ready
        self.deadline = inf
        step = self.server.run_async(self, ready)
        if isinstance(step, Deferred):
            step.addCallback(self._ran_async)
        else:
            self._ran_async(step)

    def _ran_async(self, done: Done) -> None:
        self.busy = None
        self._finish([done])
        if not self._over:
            self.server.soon(self.proceed)
