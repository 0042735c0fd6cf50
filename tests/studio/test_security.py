"""Who may talk to studio: other hosts, other origins, websockets, browsers without the token, oversized bodies."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from diptych.errors import InputError
from diptych.studio.options import StudioOptions
from diptych.studio.security import FORM_BYTES, NO_RESPONSE, Guard

TOKEN = "a-secret-of-24-characters"


async def _app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers with the path; accepts websockets. Reads the body, and stops when the client is gone."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.accept"})
        return
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            await send({"type": "http.response.start", "status": 499, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        if not message.get("more_body"):
            break
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode()})


def ask(
    options: StudioOptions,
    *,
    kind: str = "http",
    path: str = "/",
    query: str = "",
    bodies: tuple[bytes, ...] = (b"",),
    **headers: str,
) -> list[dict[str, Any]]:
    """What the guarded application sends in answer to one request."""
    scope = {
        "type": kind,
        "path": path,
        "query_string": query.encode(),
        "headers": [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()],
    }
    waiting = [
        {"type": "http.request", "body": body, "more_body": i + 1 < len(bodies)} for i, body in enumerate(bodies)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(Guard(_app, options)(scope, receive, send))
    return sent


def status(sent: list[dict[str, Any]]) -> int:
    return int(sent[0]["status"])


LOCAL = StudioOptions()
OURS = {"host": "127.0.0.1:8460"}


def test_an_ordinary_request_passes_with_protective_headers() -> None:
    sent = ask(LOCAL, **OURS)
    assert status(sent) == 200
    headers = dict(sent[0]["headers"])
    assert headers[b"x-content-type-options"] == b"nosniff"
    assert b"frame-ancestors 'self'" in headers[b"content-security-policy"]


@pytest.mark.parametrize("host", ["evil.example:8460", "", "127.0.0.1.evil.example", "[", "localhost@evil.example"])
def test_another_host_is_refused(host: str) -> None:
    assert status(ask(LOCAL, host=host)) == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "http://127.0.0.1:9999", "http://[", "http://127.0.0.1:8460.evil.example"]
)
def test_another_origin_is_refused(origin: str) -> None:
    assert status(ask(LOCAL, **OURS, origin=origin)) == 403
    assert ask(LOCAL, kind="websocket", **OURS, origin=origin)[0]["type"] == "websocket.close"


def test_a_websocket_needs_our_origin() -> None:
    assert ask(LOCAL, kind="websocket", **OURS)[0]["type"] == "websocket.close"
    accepted = ask(LOCAL, kind="websocket", **OURS, origin="http://127.0.0.1:8460")
    assert accepted[0]["type"] == "websocket.accept"


def test_the_token_is_asked_for_kept_in_a_cookie_and_taken_out_of_the_address() -> None:
    options = StudioOptions(host="0.0.0.0", token=TOKEN, allow_host=("lab.example",))
    ours = {"host": "lab.example:8460"}
    assert status(ask(options, **ours)) == 403
    assert status(ask(options, **ours, query="token=wrong")) == 403
    assert status(ask(options, **ours, query="token=%C3%A4")) == 403
    shown = ask(options, **ours, path="//evil.example", query=f"token={TOKEN}")
    headers = dict(shown[0]["headers"])
    assert status(shown) == 303
    assert headers[b"location"] == b"/evil.example"
    assert b"HttpOnly" in headers[b"set-cookie"]
    assert b"SameSite=Strict" in headers[b"set-cookie"]
    cookie = headers[b"set-cookie"].decode().partition(";")[0]
    assert status(ask(options, **ours, cookie=cookie)) == 200
    socket = {"kind": "websocket", **ours, "origin": "http://lab.example:8460"}
    assert ask(options, **socket)[0]["type"] == "websocket.close"
    assert ask(options, **socket, cookie=cookie)[0]["type"] == "websocket.accept"


def test_another_address_than_this_machine_demands_a_token() -> None:
    with pytest.raises(InputError, match="token"):
        StudioOptions.build({"host": "0.0.0.0"})
    with pytest.raises(InputError, match="token"):
        StudioOptions.build({"host": "0.0.0.0", "token": "short"})


def test_an_oversized_body_is_refused_declared_or_not() -> None:
    small = StudioOptions(upload_limit=1e-6)
    large = FORM_BYTES + 10_000
    assert status(ask(small, **OURS, content_length=str(large))) == 413
    assert status(ask(small, **OURS, content_length="-1")) == 413
    assert status(ask(small, **OURS, bodies=(b"x" * large, b""))) == 499
    assert status(ask(small, **OURS, bodies=(b"x" * 1000,))) == 200


@pytest.mark.parametrize("path", ["/user/me/jobs", "/user/me/user/me/jobs"])
def test_a_prefix_is_taken_once_whether_the_proxy_strips_it_or_not(path: str) -> None:
    sent = ask(StudioOptions(prefix="/user/me"), **OURS, path=path)
    assert sent[1]["body"] == b"/user/me/jobs"


@pytest.mark.parametrize("prefix", ["user", "/a/", "/a b", "//evil.example", "/<script>"])
def test_a_prefix_that_is_none_is_refused(prefix: str) -> None:
    with pytest.raises(InputError):
        StudioOptions.build({"prefix": prefix})


@pytest.mark.parametrize(
    ("gone", "text", "quiet"), [(True, NO_RESPONSE, True), (False, NO_RESPONSE, False), (True, "x", False)]
)
def test_a_browser_that_goes_away_leaves_no_error(gone: bool, text: str, quiet: bool) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await receive()
        raise RuntimeError(text)

    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"} if gone else {"type": "http.request"}

    async def send(message: dict[str, Any]) -> None:
        raise AssertionError(message)

    scope = {"type": "http", "path": "/", "query_string": b"", "headers": [(b"host", b"127.0.0.1:80")]}
    answer = Guard(app, StudioOptions())(scope, receive, send)
    if quiet:
        asyncio.run(answer)
        return
    with pytest.raises(RuntimeError, match=text):
        asyncio.run(answer)
