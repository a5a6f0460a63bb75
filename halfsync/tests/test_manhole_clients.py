"""The manhole, entered by clients that others wrote: asyncssh, paramiko, and ssh2 of npm."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
from pathlib import Path

import asyncssh
import paramiko
import pytest

from house import PATIENCE, House, fingerprint, start

CACHE = Path(__file__).parents[2] / ".cache" / "npm"

SSH2 = {
    "ssh2": (
        "1.17.0",
        "wPldCk3asibAjQ/kziWQQt1Wh3PgDFpC0XpwclzKcdT1vql6KeYxf5LIt4nlFkUeR8WuphYMKqUA56X4rjbfgQ==",
    ),
    "asn1": (
        "0.2.6",
        "ix/FxPn0MDjeyJ7i/yoHGFt/EX6LyNbxSEhPPXODPL+KB0VPk86UYfL0lMdy+KCnv+fmvIzySwaK5COwqVbWTQ==",
    ),
    "bcrypt-pbkdf": (
        "1.0.2",
        "qeFIXtP4MSoi6NLqO12WfqARWWuCKi2Rn/9hJLEmtB5yTNr9DqFWkJRCf2qShWzPeAMRnOgCrq0sg/KLv5ES9w==",
    ),
    "safer-buffer": (
        "2.1.2",
        "YZo3K82SD7Riyi0E1EQPojLz7kpepnSQI9IyPbHHg1XXXevb5dJI7tpyN2ADxGcQbHG7vcyRHk0cbwqcQriUtg==",
    ),
    "tweetnacl": (
        "0.14.5",
        "KXXFFdAbFXY4geFIwoyNK+f5Z1b7swfXABfL7HXCmoIWMKU3dmS26672A4EeQtDzLKy7SXmfBu51JolvEKwtGA==",
    ),
}
"""The packages that it takes: name -> version, SHA-512."""

CLIENT = """
const fs = require("fs");
const { Client } = require("ssh2");
const [port, key, command] = process.argv.slice(2);
const client = new Client();
client.on("ready", () => client.exec(command, (error, stream) => {
  if (error) throw error;
  stream.pipe(process.stdout);
  stream.stderr.pipe(process.stderr);
  stream.on("exit", (code) => { process.exitCode = code; });
  stream.on("close", () => client.end());
}));
client.connect({ host: "127.0.0.1", port, username: "me", privateKey: fs.readFileSync(key) });
"""


def test_asyncssh(house):
    """Two commands in one connection, each with its output and its exit code."""

    async def visit() -> list[tuple[int | None, str, bool]]:
        async with asyncssh.connect(
            "127.0.0.1",
            house.port,
            username="me",
            client_keys=[str(house.folder / "id")],
            known_hosts=None,
            config=None,
        ) as connection:
            done = [await connection.run(command) for command in ("print(6 * 7); 1/0", "'ä'")]
            return [
                (each.exit_status, str(each.stdout), "ZeroDivisionError" in str(each.stderr)) for each in done
            ]

    assert asyncio.run(asyncio.wait_for(visit(), PATIENCE)) == [(1, "42\n", True), (0, "'ä'\n", False)]


def test_so_many_get_in_and_no_more(folder):
    """Ten connections of ten sessions each; one more is refused, and the log says why, until one leaves."""

    async def crowd(house: House) -> None:
        where = {"port": house.port, "username": "me", "known_hosts": None, "config": None}

        async def enter() -> asyncssh.SSHClientConnection:
            return await asyncssh.connect("127.0.0.1", client_keys=[str(house.folder / "id")], **where)

        inside = [await enter() for _ in range(10)]
        with pytest.raises(asyncssh.PermissionDenied):
            await enter()
        while (refused := house.service.wait_for("manhole.refused"))["reason"] != "10 are in already":
            pass
        assert refused["fingerprint"] == fingerprint(house.folder / "id.pub")
        sessions = [await inside[0].create_process(term_type="xterm") for _ in range(10)]
        with pytest.raises(asyncssh.ChannelOpenError, match="too many sessions on the connection"):
            await inside[0].create_process()
        assert sessions[-1].exit_status is None
        gone = inside.pop()
        gone.close()
        await gone.wait_closed()
        # The service has to notice.
        house.service.wait_for("manhole.logout")
        inside.append(await enter())
        for each in inside:
            each.close()
            await each.wait_closed()

    with start(folder, "--manhole.open") as service:
        house = House(service, folder)
        house.opened()
        asyncio.run(asyncio.wait_for(crowd(house), PATIENCE))


def test_paramiko(house):
    """The same; none of its deprecations is ours."""
    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    where = {"hostname": "127.0.0.1", "port": house.port, "username": "me"}
    key = str(house.folder / "id")
    client.connect(**where, key_filename=key, look_for_keys=False, allow_agent=False, timeout=PATIENCE)
    try:
        _, out, err = client.exec_command("print(6 * 7); 1/0", timeout=PATIENCE)
        assert (out.read(), b"ZeroDivisionError" in err.read()) == (b"42\n", True)
        assert out.channel.recv_exit_status() == 1
        _, out, err = client.exec_command("'ä'", timeout=PATIENCE)
        assert (out.read().decode(), out.channel.recv_exit_status()) == ("'ä'\n", 0)
    finally:
        client.close()


@pytest.fixture(scope="module")
def node_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A program for node that runs a command by ssh2, which npm fetches and checks by its hashes."""
    for tool in ("node", "npm"):
        if not shutil.which(tool):
            pytest.skip(f"there is no {tool}. Debian, Ubuntu: apt install npm")
    folder = tmp_path_factory.mktemp("ssh2")
    wanted = {name: version for name, (version, _) in SSH2.items()}
    lock = {"": {"dependencies": wanted}}
    for name, (version, digest) in SSH2.items():
        lock[f"node_modules/{name}"] = {"version": version, "integrity": f"sha512-{digest}"}
    (folder / "package.json").write_text(json.dumps({"private": True, "dependencies": wanted}))
    (folder / "package-lock.json").write_text(json.dumps({"lockfileVersion": 3, "packages": lock}))
    (folder / "client.js").write_text(CLIENT)
    # No scripts: ssh2 does without the native modules that they would build.
    command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline"]
    run = subprocess.run(
        [*command, "--cache", CACHE], cwd=folder, capture_output=True, text=True, timeout=120, check=False
    )
    assert "EINTEGRITY" not in run.stderr, run.stderr
    if run.returncode:
        said = (run.stderr.strip() or run.stdout.strip() or "npm said nothing").splitlines()[0]
        pytest.skip(f"ssh2 {SSH2['ssh2'][0]} cannot be fetched: {said}")
    return folder / "client.js"


def test_ssh2_of_npm(house, node_client):
    """The same; it is what editors and web consoles stand on."""
    command = ["node", node_client, str(house.port), house.folder / "id"]
    done = [
        subprocess.run([*command, line], capture_output=True, text=True, timeout=PATIENCE, check=False)
        for line in ("print(6 * 7); 1/0", "'ä'")
    ]
    assert [(each.returncode, each.stdout) for each in done] == [(1, "42\n"), (0, "'ä'\n")], done
    assert "ZeroDivisionError" in done[0].stderr
