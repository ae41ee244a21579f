"""Who may ask the review pages for what: everything is refused that a browser of with_csrf would not send.

The pages write into the store, so other web sites that the reviewer visits must not be able to (OWASP, "Cross-Site
Request Forgery Prevention"): a request that changes something needs our own Origin, and a token that only our pages
hold. A site whose name was made to point here (DNS rebinding) fails by the Host header.
"""

import hmac
import ipaddress
import re
import secrets
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from urllib.parse import quote, unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mondegreen.listening import is_loopback

MAX_BODY = 64 * 1024  # bytes; a transcript of the longest that is allowed takes 40 kB when every character is escaped
MAX_NAME = 60  # characters of a reviewer's name
_SAFE = ("GET", "HEAD")
_HOLDER = re.compile("[0-9a-f]{32}")
_HOLDER_COOKIE, _NAME_COOKIE, _TOKEN_COOKIE = "mondegreen_browser", "mondegreen_reviewer", "mondegreen_token"
_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "media-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # Not no-referrer: browsers would then send forms with the Origin "null".
    "referrer-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(frozen=True)
class Access:
    """Who may come in, and by which names.

    Args:
        host: what the server is bound to.
        names: more names that this server is called by, a reverse proxy's for example.
        token: that a browser must bring once; "" when the server is bound to this machine alone.
    """

    host: str = "127.0.0.1"
    names: tuple[str, ...] = ()
    token: str = ""
    secret: bytes = field(default_factory=lambda: secrets.token_bytes(32))

    @classmethod
    def for_host(cls, host: str, names: Iterable[str] = ()) -> "Access":
        """With a new token, and this machine's name, when others can reach the server."""
        if is_loopback(host):
            return cls(host, tuple(names))
        return cls(host, (*names, socket.gethostname(), socket.getfqdn()), secrets.token_urlsafe(24))

    def knows_host(self, header: str) -> bool:
        """Whether a Host header names this server. An address cannot be rebound, so any will do when bound widely."""
        name = _hostname(header)
        if name in ("localhost", self.host.lower(), *(other.lower() for other in self.names)):
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:
            return False
        return address.is_loopback if is_loopback(self.host) else True

    def csrf(self, holder: str) -> str:
        """What the forms of one browser carry."""
        return hmac.digest(self.secret, holder.encode(), "sha256").hex()

    def is_csrf(self, holder: str, given: str) -> bool:
        return hmac.compare_digest(self.csrf(holder).encode(), given.encode())

    def is_token(self, given: str) -> bool:
        return hmac.compare_digest(self.token.encode(), given.encode())


@dataclass(frozen=True)
class Visitor:
    """Whose request it is, by its cookies."""

    holder: str
    name: str  # "" when nobody said
    is_new: bool
    has_token: bool


class AccessMiddleware:
    """ASGI middleware: refuses before anything is read, adds the headers, knows the visitor."""

    def __init__(self, app: ASGIApp, access: Access) -> None:
        self.app, self.access = app, access

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        visitor = _visitor(headers, self.access)
        scope.setdefault("state", {})["visitor"] = visitor
        answer = _with_headers(send, visitor)
        if refusal := self._refusal(scope, headers, visitor):
            status, text = refusal
            await PlainTextResponse(f"{text}\n", status)(scope, receive, answer)
            return
        await self.app(scope, _limited(receive), answer)

    def _refusal(self, scope: Scope, headers: Headers, visitor: Visitor) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or not self.access.knows_host(host):
            return 421, f"This server is not called {host[:100]!r}. Name it with --allow-host if it is."
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not _is_link(headers):
            return 403, "Another site's page asked for this."  # even a look takes cases out of the queue
        if scope["method"] not in _SAFE:
            if scope["method"] != "POST":
                return 405, "Only GET and POST are understood."
            if headers.get("origin", "") not in (f"http://{host}", f"https://{host}"):
                return 403, "This was sent by another site, or by no browser."
            if not headers.get("content-length", "").isdigit():
                return 411, "How long is it?"
            if int(headers["content-length"]) > MAX_BODY:
                return 413, f"More than {MAX_BODY} bytes."
        if self.access.token and not visitor.has_token and scope["path"] != "/enter":
            return 401, "Open the address that `mondegreen review` printed, with its token."
        return None


def token_cookie(access: Access) -> dict[str, object]:
    """Arguments of `set_cookie` that let a browser in: what it keeps is made from the token, not the token itself."""
    return _cookie(_TOKEN_COOKIE, _pass(access))


def name_cookie(name: str) -> dict[str, object]:
    """Arguments of `set_cookie` that remember who reviews in this browser."""
    return _cookie(_NAME_COOKIE, quote(name)) | {"max_age": 90 * 86_400}


def checked_name(name: str) -> str:
    """A reviewer's name as it is stored, "" when it cannot be one."""
    found = " ".join(name.split())
    return found if len(found) <= MAX_NAME and found.isprintable() else ""


def _visitor(headers: Headers, access: Access) -> Visitor:
    cookies: SimpleCookie = SimpleCookie()
    try:
        cookies.load(headers.get("cookie", ""))
    except CookieError:
        cookies.clear()
    given = {key: morsel.value for key, morsel in cookies.items()}
    known = given.get(_HOLDER_COOKIE, "")
    is_new = not _HOLDER.fullmatch(known)
    return Visitor(
        holder=secrets.token_hex(16) if is_new else known,
        name=checked_name(unquote(given.get(_NAME_COOKIE, ""), errors="replace")),
        is_new=is_new,
        has_token=hmac.compare_digest(_pass(access).encode(), given.get(_TOKEN_COOKIE, "").encode()),
    )


def _pass(access: Access) -> str:
    return hmac.digest(access.secret, f"token {access.token}".encode(), "sha256").hex()


def _cookie(key: str, value: str) -> dict[str, object]:
    return {"key": key, "value": value, "httponly": True, "samesite": "strict", "path": "/"}


def _is_link(headers: Headers) -> bool:
    """Whether a person followed a link, rather than a page fetched something."""
    return headers.get("sec-fetch-mode") == "navigate" and headers.get("sec-fetch-dest") == "document"


def _hostname(header: str) -> str:
    """Without the port, lower case; IPv6 keeps its brackets."""
    found = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]/@]+)(?::\d{1,5})?", header)
    return found[1].lower() if found else ""


def _with_headers(send: Send, visitor: Visitor) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
            headers.setdefault("cache-control", "no-store")
            if visitor.is_new:
                headers.append("set-cookie", f"{_HOLDER_COOKIE}={visitor.holder}; HttpOnly; SameSite=Strict; Path=/")
        await send(message)

    return answer


def _limited(receive: Receive) -> Receive:
    """Stops a body that is longer than it said."""
    read = 0

    async def some() -> Message:
        nonlocal read
        message = await receive()
        read += len(message.get("body", b""))
        return {"type": "http.disconnect"} if read > MAX_BODY else message

    return some
