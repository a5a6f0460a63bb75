"""Each attack of `make abuse` for some seconds, against a process of its own; and what its table says.

How long the other client waits is for `make abuse` on a quiet machine to say.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench.abuse.__main__ import MOST, faults, line, main, markdown, run
from bench.abuse.attacks import ATTACKS
from bench.abuse.target import quick_command

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 2.5


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_harms_nobody_else(name: str) -> None:
    """Memory stays within its bound, the service lives, and another client is served meanwhile.

    Nothing of that client's is cut or left without an answer. On a machine that is busy with other things,
    one request in twenty may be told to come again.
    """
    row = run(ATTACKS[name], quick_command(), SECONDS, quick=True)
    normal = row["normal"]
    assert row["alive"]
    assert row["resident"] <= MOST, row
    assert normal["requests"] > 5
    assert all(" 503 " in each for each in normal["lost"]), normal
    assert sum(normal["lost"].values()) <= normal["requests"] / 20, normal
    told = [each for each in faults(row) if "the other client" not in each]
    assert told == [], json.dumps(row)


def test_what_is_cut() -> None:
    """The attacks that cost more than they bring end with their connections."""
    row = run(ATTACKS["unknown and empty SETTINGS"], quick_command(), 1, quick=True)
    assert row["attack"]["cut"] >= 1


ROW = {
    "name": "some",
    "number": 3,
    "alive": True,
    "resident": 100 * 1024 * 1024,
    "cpu": 0.5,
    "attack": {"opened": 1000, "cut": 900},
    "normal": {"requests": 1200, "p99": 12.3, "lost": {}},
}


def test_a_row_of_the_table() -> None:
    """Rounded, and with what the bounds are."""
    assert faults(ROW) == []
    assert line(ROW) == "| 3 | some | 1,000 / 900 | 100 MiB | 50% | 12 ms | 0 of 1,200 |"
    assert line(ROW) in markdown([ROW], 60, "a pex")


def test_what_is_written_below_the_table_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The table is made anew."""
    monkeypatch.setattr("bench.abuse.__main__.run", lambda *_, **__: ROW)
    output = tmp_path / "abuse.md"
    words = ["--quick", "--only", next(iter(ATTACKS)), "--output", str(output)]
    assert main(words) == 0
    text = output.read_text()
    output.write_text(text.replace("1,200", "1") + "By hand.\n")
    assert main(words) == 0
    assert output.read_text() == text + "By hand.\n"


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"resident": MOST + 1}, "of memory"),
        ({"alive": False}, "has ended"),
        ({"normal": {**ROW["normal"], "p99": 100.0}}, "p99"),
        ({"normal": {**ROW["normal"], "p99": None}}, "p99"),
        ({"normal": {**ROW["normal"], "lost": {"new: reset": 1}}}, "lost requests"),
        ({"attack": {"answered 503": 20}}, "20 x answered 503"),
        ({"name": "one stream too many", "attack": {"answered": 99, "refused streams": 1}}, "100 of 101"),
    ],
)
def test_what_does_not_hold_is_said(change: dict[str, object], told: str) -> None:
    """And the command fails for it."""
    (fault,) = faults({**ROW, **change})
    assert told in fault


def test_an_attack_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    """The command says which there are."""
    with pytest.raises(SystemExit) as ended:
        main(["--quick", "--only", "nonsense"])
    assert ended.value.code == 2
    assert "slow readers" in capsys.readouterr().err
