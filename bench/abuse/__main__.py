"""Each attack against a service of its own, while another client goes on as ever; and a table of it.

    make abuse                     a real pex, 60 s each: 25 minutes
    make abuse ARGS=--quick        the library in place, 4 s each, fewer connections
    make abuse ARGS='--only "slow readers,idle connections" --seconds 10'

A run fails when the service takes more memory than `--web.memory` and 100 MiB,
when the other client's p99 is 100 ms or more, or when one of its requests is lost.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.__main__ import cpu

from .attacks import ATTACKS
from .target import ROOT, pex_command, quick_command, serving

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .attacks import Attack

MIB = 1024 * 1024
MEMORY = 256 * MIB
"""The default of `--web.memory`."""

MOST = MEMORY + 100 * MIB
SLOWEST = 100.0
"""Milliseconds."""

DOCUMENT = ROOT / "docs" / "abuse.md"
ABOUT = """\
The attacker comes from addresses of its own; beside it another client asks some 30 times a second,
on a connection that it keeps and on new ones, and uploads 100 KB twice a second.
To hold: memory at most `--web.memory` (256 MiB) and 100 MiB, p99 of the other client below 100 ms,
none of its requests lost."""

FEW = ("--web.max_connections=400",)


END = "<!-- end of the table -->"


def main(argv: Sequence[str] | None = None) -> int:
    """Attack, write, and say whether all held."""
    parser = argparse.ArgumentParser(
        prog="make abuse ARGS=", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, help="of each attack: 60, or 4 when it is quick")
    parser.add_argument("--quick", action="store_true", help="the library in place, fewer connections")
    parser.add_argument("--only", help="names of attacks, separated by commas")
    parser.add_argument("--output", type=Path, help="where the table goes; else docs/abuse.md of a full run")
    chosen = parser.parse_args(argv)
    seconds = chosen.seconds or (4 if chosen.quick else 60)
    names = chosen.only.split(",") if chosen.only else list(ATTACKS)
    if unknown := [name for name in names if name not in ATTACKS]:
        parser.error(f"no attack is called {unknown[0]!r}; there are: {', '.join(ATTACKS)}")
    with tempfile.TemporaryDirectory() as folder:
        command = quick_command() if chosen.quick else pex_command(folder)
        rows = [run(ATTACKS[name], command, seconds, quick=chosen.quick) for name in names]
    told = "the library in place, quick" if chosen.quick else "a pex"
    text = markdown(rows, seconds, told)
    output = chosen.output or (DOCUMENT if not (chosen.quick or chosen.only) else None)
    if output is not None:
        # What a person has written below the table stays.
        _, _, below = (output.read_text() if output.exists() else "").partition(END)
        output.write_text(f"{text}\n{END}" + (below or "\n"))
        print(f"written: {output}")
    failed = [f"{row['name']}: {fault}" for row in rows for fault in faults(row)]
    print("\n".join(failed) or "all held")
    return 1 if failed else 0


def run(attack: Attack, command: Sequence[str], seconds: float, *, quick: bool) -> dict[str, Any]:
    """Attack a service of its own, and return the figures."""
    flags = FEW if attack.few and quick else ()
    with serving(command, *flags, files=attack.files) as service:
        python = [sys.executable, "-m"]
        ports = list(map(str, service.ports))
        # The client is there before the attack begins.
        normal = subprocess.Popen(
            [*python, "bench.abuse.normal", ports[0], "--seconds", str(seconds + 1)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        begun, before = time.monotonic(), service.cpu()
        attacker = subprocess.run(
            [*python, "bench.abuse.attacks", attack.name, *ports, "--seconds", str(seconds)]
            + (["--quick"] if quick else []),
            capture_output=True,
            text=True,
            cwd=ROOT,
            check=True,
        )
        spent = (service.cpu() - before) / (time.monotonic() - begun)
        told, _ = normal.communicate(timeout=seconds + 60)
        alive = service.process.poll() is None
    row: dict[str, Any] = {
        "name": attack.name,
        "number": attack.number,
        "attack": json.loads(attacker.stdout),
        "normal": json.loads(told),
        "resident": service.resident,
        "cpu": spent,
        "alive": alive,
        "events": sorted({each["event"] for each in service.events if each.get("level") != "info"}),
    }
    print(line(row), flush=True)
    return row


def faults(row: dict[str, Any]) -> list[str]:
    """Say what did not hold."""
    normal, found = row["normal"], []
    if not row["alive"]:
        found.append("the service has ended")
    if row["resident"] > MOST:
        found.append(f"{row['resident'] / MIB:.0f} MiB of memory, more than {MOST / MIB:.0f}")
    if normal["p99"] is None or normal["p99"] >= SLOWEST:
        found.append(f"the other client's p99 is {normal['p99']} ms")
    if normal["lost"]:
        found.append(f"the other client lost requests: {normal['lost']}")
    attack = row["attack"]
    wrong = ("answered 503", "malformed, served", "unknown, refused")
    found += [f"{attack[each]} x {each}" for each in wrong if attack.get(each)]
    if row["name"] == "one stream too many" and attack["answered"] != 100 * attack["refused streams"]:
        found.append(f"not 100 of 101 streams are answered: {attack}")
    return found


def line(row: dict[str, Any]) -> str:
    """Return a row of the table."""
    attack, normal = row["attack"], row["normal"]
    lost = sum(normal["lost"].values())
    p99 = "-" if normal["p99"] is None else f"{normal['p99']:.0f} ms"
    cut = f"{attack.get('opened', 0):,} / {attack.get('cut', 0):,}"
    figures = [
        f"{row['resident'] / MIB:.0f} MiB",
        f"{row['cpu']:.0%}",
        p99,
        f"{lost} of {normal['requests']:,}",
    ]
    return f"| {row['number'] or ''} | {row['name']} | {cut} | {' | '.join(figures)} |"


def markdown(rows: Sequence[dict[str, Any]], seconds: float, told: str) -> str:
    """Return the page."""
    return "\n".join(
        [
            "# What clients can do to a service, and what comes of it",
            "",
            f"`make abuse` on {cpu()}: {told}, default flags, {seconds:g} s of each attack.",
            ABOUT,
            "A test runs each attack for some seconds (`tests/test_abuse.py`).",
            "",
            "| | attack | connections opened / cut | memory, most | CPU | other client: p99 | lost |",
            "|---|---|---|---|---|---|---|",
            *map(line, rows),
            "",
            "The numbers are those of the kinds of abuse in `bench/abuse/attacks.py`.",
            "",
        ]
    )


if __name__ == "__main__":
    sys.exit(main())
