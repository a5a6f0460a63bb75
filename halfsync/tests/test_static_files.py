"""Static files: what is sent of them, what clients have already, and what is not there."""

from __future__ import annotations

import os
import zipfile
from email.utils import formatdate
from io import SEEK_END, BufferedReader, FileIO
from pathlib import Path

import pytest
from flask import Flask, send_file

import h2_tools
from halfsync import Gateway, Mount, StartError, StaticFiles
from halfsync.testing import Client, InlineWorkers
from http_tools import GET, Connection, parse

DAY = 86_400
TIME = 1_700_000_000


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "static"
    (root / "img").mkdir(parents=True)
    (root / "app.js").write_text("plain();")
    (root / "app.js.gz").write_bytes(b"gzipped")
    (root / "app.js.br").write_bytes(b"brotli")
    (root / "page.html").write_text("<p>\u00e9</p>", encoding="utf-8")
    (root / "img" / "a b.png").write_bytes(bytes(range(100)))
    (root / "img" / "index.html").write_text("all images")
    (root / "archive.tar.gz").write_bytes(b"archive")
    (root / ".secret").write_text("hidden")
    (tmp_path / "outside.txt").write_text("outside")
    (root / "link.txt").symlink_to(tmp_path / "outside.txt")
    (root / "within.txt").symlink_to(root / "page.html")
    os.mkfifo(root / "fifo")
    for path in root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            os.utime(path, (TIME, TIME))
    return root


@pytest.fixture
def client(folder) -> Client:
    return Client(StaticFiles(folder))


def test_a_file_has_its_type_length_time_and_tag(client):
    """And is the client's to keep, if it asks each time whether it is still the same."""
    answer = client.get("/page.html")
    assert (answer.status, answer.text) == (200, "<p>\u00e9</p>")
    told = answer.headers
    assert told["Content-Type"] == "text/html; charset=utf-8"
    assert told["Last-Modified"] == formatdate(TIME, usegmt=True)
    assert told["Cache-Control"] == "no-cache"
    assert told["X-Content-Type-Options"] == "nosniff"
    assert (told["Vary"], told["Content-Length"]) == (None, str(len(answer.body)))
    assert client.get("/within.txt").body == answer.body
    assert client.get("/img/a%20b.png").headers["Content-Type"] == "image/png"
    archive = client.get("/archive.tar.gz")
    assert (archive.headers["Content-Type"], archive.headers["Content-Encoding"]) == (
        "application/octet-stream",
        None,
    )


def test_head_is_get_without_its_body(client):
    get, head = client.get("/page.html"), client.request("HEAD", "/page.html")
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Type", "Content-Length", "ETag", "Last-Modified"):
        assert head.headers[name] == get.headers[name]


@pytest.mark.parametrize(
    ("accepted", "body", "encoding"),
    [
        ("gzip, br", b"brotli", "br"),
        ("gzip", b"gzipped", "gzip"),
        ("br;q=0, gzip;q=0.5", b"gzipped", "gzip"),
        ("*", b"brotli", "br"),
        ("*;q=0", b"plain();", None),
        ("identity", b"plain();", None),
        ("", b"plain();", None),
    ],
)
def test_a_compressed_variant_for_those_who_take_it(client, accepted, body, encoding):
    """Each with a tag of its own; caches are told that there are several."""
    answer = client.get("/app.js", headers={"Accept-Encoding": accepted})
    assert (answer.body, answer.headers["Content-Encoding"]) == (body, encoding)
    assert answer.headers["Vary"] == "Accept-Encoding"
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    plain = client.get("/app.js")
    assert (plain.headers["ETag"] == answer.headers["ETag"]) == (encoding is None)


