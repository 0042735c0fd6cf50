"""An HTTP server for a decoder: ``diptych prefer serve-decoder``."""

from __future__ import annotations

import dataclasses
import hmac
import json
import logging
import math
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diptych.errors import DiptychError, InputError
from diptych.prefer.decoders.protocols import Decoder, cube_of, last_decode, latent_shape, start_of, with_frame
from diptych.prefer.decoders.wire import (
    LARGEST_REQUEST,
    PORT,
    cube_fields,
    frame_fields,
    image_field,
    is_loopback,
    parsed,
    read_latent,
)
from diptych.prefer.ledger.files import encode_png
from diptych.prefer.spaces.sphere import prompt_anchor

log = logging.getLogger("diptych")

WAITING = 16
"""Largest number of waiting requests; further ones are rejected with status 503."""

SECONDS = 30.0
"""Timeout for sending a request and for reading the response."""

Answer = tuple[int, dict[str, Any]]


class DecoderServer(ThreadingHTTPServer):
    """Serves one decoder; images are decoded one at a time. Run it with ``serve_forever()``.

    ``GET /health``
        Name, space, dimension, shape, frame and cost; for a cube also categories, flats and start.
    ``POST /describe``
        The same for the requested frame.
    ``POST /generate``
        The image of a prompt: of its anchor, or of the normal latent drawn with ``latent_seed``.
    ``POST /generate_latents``
        The image of ``latents`` (nested lists) with an optional ``shape``.

    The last three take prompt, negative_prompt, width, height, steps, guidance, scheduler and seed in a JSON object;
    missing fields keep the value of the decoder. The response has the image as base64 PNG in ``image``, and the frame
    that was in effect.

    Parameters
    ----------
    decoder : Decoder
    host : str
        A loopback address can be reached only from this machine; any other address needs a token.
    port : int
        0 selects a free port.
    token : str, optional
        Requests must have the header ``Authorization: Bearer TOKEN``.

    Raises
    ------
    InputError
        If an address that others can reach has no token, or the address is not available.
    """

    daemon_threads = True

    def __init__(self, decoder: Decoder, host: str = "127.0.0.1", port: int = PORT, token: str | None = None) -> None:
        if not token and not is_loopback(host):
            raise InputError(
                host, "can be reached from other machines", "a token", "Pass a token (--token), or serve on 127.0.0.1."
            )
        self.decoder, self.token = decoder, token
        self.turn, self.places = threading.Lock(), threading.BoundedSemaphore(WAITING)
        try:
            super().__init__((host, port), _Handler)
        except (OSError, OverflowError) as error:
            raise InputError(
                f"{host}:{port}", f"cannot be served ({error})", remedy="Choose another host or port."
            ) from None

    @property
    def url(self) -> str:
        """Address of the server."""
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"


class _Handler(BaseHTTPRequestHandler):
    server: DecoderServer
    timeout = SECONDS
    server_version, sys_version = "diptych", ""

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _get(self) -> Answer:
        if self.path != "/health":
            return _no_such(self.path)
        return 200, {"status": "ok", **_about(self.server.decoder)}

    def _post(self) -> Answer:
        work = {"/describe": _describe, "/generate": _generate, "/generate_latents": _generate_latents}.get(self.path)
        if work is None:
            return _no_such(self.path)
        # Web pages of other sites can post forms to this machine, but not this content type.
        if self.headers.get_content_type() != "application/json":
            return 415, {"error": "the request is not application/json; send a JSON object."}
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            return 411, {"error": "the request has no length (Content-Length)."}
        if int(length) > LARGEST_REQUEST:
            return 413, {"error": f"the request has {length} bytes; expected at most {LARGEST_REQUEST}."}
        values = parsed(self.rfile.read(int(length)), "the request")
        if not self.server.places.acquire(blocking=False):
            return 503, {"error": f"{WAITING} requests are waiting; try again later."}
        try:
            return 200, work(self.server, values)
        finally:
            self.server.places.release()

    def _answer(self, work: Callable[[], Answer]) -> None:
        try:
            status, values = self._refusal() or work()
        except InputError as error:
            status, values = 400, {"error": str(error)}
        except DiptychError as error:
            status, values = 503, {"error": str(error)}
        except TimeoutError:
            status, values = 408, {"error": "the request took too long."}
        except Exception:
            log.exception("[pipe] a request to the decoder failed")
            status, values = 500, {"error": "the decoder failed; see its log."}
        data = json.dumps(values).encode()
        # The unread rest of a rejected request must not be read as the next one.
        self.close_connection = True
        try:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        except OSError as error:
            log.info("[pipe] %s closed the connection (%s)", self.address_string(), error)

    def _refusal(self) -> Answer | None:
        """The response if the request is not allowed: a wrong token or, without token, another host name (DNS
        rebinding); otherwise None.
        """
        if self.server.token:
            given = self.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
                return 401, {"error": "the token is missing or wrong; give the one that the server was started with."}
            return None
        name = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        return (
            None if is_loopback(name) else (403, {"error": f"the host of the request is {name!r}; expected localhost."})
        )

    def log_message(self, format: str, *args: Any) -> None:
        log.info("[pipe] %s %s", self.address_string(), format % args)


def _no_such(path: str) -> Answer:
    return 404, {"error": f"there is no {path!r}; expected /health, /describe, /generate or /generate_latents."}


def _about(decoder: Decoder) -> dict[str, Any]:
    shape = latent_shape(decoder)
    cube = cube_fields(cube_of(decoder), start_of(decoder)) if decoder.space == "cube" else {}
    return {
        **cube,
        "decoder": decoder.name,
        "space": decoder.space,
        "dimension": decoder.dimension,
        "shape": None if shape is None else list(shape),
        "frame": dataclasses.asdict(decoder.frame),
        "cost": _measured(decoder),
    }


def _changed(decoder: Decoder, values: dict[str, Any]) -> Decoder:
    """The decoder with the requested frame."""
    return with_frame(
        decoder,
        {name: value for name, value in frame_fields(values).items() if value != getattr(decoder.frame, name)},
    )


def _describe(server: DecoderServer, values: dict[str, Any]) -> dict[str, Any]:
    return _about(_changed(server.decoder, values))


def _generate(server: DecoderServer, values: dict[str, Any]) -> dict[str, Any]:
    changed = _changed(server.decoder, values)
    seed = values.get("latent_seed")
    if seed is not None and not (isinstance(seed, int) and not isinstance(seed, bool) and seed >= 0):
        raise InputError("latent_seed", f"is {seed!r}", "an integer of 0 or more")
    if changed.space != "sphere":
        raise InputError(
            f"decoder {changed.name}", "makes no images of prompts", remedy="Send latents to /generate_latents."
        )
    if seed is None:
        return _image(server, changed, prompt_anchor(changed.frame.prompt, changed.dimension))
    return _image(server, changed, np.random.default_rng(seed).standard_normal(changed.dimension).astype(np.float32))


def _generate_latents(server: DecoderServer, values: dict[str, Any]) -> dict[str, Any]:
    return _image(server, _changed(server.decoder, values), read_latent(values))


def _image(server: DecoderServer, decoder: Decoder, latent: NDArray[np.float32]) -> dict[str, Any]:
    with server.turn:
        image = decoder.decode(latent)
        last = last_decode(decoder)
        return {
            "image": image_field(encode_png(image)),
            "frame": dataclasses.asdict(decoder.frame),
            "seconds": _measured(decoder),
            "flaw": last.flaw if last else "",
            "retried": last.retried if last else "",
        }


def _measured(decoder: Decoder) -> float | None:
    return decoder.cost if math.isfinite(decoder.cost) else None
