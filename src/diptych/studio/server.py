"""The server: NiceGUI on one port, guarded, with the pages."""

from __future__ import annotations

import asyncio
import secrets
import socket
from typing import Any

from diptych.errors import InputError, UnavailableError
from diptych.studio.options import StudioOptions

RECONNECT = 30.0
"""Time for which a page waits for a lost connection, s; after that it is loaded anew, without what was unfolded or
typed in it. A tunnel or a busy machine may pause for seconds.
"""


def run(options: StudioOptions) -> None:
    """Serve studio until the process is stopped.

    Raises
    ------
    UnavailableError
        If NiceGUI is not installed.
    InputError
        If a data folder does not exist, or the port is taken.
    """
    try:
        from nicegui import app, background_tasks, ui
    except ModuleNotFoundError:
        raise UnavailableError("studio needs NiceGUI: pip install 'diptych[studio]'") from None
    from diptych.studio.context import Studio
    from diptych.studio.loading import Loading, load
    from diptych.studio.pages import register_first
    from diptych.studio.security import Guard

    # A bar over every page, without a name, for requests that take milliseconds.
    app.config.quasar_config["loadingBar"]["skipHijack"] = True
    studio = Studio(options)
    port = options.port or _free_port(options.host)
    _check_port(options.host, port)
    ready = asyncio.Event()
    register_first(studio)
    app.on_startup(lambda: background_tasks.create(load(studio, ready), name="load pages"))
    app.add_middleware(Loading, ready=ready, prefix=options.prefix)
    app.add_middleware(Guard, options=options)
    app.on_shutdown(studio.close)
    address = f"http://{'[' + options.host + ']' if ':' in options.host else options.host}:{port}{options.prefix}/"
    shown = f"{address}?token={options.token}" if options.token else address
    app.on_startup(lambda: _say_when_open(options.host, port, f"diptych studio: {shown}  (Ctrl-C stops it)"))
    more: dict[str, Any] = {"root_path": options.prefix} if options.prefix else {}
    ui.run(
        host=options.host,
        port=port,
        title="diptych studio",
        show=options.browser,
        reload=False,
        dark=None,
        show_welcome_message=False,
        reconnect_timeout=RECONNECT,
        storage_secret=secrets.token_urlsafe(32),
        **more,
    )


async def _say_when_open(host: str, port: int, text: str) -> None:
    """Print a line once the port takes connections."""
    place = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    while True:
        try:
            _, writer = await asyncio.open_connection(place, port)
        except OSError:
            await asyncio.sleep(0.02)
        else:
            writer.close()
            print(text, flush=True)
            return


def _free_port(host: str) -> int:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _check_port(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise InputError(
                f"port {port} of {host}",
                f"cannot be used ({error.strerror})",
                "a free port",
                "Pass another --port; 0 takes a free one.",
            ) from None
