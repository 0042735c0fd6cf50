"""A decoder on another machine or in another process, over HTTP."""

from __future__ import annotations

import http.client
import json
import logging
import math
import os
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from diptych.errors import InputError, UnavailableError
from diptych.prefer.decoders.base import BaseDecoder, Decoded
from diptych.prefer.decoders.protocols import Space
from diptych.prefer.decoders.registry import DecoderKind
from diptych.prefer.decoders.wire import (
    FIELDS,
    LARGEST_ANSWER,
    PORT,
    is_loopback,
    latent_fields,
    parsed,
    read_cube,
    read_image,
)
from diptych.prefer.judgement import Frame
from diptych.prefer.spaces.cube import Flat
from diptych.runtime.options import Options

log = logging.getLogger("diptych")

PROBE_SECONDS = 2.0
"""Timeout of a health check."""

ANSWER_SECONDS = 10.0
"""Timeout of a description."""

DECODE_SECONDS = 600.0
"""Timeout of an image, which may have to wait for images of other clients."""


TOKEN = "DIPTYCH_TOKEN"
"""Environment variable: the token that clients of a server must send."""


class RemoteOptions(Options):
    """Options of the decoder remote."""

    url: str | None = Field(None, description="Address of a remote decoder")
    width: int | None = Field(None, ge=8, description="Width of the image, pixels")
    height: int | None = Field(None, ge=8, description="Height of the image, pixels")
    steps: int | None = Field(None, ge=1, description="Denoising steps; the server's when not given")
    guidance: float | None = Field(None, ge=0, description="Guidance scale; the server's when not given")
    scheduler: str | None = Field(None, description="Scheduler; the server's when not given")


class Remote(BaseDecoder):
    """A decoder served by ``diptych prefer serve-decoder``.

    Parameters
    ----------
    url : str
        Such as ``http://localhost:8000``.
    prompt, negative_prompt : str, optional
        By default those of the server.
    width, height, steps : int, optional
        By default those of the server.
    guidance : float, optional
    scheduler : str, optional
    seed : int, optional
        Seed of the frame, by default that of the server.
    token : str, optional
        The token that the server was started with.

    Attributes
    ----------
    categories, flats : tuple
        See :class:`diptych.prefer.spaces.cube.Cube`; empty for a sphere.
    start : (d,) float32
        The default settings of the server; for a sphere, zeros.

    Raises
    ------
    InputError
        If the address is invalid, or the server rejects the settings or the token.
    UnavailableError
        If no decoder answers at that address.
    """

    def __init__(
        self,
        url: str,
        prompt: str | None = None,
        negative_prompt: str | None = None,
        width: int | None = None,
        height: int | None = None,
        steps: int | None = None,
        guidance: float | None = None,
        scheduler: str | None = None,
        seed: int | None = None,
        token: str | None = None,
    ) -> None:
        self._server = Server(url, token)
        given = (prompt, negative_prompt, width, height, steps, guidance, scheduler, seed)
        self._fields = {name: value for name, value in zip(FIELDS, given, strict=True) if value is not None}
        about = self._server.ask("POST", "/describe", self._fields, ANSWER_SECONDS)
        space, dimension, shape = about.get("space"), about.get("dimension"), about.get("shape")
        if (
            space not in ("sphere", "cube")
            or not isinstance(dimension, int)
            or not (shape is None or _is_shape(shape, dimension))
        ):
            raise self._server.unexpected("describes no decoder")
        frame = self._frame_of(about)
        self.categories: tuple[slice, ...] = ()
        self.flats: tuple[Flat, ...] = ()
        self.start = np.zeros(dimension, np.float32)
        if space == "cube":
            try:
                cube, self.start = read_cube(about, dimension)
            except InputError as error:
                raise self._server.unexpected(f"describes no cube: {error}") from None
            self.categories, self.flats = cube.categories, cube.flats
        super().__init__(
            "remote", cast("Space", space), dimension, frame, None if shape is None else cast("Any", tuple(shape))
        )

    def changed(self, **fields: Any) -> Remote:
        """The decoder of the same server with other values of prompt, negative_prompt, width, height, steps, guidance,
        scheduler or seed.
        """
        return Remote(**{**self._fields, **fields}, url=self._server.url, token=self._server.token)

    def _decode(self, latent: NDArray[np.float32]) -> Decoded:
        shaped = latent if self.shape is None else latent.reshape(self.shape)
        answer = self._server.ask(
            "POST", "/generate_latents", {**self._fields, **latent_fields(shaped)}, DECODE_SECONDS
        )
        self._frame = self._frame_of(answer)
        flaw = answer.get("flaw", "")
        return Decoded(
            read_image(answer.get("image"), self._frame, self._server.url),
            flaw != "not finite",
            str(answer.get("retried", "")),
        )

    def _frame_of(self, answer: dict[str, Any]) -> Frame:
        try:
            return Frame.from_json(json.dumps(answer.get("frame")))
        except (InputError, TypeError, ValueError) as error:
            raise self._server.unexpected(f"sends no frame: {error}") from None


