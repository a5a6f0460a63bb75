"""Where the service listens: from endpoint strings to connections, and the end of accepting without loss.

parsing       the grammar of the strings, Twisted's and three more
sockets       the socket that a string means: bound by us, or inherited
ports         accepting from it in the reactor, its health, its end
certificates  certificates and keys as files, judged as a whole
tls           TLS over any of them, reloaded while it runs
listener      a flag's strings that listen together, for one factory
"""

from halfsync.endpoints.parsing import Endpoint, EndpointError, check, parse
from halfsync.endpoints.ports import Bound
from halfsync.endpoints.sockets import ListenError

__all__ = ["Bound", "Endpoint", "EndpointError", "ListenError", "check", "parse"]
