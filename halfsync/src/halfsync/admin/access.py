"""What a request to the admin interface may do: by its client, its token, and what a browser says of it.

A page of any site can make the browser of a person at this machine send requests to it.
It cannot set a JSON content type on them without asking first (the Fetch standard's "CORS-safelisted" types),
which nothing here answers; a browser says that they are another site's (`Sec-Fetch-Site`);
and a site that made its own name point here (DNS rebinding) is told by its `Host`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from halfsync.admin.message import RefusedError
from halfsync.admin.token import TokenError, is_token
from halfsync.endpoints.exposure import is_loopback
from halfsync.logs import get_logger

if TYPE_CHECKING:
    from halfsync.admin.message import AdminRequest

log = get_logger(__name__)

_LOOPBACK = r"(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?"
_HOST = re.compile(_LOOPBACK, re.IGNORECASE)
_ORIGIN = re.compile(rf"https?://{_LOOPBACK}", re.IGNORECASE)
_JSON = re.compile(r"application/json\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)
_FORWARDING = re.compile(
    r"via|forwarded|x-forwarded|x-forwarded-.*|x-real-ip|x-client-ip|x-cluster-client-ip|x-original-.*"
    r"|true-client-ip|cf-connecting-ip|fastly-client-ip"
)
"""Headers that proxies add."""


class Access:
    """The rules of one admin interface."""

    def __init__(self, *, token_file: str = "", unix_is_private: bool = True) -> None:
        """Take what the rules depend on.

        :param token_file: a file with the token; empty when there is none.
        :param unix_is_private: only this user can connect by its UNIX sockets.
        """
        self._token_file = token_file
        self._unix_is_private = unix_is_private

    def check(self, request: AdminRequest, *, changes: bool) -> None:
        """Let a request pass, or not. Health and metrics are for anyone: they need not ask.

        :param changes: it is not only to be read.
        :raises RefusedError: with 401, 403, 415, or 503 when the token cannot be read.
        """
        if request.one("sec-fetch-site") not in (None, "same-origin", "none"):
            raise RefusedError(403, "Sec-Fetch-Site: pages of other sites get nothing here")
        private = self._is_private(request)
        if self._token_file and (changes or not private):
            self._check_token(request)
        elif changes and not is_local(request.client):
            raise RefusedError(403, "peer: changes are made from this machine only")
        # Elsewhere than on this machine it has shown the token, which no page of another site has.
        if (private or not self._token_file) and not _names_us(request):
            raise RefusedError(403, "Host: ask by way of localhost, 127.0.0.1 or [::1]")
        if changes:
            _check_change(request)

    def _check_token(self, request: AdminRequest) -> None:
        try:
            right = is_token(self._token_file, request.one("authorization"))
        except TokenError as error:
            log.error("admin.token_unusable", problem=str(error))  # noqa: TRY400  no bug of ours
            raise RefusedError(503, "the token cannot be read; the log says why") from None
        if not right:
            raise RefusedError(
                401, "Authorization: Bearer, and the token of --admin.token_file", WWW_Authenticate="Bearer"
            )

    def _is_private(self, request: AdminRequest) -> bool:
        return is_loopback(request.local) if request.local else self._unix_is_private


def _names_us(request: AdminRequest) -> bool:
    return not request.client or _HOST.fullmatch(request.one("host") or "") is not None


def _check_change(request: AdminRequest) -> None:
    if request.version == "HTTP/1.0":
        # nginx's proxy_pass speaks it, and sends no header that would tell.
        raise RefusedError(403, "HTTP/1.0: changes are made by HTTP/1.1, and not by way of a proxy")
    for name, _ in request.headers:
        if _FORWARDING.fullmatch(name):
            # A proxy on this machine is a local client, and its own clients need not be.
            raise RefusedError(403, f"{name}: changes are not made by way of a proxy")
    origin = request.one("origin")
    if origin is not None and not _ORIGIN.fullmatch(origin):
        raise RefusedError(403, "Origin: changes are not made by pages of other sites")
    if not _JSON.fullmatch(request.one("content-type") or ""):
        raise RefusedError(415, "Content-Type: a change is application/json")


def is_local(client: str) -> bool:
    """Say whether a client is on this machine: on its loopback, or (the empty text) at a UNIX socket."""
    return not client or is_loopback(client)
