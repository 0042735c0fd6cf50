"""Studio under a URL prefix, behind a proxy that strips the prefix and behind one that keeps it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

import diptych
from diptych.prefer import Session
from diptych.ptycho.scan import Canvas, Reconstruction
from integration.studio.served import Server

pytestmark = pytest.mark.integration

PREFIX = "/user/me/proxy/8460"


class Proxy:
    """Passes each request to a port, one request per connection; websockets are passed on as they are."""

    def __init__(self, port: int, *, strips: bool) -> None:
        self.target, self.strips = port, strips
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listening.getsockname()[1]}{PREFIX}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self.listening.accept()[0],), daemon=True).start()

    def _serve(self, browser: socket.socket) -> None:
        with suppress(OSError), browser, socket.create_connection(("127.0.0.1", self.target)) as server:
            head = b""
            while b"\r\n\r\n" not in head:
                if not (part := browser.recv(65536)):
                    return
                head += part
            first, _, rest = head.partition(b"\r\n")
            method, path, version = first.split(b" ")
            if not path.startswith(PREFIX.encode()):
                browser.sendall(b"HTTP/1.1 404 Not here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                return
            if self.strips:
                path = path.removeprefix(PREFIX.encode()) or b"/"
            if b"upgrade: websocket" not in rest.lower():
                rest = b"Connection: close\r\n" + rest.replace(b"Connection: keep-alive\r\n", b"")
            server.sendall(b" ".join([method, path, version]) + b"\r\n" + rest)
            back = threading.Thread(target=_pipe, args=(server, browser), daemon=True)
            back.start()
            _pipe(browser, server)
            back.join()


def _pipe(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)


@pytest.fixture(params=[True, False], ids=["strips", "keeps"])
def proxy(request: pytest.FixtureRequest, server: Server) -> Iterator[Proxy]:
    values = np.exp(1j * np.random.default_rng(0).uniform(-1, 1, (64, 64))).astype(np.complex64)
    result = Reconstruction(Canvas(values), np.ones((1, 8, 8), np.complex64), np.full((3, 2), 30.0))
    diptych.save(result, server.folder / "one.h5")
    with Session.open(server.folder / "lake", decoder="synthetic", dimension=256, prompt="a lake"):
        pass
    server.options = ("--prefix", PREFIX)
    server.start()
    found = Proxy(int(server.address.removesuffix(PREFIX).rsplit(":", 1)[1]), strips=request.param)
    yield found
    found.listening.close()


def test_pages_pictures_and_labels_work_under_a_prefix(page: Any, proxy: Proxy) -> None:
    page.goto(f"{proxy.address}/")
    page.get_by_text("one.h5").wait_for()
    page.get_by_role("link", name="lake", exact=True).click()
    page.wait_for_url(f"{proxy.address}/prefer?session=**")
    page.wait_for_function("() => document.querySelector('.stage-tile img')?.naturalWidth > 0", timeout=60_000)
    page.get_by_role("button", name="Good (G)").first.click()
    page.get_by_text("Saved sample #1").first.wait_for()
    page.get_by_role("link", name="Home", exact=True).click()
    page.get_by_role("link", name="one.h5").click()
    page.wait_for_url(f"{proxy.address}/compare?file=**")
    page.wait_for_function(
        "() => JSON.parse(document.querySelector('.dv canvas')?.dataset.state ?? '{}').level === 0", timeout=60_000
    )
