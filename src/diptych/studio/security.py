"""Who may talk to studio: Host, Origin and token are checked for every request and every websocket.

A page of another site that a person has open can send requests to 127.0.0.1, and a websocket is not bound by the
same-origin rule of browsers. Both carry an ``Origin`` that is not ours; a rebound name (DNS rebinding) carries a
``Host`` that is not ours.
"""

from __future__ import annotations

import hmac
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import parse_qs, urlsplit

from diptych.studio.options import LOOPBACK, StudioOptions

COOKIE = "diptych_token"

FORM_BYTES = 2**20
"""What a form may hold beside the file."""

NO_RESPONSE = "No response returned."
"""What Starlette raises where the browser of a request has gone."""

HEADERS = {
    # The web framework evaluates templates and inlines scripts; nothing may come from, or go to, another site.
    "content-security-policy": "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; "
    "connect-src 'self'; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'self'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "SAMEORIGIN",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """ASGI middleware that refuses other hosts, other origins and, where a token is set, browsers without it.

    Parameters
    ----------
    app : ASGI application
        What is guarded.
    options : StudioOptions
        Host names and token.
    """

    def __init__(self, app: Any, options: StudioOptions) -> None:
        self._app = app
        self._hosts = {*LOOPBACK, *(host.lower() for host in options.allow_host)}
        if options.host not in ("0.0.0.0", "::"):
            self._hosts.add(options.host.lower())
        self._token = options.token
        self._prefix = options.prefix
        self._limit = int(options.upload_limit * 2**30) + FORM_BYTES

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Answer the request, or pass it on."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        reason = self._refusal(scope)
        if reason and scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008, "reason": reason})
        elif reason:
            await _answer(send, 403, reason)
        elif self._token is not None and scope["type"] == "http" and self._presented(scope) is not None:
            await self._keep_token(scope, send)
        elif (
            scope["type"] == "http"
            and (declared := _header(scope, b"content-length"))
            and (not declared.isdecimal() or int(declared) > self._limit)
        ):
            await _answer(send, 413, "the upload is larger than --upload-limit allows")
        else:
            await _served(self._app, self._unprefixed(scope), _limited(receive, self._limit), _with_headers(send))

    def _unprefixed(self, scope: dict[str, Any]) -> dict[str, Any]:
        """The request with the prefix once in its path, whether the proxy strips it or not."""
        twice = self._prefix * 2
        if self._prefix and (scope["path"] == twice or scope["path"].startswith(twice + "/")):
            return {**scope, "path": scope["path"][len(self._prefix) :]}
        return scope

    def _refusal(self, scope: dict[str, Any]) -> str:
        """Why a request is refused; empty where it is not."""
        host, origin = _header(scope, b"host"), _header(scope, b"origin")
        name = (urlsplit(f"//{host}").hostname or "") if _splits(host) else ""
        if name.lower() not in self._hosts:
            return "this host name is not allowed; start studio with --allow-host NAME"
        if origin and (not _splits(origin) or urlsplit(origin).netloc.lower() != host.lower()):
            return "requests from pages of other sites are refused"
        if scope["type"] == "websocket" and not origin:
            return "a websocket without an Origin is refused"
        if self._token is None:
            return ""
        given = self._presented(scope) or _cookie(scope)
        known = given is not None and hmac.compare_digest(given.encode(), self._token.encode())
        return "" if known else "a token is needed: open the address that studio printed"

    def _presented(self, scope: dict[str, Any]) -> str | None:
        values = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
        return values[0] if values else None

    async def _keep_token(self, scope: dict[str, Any], send: Any) -> None:
        """Store the token in a cookie and show the same page without it in the address."""
        path = scope.get("root_path", "") + scope.get("path", "/").removeprefix(scope.get("root_path", ""))
        target = "/" + path.lstrip("/\\")
        cookie = f"{COOKIE}={self._token}; Path=/; HttpOnly; SameSite=Strict"
        headers = [(b"location", target.encode("ascii", "replace")), (b"set-cookie", cookie.encode())]
        await send({"type": "http.response.start", "status": 303, "headers": headers})
        await send({"type": "http.response.body", "body": b""})


async def _served(app: Any, scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Pass a request on; where the browser goes away before the answer, end it without the web framework's error."""
    gone = False

    async def receiving() -> Any:
        nonlocal gone
        message = await receive()
        gone |= message["type"] == "http.disconnect"
        return message

    try:
        await app(scope, receiving, send)
    except RuntimeError as error:
        if not gone or str(error) != NO_RESPONSE:
            raise


def _header(scope: dict[str, Any], name: bytes) -> str:
    return next((value.decode("latin-1") for key, value in scope["headers"] if key == name), "")


def _splits(address: str) -> bool:
    try:
        urlsplit(address if "//" in address else f"//{address}")
    except ValueError:
        return False
    return True


def _cookie(scope: dict[str, Any]) -> str | None:
    try:
        found = SimpleCookie(_header(scope, b"cookie")).get(COOKIE)
    except CookieError:
        return None
    return None if found is None else found.value


def _limited(receive: Any, limit: int) -> Any:
    """``receive`` that ends a request whose body exceeds the limit, also where its length was not declared."""
    count = 0

    async def receiving() -> Any:
        nonlocal count
        message = await receive()
        if message["type"] == "http.request":
            count += len(message.get("body", b""))
            if count > limit:
                return {"type": "http.disconnect"}
        return message

    return receiving


def _with_headers(send: Any) -> Any:
    async def sending(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.start":
            present = {key.lower() for key, _ in message.get("headers", [])}
            extra = [(k.encode(), v.encode()) for k, v in HEADERS.items() if k.encode() not in present]
            message = {**message, "headers": [*message.get("headers", []), *extra]}
        await send(message)

    return sending


async def _answer(send: Any, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"diptych studio: {text}\n".encode()})
