"""The benchmark's arithmetic, what it writes, and one short run of its own machinery."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bench import environment, load, memory, openloop, overload, packed, servers
from bench.__main__ import RESULTS, arguments, describe, write
from bench.environment import Environment, locked_versions, split
from bench.figures import Spread, order, ratios, spread
from bench.plot import svg
from bench.report import compared, failures, markdown, readme
from bench.scenarios import Settings
from bench.servers import Died, Server, running

ROOT = Path(__file__).parent.parent


def test_spread_is_the_median_and_the_ends():
    assert spread([3, 1, 2, 10]) == Spread(2.5, 1, 10)
    assert spread([]) is None


def test_ratios_pair_the_figures_of_one_round():
    """A machine that is twice as fast in the second round changes no ratio."""
    assert ratios({0: 100, 1: 200}, {0: 50, 1: 100}) == [2, 2]


def test_a_round_without_a_figure_has_no_ratio():
    assert ratios({0: 100, 2: 300}, {0: 50, 1: 70, 2: 0}) == [2]


def test_each_round_begins_with_another_server():
    names = ["a", "b", "c"]
    assert [order(names, number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


@pytest.fixture
def results(tmp_path):
    """Results as a run leaves them."""
    chosen = arguments(["--only", "hello,idle", "--output", str(tmp_path)])
    found = describe(chosen, Settings(3, 8000, Environment(tmp_path)))
    found["scenarios"]["hello"] = {
        "ours": [
            {"rate": 20_000.0, "p99": 3.0, "failed": 0, "served": 31},
            {"rate": 10_000.0, "p99": 5.0, "failed": 0, "served": 31},
        ],
        "waitress": [
            {"rate": 10_000.0, "p99": 6.0, "failed": 2, "served": 31},
            {"rate": 4_000.0, "p99": 9.0, "failed": 0, "served": 31},
        ],
        "granian": [{"rate": 60_000.0, "p99": 2.0, "failed": 0, "served": 31}] * 2,
        "uwsgi, no router": [{"rate": 40_000.0, "p99": 1.0, "failed": 0, "served": 12}] * 2,
    }
    found["scenarios"]["idle"] = {
        "waitress": [{"died": "ends at 1,017 <connections>"}, {"died": "ends at 1,018 <connections>"}]
    }
    return found


def test_ours_is_compared_round_by_round(results):
    assert compared(results, "hello", "waitress") == Spread(2.25, 2.0, 2.5)


def test_what_went_wrong_is_told(results):
    assert failures(results, "hello", "ours") == []
    assert failures(results, "hello", "waitress") == ["2 requests failed"]
    assert failures(results, "idle", "waitress") == [
        "ends at 1,017 <connections>",
        "ends at 1,018 <connections>",
    ]


def test_a_server_that_lets_connections_wait_is_found_out(results):
    """Its latencies are those of the lucky ones, and wrk does not say so."""
    assert failures(results, "hello", "uwsgi, no router") == [
        "serves about 12 of 32 connections, the others wait"
    ]


def test_results_are_written_three_ways(results, tmp_path):
    write(results, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    tables = (tmp_path / "results.md").read_text()
    assert (
        "| waitress | 7,000 | 4,000 to 10,000 | 2.25 x (2.00 to 2.50) | 7.5 | 2 requests failed |" in tables
    )
    plot = ET.parse(tmp_path / "plot.svg")
    told = [element.text for element in plot.iter()]
    assert "ends at 1,017 <connections>" in told, "and nothing behind it: the panel beside begins there"


@pytest.mark.parametrize(("scenario", "served", "starved"), [("one", 0.9, False), ("crowd", 100, True)])
def test_clients_that_wait_are_told_of_the_load_s_own_number(results, scenario, served, starved):
    """A load of one connection starves nobody, and one of 256 does when 100 of them are served."""
    results["scenarios"][scenario] = {"ours": [{"rate": 1.0, "p99": 1.0, "failed": 0, "served": served}]}
    told = failures(results, scenario, "ours")
    assert told == (["serves about 100 of 256 connections, the others wait"] if starved else [])


def test_the_readme_tells_who_is_faster(results):
    section = readme(results)
    assert "15,000 requests/s, p99 4 ms. granian is faster (4.0 x)." in section
    assert "waitress" not in section, "a server that fails requests is no measure"
    assert markdown(results).startswith("# Results")


def test_the_readme_shows_the_last_results():
    """Section, tables and plot are those that the stored figures make."""
    stored = json.loads((RESULTS / "results.json").read_text())
    assert readme(stored) in (ROOT / "README.md").read_text()
    assert markdown(stored) == (RESULTS / "results.md").read_text()
    assert svg(stored) == (RESULTS / "plot.svg").read_text()


def test_every_package_is_pinned_with_its_hashes():
    lock = environment.LOCK.read_text()
    pinned = locked_versions(lock)
    assert {
        "cheroot",
        "flask",
        "granian",
        "gunicorn",
        "shiv",
        "twisted",
        "uwsgi",
        "waitress",
    } <= pinned.keys()
    rest, optional = split(lock, "uwsgi")
    assert optional.startswith("uwsgi==")
    assert "--hash=sha256:" in optional
    assert "uwsgi" not in rest
    skeleton = ROOT / "{{cookiecutter.project_slug}}" / "requirements@wsgi.lock"
    ours = locked_versions(skeleton.read_text())
    # The library is measured from its source.
    del ours["halfsync"]
    assert ours.items() <= pinned.items(), "ours runs on other versions here"


@pytest.mark.parametrize("wrong", [["--only", "hullo"], ["--servers", "ours,waitrose"]])
def test_an_unknown_name_is_refused(wrong, capsys):
    with pytest.raises(SystemExit):
        arguments(wrong)
    assert "is none of" in capsys.readouterr().err


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An environment that is the one of the tests: it has what ours needs, and no peers."""
    monkeypatch.setattr(servers, "CACHE", tmp_path)
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    # A link would make it a Python without its packages.
    (bin_ / "python").write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    (bin_ / "python").chmod(0o755)
    return Environment(tmp_path)


