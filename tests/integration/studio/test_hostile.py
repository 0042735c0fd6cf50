"""A hostile browser, page or file at a server that runs: nothing is read, nothing is run, and it goes on serving."""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

import diptych
from diptych.prefer import Ledger, Session
from integration.studio.served import Server

pytestmark = pytest.mark.integration

TOKEN = "a-secret-of-24-characters"
SOCKET = "/_nicegui_ws/socket.io/?EIO=4&transport=websocket"


def connected(server: Server, origin: str | None, **headers: str) -> Any:
    """A websocket to the server, or the exception that opening it raised."""
    client = pytest.importorskip("websockets.sync.client", reason="needs the package websockets")
    try:
        return client.connect(
            f"ws://127.0.0.1:{server.port}{SOCKET}",
            origin=origin,
            additional_headers=headers,
            open_timeout=10,
            proxy=None,
        )
    except Exception as error:
        return error


def alive(server: Server) -> bool:
    with urllib.request.urlopen(f"{server.address}/", timeout=30) as answer:
        return bool(answer.status == 200)


def status(server: Server, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> int:
    """Status of a request whose path is sent as it is written."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.putrequest(method, path, skip_host="Host" in headers)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        if body is not None:
            connection.send(body)
        return int(connection.getresponse().status)
    except ConnectionError:
        return 0  # The server closed the connection: refused.
    finally:
        connection.close()


def test_another_origin_or_name_reaches_neither_pages_nor_the_websocket(server: Server) -> None:
    server.start()
    for origin in (None, "http://evil.example", "null", f"http://localhost.evil.example:{server.port}"):
        assert isinstance(connected(server, origin), Exception), origin
    assert status(server, "/", Host="evil.example") == 403
    assert status(server, "/", Origin="http://evil.example") == 403
    ours = connected(server, server.address)
    assert not isinstance(ours, Exception), ours
    ours.close()


def test_a_second_machine_needs_the_token_for_pages_and_websocket(server: Server) -> None:
    server.options = ("--token", TOKEN)
    with pytest.raises(urllib.error.HTTPError):  # The server runs; a request without the token is refused.
        server.start()
    assert status(server, "/prefer") == 403
    assert isinstance(connected(server, server.address), Exception)
    assert isinstance(connected(server, server.address, Cookie="diptych_token=wrong"), Exception)
    assert status(server, f"/prefer?token={TOKEN}") == 303
    ours = connected(server, server.address, Cookie=f"diptych_token={TOKEN}")
    assert not isinstance(ours, Exception), ours
    ours.close()


GARBAGE = (
    "",
    "garbage",
    "4",
    "42",
    "42[",
    "42null",
    "42[]",
    '42["event"]',
    '42["event", null]',
    '42["event", {"id": "nobody", "client_id": "x", "listener_id": "y", "args": []}]',
    '42["javascript_response", {"client_id": "../../etc", "request_id": 1, "result": 1}]',
    '42["handshake", {"client_id": {"$ne": 1}, "old_tab_id": null, "tab_id": []}]',
    '42["ack", {"client_id": 0}]',
    "42" + "[" * 5000,
    "451-" + '["event", {"_placeholder": true, "num": 9}]',
    b"\x00\xff\xfe",
    b"\x80\x04\x95cos\nsystem\n",
)


def test_garbage_on_the_websocket_ends_nothing_but_itself(server: Server, page: Any) -> None:
    with Session.open(server.folder / "lake", decoder="synthetic", dimension=256, prompt="a lake"):
        pass
    page.goto(f"{server.start()}/prefer?session=lake")
    page.wait_for_selector(".stage-tile img")
    for message in GARBAGE:
        socket = connected(server, server.address)
        assert not isinstance(socket, Exception)
        with socket:
            socket.recv(timeout=10)
            socket.send("40")
            socket.send(message)
            with suppress(Exception):  # Nothing to say, or closed: both are fine.
                socket.recv(timeout=0.3)
        assert alive(server), message
    # The tab that was open goes on.
    page.keyboard.press("g")
    page.wait_for_function("() => Number(document.querySelector('.stage').dataset.rows) === 1", timeout=60_000)
    with Ledger.open(server.folder / "lake", read_only=True) as ledger:
        assert len(ledger.judgements()) == 1


UP = ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "....//", "%252e%252e%252f")


def test_no_address_reads_a_file_outside(server: Server) -> None:
    (server.folder.parent / "secret.npz").write_bytes(b"secret")
    server.start()
    for up in UP:
        for route in (
            "/studio-scan/1/",
            "/studio-view/",
            "/studio-image/x/",
            "/prefer/file/x/",
            "/prefer/picture/x/",
            "/",
        ):
            for target in ("secret.npz", "etc/passwd"):
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
                connection.putrequest("GET", route + up * 6 + target)
                connection.endheaders()
                answer = connection.getresponse().read()
                connection.close()
                assert b"root:" not in answer
                assert answer != b"secret"
    assert alive(server)


def test_an_upload_beyond_the_limit_is_refused_declared_or_not(server: Server) -> None:
    server.options = ("--upload-limit", "0.0001")
    server.start()
    large = 4_000_000
    assert status(server, "/", "POST", Content_Length=str(10**12)) == 413
    assert status(server, "/", "POST", Content_Length="x") in (400, 413)
    chunks = (b"%x\r\n%s\r\n" % (large, b"x" * large)) + b"0\r\n\r\n"
    assert status(server, "/", "POST", chunks, Transfer_Encoding="chunked") in (0, 400, 405, 413)
    assert alive(server)
    assert not list(server.folder.rglob("*"))


def test_hostile_files_are_refused_with_a_message_and_the_server_goes_on(server: Server, page: Any) -> None:
    from studio.hostile import FILES

    for name, content in FILES.items():
        (server.folder / name).write_bytes(content)
    outside = server.folder.parent / "outside.npz"
    diptych.save(diptych.simulate(object="blocks", size=16, patterns=16, step=2.0, seed=0), outside)
    (server.folder / "link.npz").symlink_to(outside)
    server.start()
    for name in (*FILES, "link.npz", "../outside.npz", str(outside)):
        page.goto(f"{server.address}/reconstruct?file={name}")
        said = name if name in FILES else "outside the data folders"
        page.locator('[role="alert"]').filter(has_text=said).first.wait_for(timeout=20_000)
        assert page.get_by_text("Photons per pattern:").count() == 0, name
    assert not Path("/tmp/diptych-hacked").exists()
    assert alive(server)
