from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from thrift.protocol.TBinaryProtocol import TBinaryProtocol
from thrift.transport.TSocket import TSocket
from thrift.transport.TTransport import TFramedTransport

from {{ cookiecutter.package_name }}.gen.hello import Hello
from {{ cookiecutter.package_name }}.gen.hello.ttypes import InvalidName

if TYPE_CHECKING:
    from collections.abc import Iterator

    from halfsync.testing import ServiceProcess


@pytest.fixture
def client(service: ServiceProcess) -> Iterator[Hello.Client]:
    """Apache's own client, connected to the service."""
    transport = TFramedTransport(TSocket(*service.address("rpc")))
    transport.open()
    yield Hello.Client(TBinaryProtocol(transport))
    transport.close()


def test_hello(client: Hello.Client) -> None:
    """A call is answered with the name as it was sent, in any script."""
    assert client.hello("Zoë 北京") == "Hello, Zoë 北京!"


def test_no_name(client: Hello.Client) -> None:
    """A call without a name is answered by the exception of hello.thrift, and the next call as any other."""
    with pytest.raises(InvalidName) as caught:
        client.hello("")
    assert caught.value.reason == "a name is wanted"
    assert client.hello("Ada") == "Hello, Ada!"
