"""What the service does by itself, again and again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from halfsync import Periodic, Tasks, flag, flags, get_logger

if TYPE_CHECKING:
    from collections.abc import Callable

log = get_logger(__name__)

MAX_SECONDS = 5
"""How long a page may take before the check has failed."""


@flags.declare(flag.namespace(__name__))
class FLAGS:
    """Which page is checked, and how often."""

    {% if cookiecutter.web == "none" -%}
    url = flag.String("The page to check; empty: this process's own health.", default="")
    {%- else -%}
    url = flag.String("The page to check; empty: this service's own front page.", default="")
    {%- endif %}
    interval = flags.Seconds("Time between two checks.", default=30)


class PageError(Exception):
    """The page did not answer as it should."""


def schedule(reactor: Any, own_page: Callable[[], str | None]) -> Tasks:
    """Return the service's tasks; a coroutine function runs in the reactor, a plain one in a thread."""

    async def check_page() -> None:
        await check(reactor, FLAGS.url or own_page())

    return Tasks(Periodic("check_page", FLAGS.interval, check_page, reactor=reactor))


async def check(reactor: Any, url: str | None) -> None:
    """Fetch a page, and log how it answered.

    :raises PageError: when it answers with an error.
    """
    import treq  # noqa: PLC0415 - --help and --probe need none

    if url is None:
        log.warning("page.unknown", hint="no listener has a URL; set --tasks.url")
        return
    started = reactor.seconds()
    response: Any = await treq.get(url, reactor=reactor, timeout=MAX_SECONDS, persistent=False)
    body = await response.content().addTimeout(MAX_SECONDS, reactor)
    seconds = round(reactor.seconds() - started, 4)
    log.info("page.checked", url=url, status=response.code, bytes=len(body), seconds=seconds)
    if response.code >= 400:
        raise PageError(f"{url} answered {response.code}")