def test_who_has_it_is_told_so(client):
    """By tag, or by time; the tag counts when there are both (RFC 9110 section 13.2.2)."""
    tag = client.get("/page.html").headers["ETag"]
    date, before = formatdate(TIME, usegmt=True), formatdate(TIME - DAY, usegmt=True)
    for headers, status in [
        ({"If-None-Match": tag}, 304),
        ({"If-None-Match": f'"x", W/{tag}'}, 304),
        ({"If-None-Match": "*"}, 304),
        ({"If-None-Match": '"x"'}, 200),
        ({"If-None-Match": '"x"', "If-Modified-Since": date}, 200),
        ({"If-Modified-Since": date}, 304),
        ({"If-Modified-Since": before}, 200),
        ({"If-Modified-Since": "yesterday"}, 200),
    ]:
        answer = client.get("/page.html", headers=headers)
        assert answer.status == status, headers
        assert answer.headers["ETag"] == tag
        assert bool(answer.body) == (status == 200)


def test_a_file_is_sent_only_if_it_is_the_one_that_is_meant(client):
    """If-Match by strong tags, or If-Unmodified-Since where there is none (RFC 9110, 13.2.2)."""
    tag = client.get("/page.html").headers["ETag"]
    earlier, later = formatdate(TIME - 1, usegmt=True), formatdate(TIME, usegmt=True)
    for headers, status in (
        ({"If-Match": tag}, 200),
        ({"If-Match": f'"other", {tag}'}, 200),
        ({"If-Match": "*"}, 200),
        ({"If-Match": '"other"'}, 412),
        ({"If-Match": f"W/{tag}"}, 412),
        ({"If-Match": '"other"', "Range": "bytes=0-1"}, 412),
        ({"If-Match": '"other"', "If-None-Match": tag}, 412),
        ({"If-Match": tag, "If-Unmodified-Since": earlier}, 200),
        ({"If-Unmodified-Since": later}, 200),
        ({"If-Unmodified-Since": earlier}, 412),
        ({"If-Unmodified-Since": "some day"}, 200),
    ):
        assert client.get("/page.html", headers=headers).status == status, headers


def test_a_changed_file_has_another_tag(client, folder):
    """Though its size and time are those of before: files of a pex all have one time."""
    before = client.get("/page.html").headers["ETag"]
    other = folder / "other"
    other.write_text("<p>\u00e8</p>", encoding="utf-8")
    os.utime(other, (TIME, TIME))
    other.rename(folder / "page.html")
    assert client.get("/page.html").headers["ETag"] != before


@pytest.mark.parametrize(
    ("asked", "status", "part", "told"),
    [
        ("bytes=0-9", 206, slice(0, 10), "bytes 0-9/100"),
        ("bytes=90-", 206, slice(90, 100), "bytes 90-99/100"),
        ("bytes=-5", 206, slice(95, 100), "bytes 95-99/100"),
        ("bytes=-500", 206, slice(0, 100), "bytes 0-99/100"),
        ("bytes=50-500", 206, slice(50, 100), "bytes 50-99/100"),
        ("bytes=100-", 416, None, "bytes */100"),
        ("bytes=-0", 416, None, "bytes */100"),
        ("bytes=9-0", 200, slice(0, 100), None),
        ("bytes=0-1,5-6", 200, slice(0, 100), None),
        ("lines=0-1", 200, slice(0, 100), None),
    ],
)
def test_a_part_of_a_file(client, asked, status, part, told):
    """One range; what is none, or several, is answered by the whole (RFC 9110 section 14.2)."""
    answer = client.get("/img/a%20b.png", headers={"Range": asked})
    assert (answer.status, answer.headers["Content-Range"]) == (status, told)
    if part is not None:
        assert answer.body == bytes(range(100))[part]


def test_a_part_of_the_same_file_only(client):
    """A client that has begun with another file gets the whole of this one."""
    tag = client.get("/img/a%20b.png").headers["ETag"]
    date = formatdate(TIME, usegmt=True)
    for condition, status in [(tag, 206), ('"x"', 200), (date, 206), (f"W/{tag}", 200), ("x", 200)]:
        headers = {"Range": "bytes=0-9", "If-Range": condition}
        assert client.get("/img/a%20b.png", headers=headers).status == status, condition


