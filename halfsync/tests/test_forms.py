"""Forms for resources of twisted.web: what is read of them, and that it takes no long time."""

from __future__ import annotations

from contextlib import suppress
from time import thread_time

import pytest
from twisted.web.resource import Resource

from halfsync.http.resources.forms import MAX_FIELDS, MAX_FORM, read_form
from http_tools import Connection

TYPE = b"multipart/form-data; boundary=B"
PART = b'--B\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n'
END = b"--B--\r\n"


def test_fields_of_both_kinds():
    """Names and values are bytes; several of a name come in their order."""
    assert read_form(b"Application/X-WWW-form-urlencoded; charset=x", b"a=1&b=%C3%A4+&a=") == {
        b"a": [b"1", b""],
        b"b": [b"\xc3\xa4 "],
    }
    body = PART % (b"a", b"1\r\n2") + PART % (b"b", b"\xff\0") + PART % (b"a", b"") + END
    assert read_form(TYPE, body) == {b"a": [b"1\r\n2", b""], b"b": [b"\xff\0"]}
    assert read_form(b'multipart/Form-Data;x=y; Boundary="B"', b"before\r\n" + body + b"after") == read_form(
        TYPE, body
    )


@pytest.mark.parametrize(
    ("headers", "name"),
    [
        (b"content-disposition:form-data;NAME=a", b"a"),
        (b'Content-Disposition: form-data; filename="x; name=b"; name="a"', b"a"),
        (b'Content-Disposition: form-data; name="a\\"b"', b'a"b'),
        (b"Content-Type: image/png\r\nContent-Disposition: form-data; name=\xc3\xa4", b"\xc3\xa4"),
    ],
)
def test_a_name_is_a_parameter(headers, name):
    """In whatever order and case they stand, quoted or not."""
    assert read_form(TYPE, b"--B\r\n" + headers + b"\r\n\r\nx\r\n" + END) == {name: [b"x"]}


@pytest.mark.parametrize(
    "part",
    [
        b"--B\r\n\r\nx\r\n",
        b"--B\r\nContent-Type: text/plain\r\n\r\nx\r\n",
        b"--B\r\nContent-Disposition: attachment; name=a\r\n\r\nx\r\n",
    ],
)
def test_a_part_without_a_name_is_no_field(part):
    """It is skipped."""
    assert read_form(TYPE, part + PART % (b"a", b"1") + END) == {b"a": [b"1"]}


@pytest.mark.parametrize(
    ("encoding", "content"), [(b"base64", b"aGk="), (b"Quoted-Printable", b"h=69"), (b"8bit", b"hi")]
)
def test_what_is_coded_as_in_mail(encoding, content):
    """Old clients do so, and twisted.web undoes it."""
    head = (
        b"--B\r\nContent-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: %b\r\n\r\n" % encoding
    )
    assert read_form(TYPE, head + content + b"\r\n" + END) == {b"a": [b"hi"]}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"multipart/form-data", PART % (b"a", b"1") + END),
        (b"multipart/form-data; boundary=" + b"B" * 71, END),
        (TYPE, b""),
        (TYPE, PART % (b"a", b"1")),
        (TYPE, PART % (b"a", b"1") + b"--Bx--\r\n"),
        (TYPE, b"--B\r\nContent-Disposition: form-data; name=a\r\n" + END),
        (TYPE, b"--B\r\nX: " + b"x" * 5000 + b"\r\n\r\n\r\n" + END),
        (TYPE + b"; x=\xe4", PART % (b"a", b"1") + END),
    ],
)
def test_what_is_not_well_formed(kind, body):
    """It is refused, rather than read as something else."""
    with pytest.raises(ValueError, match=r"^a "):
        read_form(kind, body)


def test_what_is_no_form_or_too_large():
    """It is left to the resource, in `request.content`, as all that is larger than MAX_FORM."""
    assert read_form(b"text/plain", b"a=1") is None
    for kind, one, end in (
        (b"application/x-www-form-urlencoded", b"a&", b""),
        (TYPE, PART % (b"a", b""), END),
    ):
        assert read_form(kind, one * (MAX_FIELDS - 1) + end) is not None
        assert read_form(kind, one * (MAX_FIELDS + 1) + end) is None


NESTED = b"".join(
    b"--%b\r\nContent-Type: multipart/mixed; boundary=%d\r\n\r\n"
    % (b"B" if at == 0 else b"%d" % (at - 1), at)
    for at in range(1000)
)


@pytest.mark.parametrize(
    "body",
    [
        NESTED + b"\r\n" + END,
        PART % (b"a", b"\n" * 60_000) + END,
        b"--B\r\n" + b"a:b\r\n" * 12_000 + b"\r\n\r\n" + END,
        b"--B\r\nContent-Disposition: form-data" + b";" * 4000 + b"\r\n\r\n\r\n" + END,
        (b"--B\r\nContent-Disposition: form-data" + b";a=b" * 900 + b"\r\n\r\n\r\n") * 17 + END,
        (b'--B\r\nContent-Disposition: form-data; name="' + b'\\"' * 1900 + b"\r\n\r\n\r\n") * 16 + END,
        PART % (b"a", b"") * 1200 + END,
    ],
)
def test_no_form_takes_long(body):
    """Of the processor; Python's parser of mail took up to half a second for these."""
    assert len(body) <= MAX_FORM
    took = []
    for _ in range(3):
        began = thread_time()
        with suppress(ValueError):
            read_form(TYPE, body)
        took.append(thread_time() - began)
    assert min(took) < 0.02


def test_a_resource_finds_them_beside_the_query():
    """A field of the form replaces that of the query, as with twisted.web; the content can be read, too."""

    class Page(Resource):
        isLeaf = True

        def render_POST(self, request):
            return repr((sorted(request.args.items()), len(request.content.read()))).encode()

    for kind, body in ((TYPE, PART % (b"a", b"1") + END), (b"application/x-www-form-urlencoded", b"a=1")):
        head = b"POST /?a=2&b=3 HTTP/1.1\r\nHost: a\r\nContent-Type: %b\r\nContent-Length: %d\r\n\r\n"
        reply = Connection(resource=Page()).send(head % (kind, len(body)) + body)
        assert reply.endswith(b"([(b'a', [b'1']), (b'b', [b'3'])], %d)" % len(body))
