"""Options of the browser app."""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from diptych.runtime.options import Options

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class StudioOptions(Options):
    """Where studio looks for data, and where it listens."""

    data: tuple[Path, ...] = Field(
        (),
        description="Data folders: scans, runs and sessions below them are listed, and typed paths must lie in them. "
        "Without one, the working directory.",
    )
    port: int = Field(8460, ge=0, le=65535, description="TCP port; 0 takes a free one.")
    host: str = Field("127.0.0.1", description="Address to listen on; any other than this machine needs a token.")
    token: str | None = Field(
        None, min_length=16, description="Secret that a browser must present once (?token=...), at least 16 characters."
    )
    allow_host: tuple[str, ...] = Field(
        (), description="Further host names under which browsers may reach studio, for instance a proxy's."
    )
    prefix: str = Field(
        "",
        pattern=r"^(/[A-Za-z0-9._~@%+-]+)*$",
        description="URL prefix under which a proxy serves studio, such as /user/me.",
    )
    upload_limit: float = Field(4.0, gt=0, description="Largest file that may be uploaded, GiB.")
    browser: bool = Field(True, description="Open the page in the browser of this machine.")

    @model_validator(mode="after")
    def _token_beyond_loopback(self) -> Self:
        if self.host not in LOOPBACK and self.token is None:
            raise ValueError(
                "host: an address that other machines can reach needs a token (--token, 16 characters or more)"
            )
        return self

    @property
    def folders(self) -> tuple[Path, ...]:
        """The data folders, absolute; the working directory where none was given."""
        return tuple(path.expanduser().resolve() for path in self.data or (Path(),))