def test_a_server_ends_with_its_block(here):
    with running(servers.SERVERS["ours"], here) as ours:
        assert memory.group_rss(ours.process.pid) > 10_000_000
    with pytest.raises(ProcessLookupError):
        os.kill(ours.process.pid, 0)


def test_a_server_that_does_not_start_is_told_with_its_last_words(here):
    broken = Server("broken", lambda *_: [sys.executable, "-c", "raise SystemExit('no such luck')"])
    with pytest.raises(Died, match="no such luck"), running(broken, here):
        pass


@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not here: apt-get install wrk")
def test_ours_is_measured(here, tmp_path, monkeypatch, capsys):
    from bench import __main__ as command

    monkeypatch.setattr(environment, "ensure", lambda: here)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        command.main(
            ["--only", "hello", "--servers", "ours", "--quick", "--output", str(tmp_path / "results")]
        )
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    found = json.loads((tmp_path / "results" / "results.json").read_text())
    (figures,) = found["scenarios"]["hello"]["ours"]
    assert figures["rate"] > 100
    assert figures["failed"] == 0


def test_idle_connections_are_held_and_counted(here):
    with running(servers.SERVERS["ours"], here) as ours:
        holder = subprocess.run(
            [sys.executable, str(servers.SERVE / "idle.py"), str(ours.port), "20"],
            input="\n",
            capture_output=True,
            text=True,
            check=True,
            timeout=30,
        )
    assert holder.stdout.split() == ["20", "20"]


def test_what_overload_writes():
    """Each table has its rows: servers, ours with other threads, and threads where requests compute."""
    row = {"goodput": 700.0, "p99": 40.0, "critical": 1.0, "factor": 1, "capacity": 800.0}
    tenfold = {**row, "factor": 10, "goodput": 640.0, "p99": 90.0}
    found = overload.markdown(
        {
            "machine": "a machine",
            "commit": "1234567",
            "versions": {"granian": "2.8.7"},
            "seconds": 8,
            "servers": {"ours": [row, tenfold]},
            "ours": {"2 threads, 20 ms": [row, tenfold]},
            "limits": {"2": [row, {**tenfold, "p99": None}], "64": [row, {"died": "it ends"}]},
        }
    )
    assert "| 10 x | 80% |" in found
    assert "| 2 threads, 20 ms | 10 x | 91% | 40 ms, 90 ms | 100% |" in found
    assert "granian 2.8.7;\nours at 1234567." in found
    assert "| 2 | 700, 640 | 40 ms, - |" in found
    assert "| 64 | 700, 0 | 40 ms, - |" in found


