"""Conformance by cases that no one here wrote: waitress's functional tests, against our server.

They come with waitress's source distribution, which is fetched by hash; none of it is kept here.
`as_waitress.py` puts our server in place of theirs, and says what it translates.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

from children import SOURCES
from sdists import fetch

VERSION = "3.0.2"
SHA256 = "682aaaf2af0c44ada4abfb70ded36393f0e307f4ab9456a215ce0020baefc31f"

TELLS = (
    "what is wrong with a request is not told to who sent it: the answer is `Bad Request`, without a charset"
)
GOES_ON = "after an error of the application the connection goes on: its request had been read to the end"
KNOWN = "the length of a list is known, whatever its number of pieces, and so the connection goes on"
UNKNOWN = "the length of a file is not looked up: it may grow, and the response is chunked instead"
TEXT = "the application sends text before anything is on its way: 500, where waitress has sent 200 already"
TARGET = "a line beyond the bound that has no end is taken for a request line, so 414; waitress says 431"
BREAKS_OFF = (
    "what is shorter than declared is reset, and the beginning may be lost; waitress ends it in order"
)

OTHERWISE: dict[str, tuple[str, str]] = {
    "EchoTests.test_broken_chunked_encoding": ("'text/plain' != 'text/plain; charset=utf-8'", TELLS),
    "EchoTests.test_broken_chunked_encoding_invalid_extension": ("Invalid chunk extension' not found", TELLS),
    "EchoTests.test_broken_chunked_encoding_invalid_hex": ("Invalid chunk size' not found", TELLS),
    "EchoTests.test_broken_chunked_encoding_missing_chunk_end": ("properly terminated' not found", TELLS),
    "EchoTests.test_proxy_headers": (
        "'5000' is not None",
        "X-Forwarded-Port, which is not believed, is passed on as what the client said, as any header is",
    ),
    "ExpectContinueTests.test_expect_continue": (
        "200 != 100",
        "the body comes with the head, so that no one waits for 100 (RFC 9110 section 10.1.1)",
    ),
    "FileWrapperTests.test_filelike_longcl_http11": ("45458 != 45448|Reset|Closed", BREAKS_OFF),
    "FileWrapperTests.test_filelike_nocl_http10": ("KeyError: 'content-length'", UNKNOWN),
    "FileWrapperTests.test_filelike_nocl_http11": ("KeyError: 'content-length'", UNKNOWN),
    "InternalServerErrorTests.test_after_start_response_http11": (
        "0: 'content-length' 'connection'",
        GOES_ON,
    ),
    "InternalServerErrorTests.test_after_write_cb": ("b'500' != b'200'", TEXT),
    "InternalServerErrorTests.test_before_start_response_http_11": (
        "0: 'content-length' 'connection'",
        GOES_ON,
    ),
    "InternalServerErrorTests.test_in_generator": ("b'500' != b'200'", TEXT),
    "InternalServerErrorTestsWithTraceback.test_expose_tracebacks_http_11": (
        "0: 'content-length' 'connection'",
        GOES_ON,
    ),
    "NoContentLengthTests.test_http10_listlentwo": ("'52' is not None", KNOWN),
    "NoContentLengthTests.test_http11_generator": (
        r"b'a\\r\\nabcdefghij\\r\\na\\r\\nklmnopqrst",
        "the digits of a chunk's size are of lower case (RFC 9112 section 7.1 leaves it open)",
    ),
    "NoContentLengthTests.test_http11_listlentwo": (r"XYZ' != b'1\\r\\na\\r\\n33", KNOWN),
    "TooLargeTests.test_request_body_too_large_chunked_encoding": (
        "b'400' != b'413'",
        "its chunks do not end, which is seen before they are too many",
    ),
    "TooLargeTests.test_request_body_too_large_with_no_cl_http10_keepalive": ("b'414' != b'431'", TARGET),
    "TooLargeTests.test_request_body_too_large_with_no_cl_http11": ("b'414' != b'431'", TARGET),
    "TooLargeTests.test_request_body_too_large_with_wrong_cl_http10_keepalive": (
        "b'414' != b'431'",
        TARGET,
    ),
    "TooLargeTests.test_request_body_too_large_with_wrong_cl_http11": ("b'414' != b'431'", TARGET),
}
"""Tests that fail here: a pattern of what they say, and why that is right."""

MAY_BREAK_OFF = {
    "BadContentLengthTests.test_short_body",
    "FileWrapperTests.test_notfilelike_longcl_http11",
    "WriteCallbackTests.test_short_body",
}
"""Tests of BREAKS_OFF that pass when the client has read the beginning in time."""


def test_functional(tmp_path: Path):
    """Each of theirs passes, over TCP and unix sockets, or differs as the table says and in nothing else."""
    with tarfile.open(fetch("waitress", VERSION, SHA256)) as archive:
        archive.extractall(tmp_path, filter="data")
    script = Path(__file__).with_name("as_waitress.py")
    run = subprocess.run(
        # -P: `halfsync` is not the folder of tests beside the script.
        [sys.executable, "-P", script, tmp_path / f"waitress-{VERSION}"],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(SOURCES)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    said: dict[str, str | None] = json.loads(run.stdout)
    assert len(said) == 137
    wrong = {}
    for name, told in said.items():
        shared = re.sub("^(Tcp|Unix)", "", name)
        known = " ".join((told or "").split())
        if shared in MAY_BREAK_OFF:
            right = told is None or re.search("Reset|Closed|to unpack", known)
        elif shared in OTHERWISE:
            right = re.search(OTHERWISE[shared][0], known)
        else:
            right = told is None
        if not right:
            wrong[name] = told
    assert wrong == {}
    assert set(OTHERWISE) | MAY_BREAK_OFF <= {re.sub("^(Tcp|Unix)", "", name) for name in said}