class Server:
    """Client of one address. Redirections and proxies are not followed.

    Parameters
    ----------
    url : str
    token : str, optional
    """

    def __init__(self, url: str, token: str | None = None) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            parts, port = urlsplit(""), None
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.username is not None:
            raise InputError("url", f"{url!r} is not the address of a decoder", f"for instance http://localhost:{PORT}")
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise InputError(
                "token", "is empty or has characters that are not printable ASCII", "printable ASCII characters"
            )
        self.url, self.token = url.rstrip("/"), token
        self._host, self._path = parts.hostname, parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._port = port or (443 if self._secure else 80)
        if token and not self._secure and not is_loopback(self._host):
            log.warning("%s: the token is sent unencrypted; use https, or an ssh tunnel to localhost", self.url)

    def ask(self, method: str, path: str, values: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Send JSON values and return those of the response.

        Raises
        ------
        InputError
            If the server rejects the request.
        UnavailableError
            If it cannot be reached, closes the connection, or does not respond with JSON.
        """
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout)
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        try:
            connection.request(method, self._path + path, json.dumps(values).encode(), headers)
            answer = connection.getresponse()
            data = answer.read(LARGEST_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            raise UnavailableError(
                f"{self.url}: no decoder answers ({error or type(error).__name__}). Start one with `diptych prefer "
                "serve-decoder`, or give another address."
            ) from error
        finally:
            connection.close()
        if len(data) > LARGEST_ANSWER:
            raise self.unexpected("sends a response that is too large")
        try:
            found = parsed(data, self.url)
        except InputError:
            raise self.unexpected(f"responds with status {answer.status} and no JSON") from None
        if answer.status == 200:
            return found
        problem = str(found.get("error", answer.reason))
        if 400 <= answer.status < 500:
            raise InputError(self.url, problem)
        raise UnavailableError(f"{self.url}: {problem}")

    def unexpected(self, what: str) -> UnavailableError:
        """The error for a server that is not a decoder."""
        return UnavailableError(f"{self.url}: {what}; expected a server started with `diptych prefer serve-decoder`.")


def health(url: str, token: str | None = None) -> dict[str, Any]:
    """Description of the server at an address; waits for at most :data:`PROBE_SECONDS`.

    Raises
    ------
    UnavailableError
        If no decoder answers at that address.
    """
    return Server(url, token).ask("GET", "/health", {}, PROBE_SECONDS)


def _is_shape(shape: Any, dimension: int) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) == 3
        and all(isinstance(n, int) and n > 0 for n in shape)
        and math.prod(shape) == dimension
    )


def _open(options: RemoteOptions, prompt: str | None, negative_prompt: str | None) -> Remote:
    if options.url is None:
        raise InputError(
            "decoder remote", "no address is given", "for instance http://localhost:8000", "Pass url (--url)."
        )
    fields = options.model_dump(exclude={"url"})
    return Remote(options.url, prompt, negative_prompt, **fields, token=os.environ.get(TOKEN) or None)


DECODER = DecoderKind(
    "remote", "A decoder on another machine (diptych prefer serve-decoder).", RemoteOptions, None, "own", _open
)