@pytest.mark.parametrize(
    "path",
    [
        "/../outside.txt",
        "/%2e%2e/outside.txt",
        "/img/%2e%2e%2f%2e%2e%2foutside.txt",
        "//etc/passwd",
        "/img//index.html",
        "/.secret",
        "/link.txt",
        "/fifo",
        "/img/..%5capp.js",
        "/page.html%00.png",
        "/page.html/",
        "/%ff",
        "/" + "a" * 5000,
        "/nothing",
        "/",
    ],
)
def test_what_is_not_below_the_root_is_not_there(client, path):
    """404, whatever else there is under that name, and never a wait."""
    answer = client.get(path)
    assert (answer.status, answer.text) == (404, "Not Found\n")


@pytest.mark.parametrize("name", ["page.html", "img/index.html"])
def test_what_becomes_a_link_between_two_looks_is_not_followed(folder, monkeypatch, name):
    """Who may write to the folder while it is served can exchange a name for a link that leads away."""
    (folder.parent / "index.html").write_text("outside")
    client = Client(StaticFiles(folder))
    resolve = Path.resolve

    def exchanged(path, *, strict=False):
        real = resolve(path, strict=strict)
        first = folder / name.partition("/")[0]
        if first.exists() and not first.is_symlink():
            first.rename(folder / "old")
            first.symlink_to(folder.parent if "/" in name else folder.parent / "outside.txt")
        return real

    for variant in (".br", ".zst", ".gz"):
        assert not (folder / (name + variant)).exists()
    monkeypatch.setattr(Path, "resolve", exchanged)
    assert client.get("/" + name).status == 404
    monkeypatch.undo()
    assert (folder / name).read_text() == "outside"


