"""Running a function in a thread of its own, for a session that awaits it."""

from __future__ import annotations

import contextvars
import ctypes
import threading
from typing import TYPE_CHECKING, Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from halfsync.manhole.stdout import Redirection

T = TypeVar("T")


class InThread(Deferred[T]):
    """The result of a function that runs in a thread."""


def in_thread(reactor: Any, redirection: Redirection, function: Callable[[], T], name: str) -> InThread[T]:
    """Call a function in a thread; what it prints goes to the session.

    Cancelling raises KeyboardInterrupt in the thread.
    Python code is ended by it; a call into C that blocks goes on until it returns.
    """
    context = contextvars.copy_context()
    running = True

    def interrupt(_: Deferred[T]) -> None:
        if running and thread.ident:
            ctypes.pythonapi.PyThreadState_SetAsyncExc(
                ctypes.c_ulong(thread.ident), ctypes.py_object(KeyboardInterrupt)
            )

    done: InThread[T] = InThread(interrupt)

    def finish(result: T | Failure) -> None:
        redirection.release()
        if not done.called:
            done.callback(result)

    def work() -> None:
        nonlocal running
        result: T | Failure | None = None
        try:
            result = context.run(function)
        except BaseException:  # noqa: BLE001  it is raised where the Deferred is awaited
            result = Failure()
        finally:
            running = False
            reactor.callFromThread(finish, result)

    redirection.hold()
    thread = threading.Thread(target=work, name=f"manhole-{name}", daemon=True)
    thread.start()
    return done
