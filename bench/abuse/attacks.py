"""The attacks by name, and the command that runs one of them in a process of its own.

    python -m bench.abuse.attacks "idle connections" 8080 8443 8081 --seconds 60

prints one JSON object: how many connections were opened and cut, and what else the attack counts.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
from dataclasses import dataclass
from typing import TYPE_CHECKING

from . import frames, heads, holding
from .wire import Target

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


@dataclass(frozen=True)
class Attack:
    """One kind of abuse."""

    number: int
    """In the list of what was measured on the old core."""
    name: str
    run: Callable[[Target], Awaitable[object]]
    files: int | None = None
    """Open files that the service may have; None for what the machine allows."""
    few: bool = False
    """Whether a quick run lowers the number of connections that there may be, so that the bound is met."""


async def nothing(target: Target) -> None:
    """Do nothing: what the figures are without an attack."""
    await target.pause(target.seconds)


ATTACKS = {
    attack.name: attack
    for attack in (
        Attack(0, "none", nothing),
        Attack(1, "unknown and empty SETTINGS", frames.settings),
        Attack(2, "a header table of 4 GB", frames.table),
        Attack(3, "answers behind shut windows", holding.shut_windows),
        Attack(3, "answers that are not read", holding.unread_answers),
        Attack(3, "cookies by reference", holding.cookies),
        Attack(3, "bodies without their end", holding.part_bodies),
        Attack(3, "heads without their end", holding.part_heads),
        Attack(4, "streams reset", frames.resets),
        Attack(4, "requests refused with 431", frames.refusals),
        Attack(4, "one stream too many", frames.one_too_many),
        Attack(5, "100 requests at once", frames.well_behaved),
        Attack(6, "a Content-Type of semicolons", heads.content_types),
        Attack(7, "uploads without their end", holding.uploads),
        Attack(8, "slow readers", holding.slow_readers),
        Attack(9, "idle connections", holding.idle, few=True),
        Attack(9, "idle connections, 1,024 files", holding.few_files, files=1024),
        Attack(9, "stalled TLS handshakes", holding.stalled_handshakes),
        Attack(10, "names of headers", heads.names),
        Attack(11, "malformed PROXY headers", heads.proxy_headers),
    )
}


async def _run(chosen: argparse.Namespace) -> dict[str, int]:
    target = Target(chosen.port, chosen.tls_port, chosen.proxied_port, chosen.seconds, quick=chosen.quick)
    # An attack that waits for an answer that never comes ends all the same.
    attack = asyncio.ensure_future(ATTACKS[chosen.attack].run(target))
    await asyncio.wait([attack], timeout=chosen.seconds + 1)
    if attack.done():
        attack.result()
    else:
        attack.cancel()
    return dict(target.counts)


def main() -> None:
    """Run as a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("attack", choices=ATTACKS)
    for port in ("port", "tls_port", "proxied_port"):
        parser.add_argument(port, type=int)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--quick", action="store_true")
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print(json.dumps(asyncio.run(_run(parser.parse_args()))))


if __name__ == "__main__":
    main()