def test_a_folder_without_an_index_costs_no_descriptor(folder):
    """It is not there, and a client that asks for it again and again takes nothing from anybody."""
    (folder / "empty").mkdir()
    client = Client(StaticFiles(folder))
    before = len(list(Path("/proc/self/fd").iterdir()))
    for path in ("/empty", "/empty/", "/fifo", "/"):
        assert client.get(path).status == 404, path
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_where_it_is_mounted_is_no_file(folder):
    """The bare path of the mount is a folder like any other: links in its index are below its slash."""
    root = Mount({"/static": Gateway(StaticFiles(folder), InlineWorkers())})
    reply = parse(Connection(resource=root).send(b"GET /static HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert (reply.status, reply.headers["Location"]) == (301, "/static/")
    reply = parse(Connection(resource=root).send(b"GET /static/ HTTP/1.1\r\nHost: a\r\n\r\n"))
    assert reply.status == 404


def test_other_methods_are_refused(client):
    answer = client.post("/page.html", data=b"x")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


def test_below_a_path_over_both_versions_of_http(folder):
    """A folder is its index, and the redirect to it keeps the path that it is mounted at."""
    mount = Mount({"/static": Gateway(StaticFiles(folder, max_age=60), InlineWorkers())})
    client = Client(mount)
    moved = client.get("/static/img")
    assert (moved.status, moved.headers["Location"]) == (301, "/static/img/")
    index = client.get("/static/img/")
    assert (index.text, index.headers["Cache-Control"]) == ("all images", "public, max-age=60")
    over_h2 = h2_tools.Client(resource=mount)
    headers = [(name, "/static/page.html" if name == ":path" else value) for name, value in h2_tools.GET]
    assert over_h2.request(headers).body.decode() == "<p>\u00e9</p>"
    assert over_h2.request([*headers, ("range", "bytes=0-2")]).body == b"<p>"


def test_resources_of_an_archive(tmp_path):
    """As those of a package in a zip are: without times, and tagged by their content."""
    path = tmp_path / "archive.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("static/a.txt", "hello")
        archive.writestr("other.txt", "outside")
    client = Client(StaticFiles(zipfile.Path(path, "static/")))
    answer = client.get("/a.txt")
    assert (answer.text, answer.headers["Last-Modified"]) == ("hello", None)
    assert client.get("/a.txt", headers={"If-None-Match": answer.headers["ETag"]}).status == 304
    assert client.get("/a.txt", headers={"Range": "bytes=1-2"}).text == "el"
    assert client.get("/../other.txt").status == 404
    assert client.get("/b.txt").status == 404


def test_files_without_times_have_no_date(folder):
    """A pex sets all to 1980: a client that asks by time would keep an old file for ever."""
    os.utime(folder / "page.html", (315_619_200, 315_619_200))
    answer = Client(StaticFiles(folder)).get(
        "/page.html", headers={"If-Modified-Since": formatdate(TIME, usegmt=True)}
    )
    assert (answer.status, answer.headers["Last-Modified"]) == (200, None)


def test_a_large_file_is_not_read_for_its_tag(tmp_path, monkeypatch):
    """1 GiB with holes: the last four bytes of it are all that is read."""
    large(tmp_path / "large.bin")
    opened = []

    def fdopen(descriptor, mode):
        opened.append(Counting(descriptor, mode))
        return BufferedReader(opened[-1])

    monkeypatch.setattr(os, "fdopen", fdopen)
    answer = Client(StaticFiles(tmp_path)).get("/large.bin", headers={"Range": "bytes=-4"})
    assert (answer.status, answer.body) == (206, b"tail")
    assert answer.headers["Content-Range"] == "bytes 1073741820-1073741823/1073741824"
    assert len(opened) == 1
    # A second read may find the end.
    assert opened[0].reads in ([4], [4, 0])


@pytest.mark.parametrize("version", ["1.1", "2"])
def test_flask_sends_a_part_of_a_large_file_by_seeking(tmp_path, monkeypatch, version):
    """As `send_file` does, by `wsgi.file_wrapper`: what is before the part is not read."""
    path = tmp_path / "large.bin"
    large(path)
    app, opened = Flask("files"), []

    def counted(name, mode):
        opened.append(Counting(name, mode))
        return BufferedReader(opened[-1])

    @app.get("/")
    def whole():
        return send_file(path, mimetype="application/octet-stream", conditional=True)

    monkeypatch.setattr("werkzeug.utils.open", counted, raising=False)
    if version == "2":
        response = h2_tools.Client(app).request([*h2_tools.GET, ("range", "bytes=-4")])
        status, body = response.status, response.body
    else:
        answer = parse(Connection(app).send(GET[:-2] + b"Range: bytes=-4\r\n\r\n"))
        status, body = answer.status, answer.data
    assert (status, body) == (206, b"tail")
    assert len(opened) == 1
    assert opened[0].reads in ([4], [4, 0])


def large(path) -> None:
    """Make a file of 1 GiB, with a hole for nearly all of it."""
    with path.open("wb") as file:
        file.truncate((1 << 30) - 4)
        file.seek(0, SEEK_END)
        file.write(b"tail")


class Counting(FileIO):
    """A file that notes how many bytes each read has brought."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.reads = []

    def readinto(self, buffer):
        count = super().readinto(buffer)
        self.reads.append(count)
        return count

    def readall(self):
        raise AssertionError("nobody asks for all of it")


def test_conditions_are_the_application_s():
    """The server, which knows no ETag of an application's, hands them on and judges none."""

    def app(environ, start_response):
        names = [name for name in environ if name.startswith("HTTP_IF_")]
        start_response("200 OK", [("ETag", '"now"')])
        return ["\n".join(f"{name}: {environ[name]}" for name in sorted(names)).encode()]

    headers = {"If-Match": '"before"', "If-Unmodified-Since": "Wed, 01 Jan 2020 00:00:00 GMT"}
    response = Client(Mount({"/": Gateway(app, InlineWorkers())})).request("PUT", "/", headers=headers)
    told = f'HTTP_IF_MATCH: "before"\nHTTP_IF_UNMODIFIED_SINCE: {headers["If-Unmodified-Since"]}'
    assert (response.status, response.text) == (200, told)


def test_no_folder_is_an_error_at_the_start(tmp_path):
    with pytest.raises(StartError, match="is no folder to serve files from") as caught:
        StaticFiles(tmp_path / "nowhere")
    assert isinstance(caught.value, ValueError)
