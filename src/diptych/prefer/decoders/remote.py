"""A decoder on another machine, or in another process, reached over HTTP."""

from __future__ import annotations

import http.client
import json
import logging
import math
from typing import Any, cast
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from diptych.errors import InputError, UnavailableError
from diptych.prefer.decoders import Space
from diptych.prefer.decoders.base import BaseDecoder, Decoded
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

log = logging.getLogger("diptych")

PROBE_SECONDS = 2.0
"""How long to wait for the server to say that it is there."""

ANSWER_SECONDS = 10.0
"""How long to wait for a description."""

DECODE_SECONDS = 600.0
"""How long to wait for an image; a first one may wait for others."""


class Remote(BaseDecoder):
    """The decoder behind ``diptych prefer serve-decoder``.

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
        Of the frame, by default that of the server.
    token : str, optional
        What the server was started with.

    Attributes
    ----------
    categories, flats : tuple
        Of a cube only: see :class:`diptych.prefer.spaces.cube.Cube`.
    start : (d,) float32
        Of a cube only: the settings that are usual on the server, else the centre.

    Raises
    ------
    InputError
        The address is none, or the server refuses the settings or the token.
    UnavailableError
        No decoder answers there.
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
            raise self._server.nonsense("describes no decoder")
        frame = self._frame_of(about)
        if space == "cube":
            try:
                cube, self.start = read_cube(about, dimension)
            except InputError as error:
                raise self._server.nonsense(f"describes no cube: {error}") from None
            self.categories, self.flats = cube.categories, cube.flats
        super().__init__(
            "remote", cast("Space", space), dimension, frame, None if shape is None else cast("Any", tuple(shape))
        )

    def changed(self, **fields: Any) -> Remote:
        """The same server's decoder of another frame: any of prompt, negative_prompt, width, height, steps, guidance,
        scheduler, seed.
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
            raise self._server.nonsense(f"sends no frame: {error}") from None


class Server:
    """One address, and how to ask it. Neither redirections nor proxies are followed.

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
            raise InputError(f"{url!r} is no address of a decoder; expected one such as http://localhost:{PORT}.")
        if token is not None and not (token.isascii() and token.isprintable() and token):
            raise InputError("the token for the decoder is empty or has unusual characters; expected printable ASCII.")
        self.url, self.token = url.rstrip("/"), token
        self._host, self._path = parts.hostname, parts.path.rstrip("/")
        self._secure = parts.scheme == "https"
        self._port = port or (443 if self._secure else 80)
        if token and not self._secure and not is_loopback(self._host):
            log.warning("%s: the token travels unencrypted; use https, or an ssh tunnel to localhost", self.url)

    def ask(self, method: str, path: str, values: dict[str, Any], timeout: float) -> dict[str, Any]:
        """Send JSON values and return those of the answer.

        Raises
        ------
        InputError
            The server finds fault with the request.
        UnavailableError
            It cannot be reached, breaks off, or answers with something else than JSON.
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
                f"{self.url}: no decoder answers ({error or type(error).__name__}); start one with `diptych prefer "
                f"serve-decoder`, "
                "or give another address."
            ) from error
        finally:
            connection.close()
        if len(data) > LARGEST_ANSWER:
            raise self.nonsense("sends more than an image")
        try:
            found = parsed(data, self.url)
        except InputError:
            raise self.nonsense(f"answers {answer.status} and no JSON") from None
        if answer.status == 200:
            return found
        message = f"{self.url}: {found.get('error', answer.reason)}"
        raise InputError(message) if 400 <= answer.status < 500 else UnavailableError(message)

    def nonsense(self, what: str) -> UnavailableError:
        """The error for a server that is no decoder of ours."""
        return UnavailableError(f"{self.url}: {what}; expected a server started with `diptych prefer serve-decoder`.")


def health(url: str, token: str | None = None) -> dict[str, Any]:
    """What the server at an address says of itself, within two seconds.

    Raises
    ------
    UnavailableError
        No decoder answers there.
    """
    return Server(url, token).ask("GET", "/health", {}, PROBE_SECONDS)


def _is_shape(shape: Any, dimension: int) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) == 3
        and all(isinstance(n, int) and n > 0 for n in shape)
        and math.prod(shape) == dimension
    )
