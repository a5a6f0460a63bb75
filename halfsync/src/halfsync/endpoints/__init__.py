"""Where the service listens: from endpoint strings to connections, and the end of accepting without loss.

parsing        the grammar of the strings, Twisted's and three more
endpoint       a string that was understood
sockets        the socket that it means: bound by us, or inherited
ports          a socket with its factory, its health, its end
acceptor       accepting in the reactor
handshakes     PROXY header and TLS handshake, before a connection is its factory's;
               `proxy_header` and `client_hello` read the bytes
transport      a connection on a plain socket; `tls_transport`: over TLS
certificates   certificates and keys as files, judged as a whole; `tls_context`: as OpenSSL has them
tls            certificates reloaded while the port serves
listener       a flag's strings that listen together, for one factory
addresses      how addresses are written
"""

from halfsync.endpoints.endpoint import Endpoint
from halfsync.endpoints.parsing import EndpointError, parse
from halfsync.endpoints.sockets import ListenError

__all__ = ["Endpoint", "EndpointError", "ListenError", "parse"]