def test_a_pex_is_started_beside_an_environment(pex: Path, baked: Path, tmp_path: Path):
    """Every start is measured; an environment has nothing to unpack, and a pex does it at its first start."""
    ways = packed.of_pex(baked)
    found = packed.measure(baked, ways, tmp_path, 1)
    environment, file = (each.name for each in ways)
    assert {row: set(costs) for row, costs in found.items()} == {
        packed.FIRST: {file},
        **{row: {environment, file} for row in (packed.LATER, packed.HELP, packed.VERSION)},
    }
    assert found[packed.FIRST][file] > found[packed.LATER][file] > 0
    assert list((tmp_path / "unpacked").iterdir())


def test_a_file_that_does_not_start_is_no_figure(baked: Path, tmp_path: Path):
    broken = packed.Way("broken", [sys.executable, "-c", "raise SystemExit('no such luck')"])
    with pytest.raises(RuntimeError, match="no such luck"):
        packed.measure(baked, [broken], tmp_path, 1)


def test_starts_are_told_beside_the_first_way_s():
    ways = [packed.Way("plain", [], unpacks=False), packed.Way("packed", [])]
    found = {row: {"plain": 0.4, "packed": 0.42} for row in packed.ROWS} | {packed.FIRST: {"packed": 3.0}}
    assert packed.table(ways, found)[2:4] == [
        "| first start | - | 3000 ms |",
        "| later starts | 400 ms | 420 ms, 1.05 x |",
    ]


def test_an_answer_is_read_in_any_pieces():
    """The open loop knows when an answer is whole, with which status, and whether it is the last one."""
    answer = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbusy"
    with socket.create_server(("127.0.0.1", 0)) as server:
        for size in (1, 7, 1000):
            connection = openloop.Connection(server.getsockname())
            pieces = [answer[at : at + size] for at in range(0, len(answer), size)]
            assert [connection.read(piece) for piece in pieces] == [False] * (len(pieces) - 1) + [True]
            assert (connection.status, connection.last) == ("503", True)
            connection.socket.close()


def test_requests_arrive_whether_those_before_are_answered_or_not():
    """A server that answers none gets as many as any other: each client gives up at its deadline."""
    with socket.create_server(("127.0.0.1", 0), backlog=500) as server:
        arrivals = openloop.Load(f"http://127.0.0.1:{server.getsockname()[1]}/", 200, 1, 0.1)
        found = arrivals.run()
    assert list(found["outcomes"]) == ["late"]
    assert found["goodput"] == 0
    # A second's arrivals, always by the same draws.
    assert 150 < arrivals.opened < 250


def test_the_open_loop_keeps_connections(here):
    """What was answered is counted as answered, and its connection takes the next request."""
    with running(servers.SERVERS["ours"], here) as ours:
        arrivals = openloop.Load(ours.url("/hello"), 100, 1, 30)
        found = arrivals.run()
    assert list(found["outcomes"]) == ["200"]
    assert found["critical"] == 1
    assert arrivals.opened < found["outcomes"]["200"]


@pytest.mark.skipif(not shutil.which("h2load"), reason="needs h2load (nghttp2-client)")
def test_http2_is_measured(here):
    """Requests are counted that were answered, with how long they took."""
    with running(servers.TLS["ours, tls"], here) as ours:
        found = load.h2load(ours.url("/hello"), seconds=1, streams=2)
    assert found.rate > 0
    assert 0 < found.p50 <= found.p99
    assert found.failed == 0
    with pytest.raises(Died, match="no answer"):
        load.h2load("https://127.0.0.1:1/", seconds=1, streams=2)


def test_without_h2load_that_row_says_so(monkeypatch):
    """The other rows are measured all the same."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(Died, match="nghttp2-client"):
        load.h2load("https://127.0.0.1:1/", seconds=1, streams=2)
