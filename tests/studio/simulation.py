"""A simulated browser on the pages of a studio, with a time limit on every scenario."""

from __future__ import annotations

import asyncio
import io
import signal
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

LIMIT = 120.0
"""Longest time of one scenario, s."""


def played(scenario: Coroutine[Any, Any, None], limit: float = LIMIT) -> None:
    """Run a scenario on an event loop of its own; fail where it takes longer than the limit.

    What is still running at the end is cancelled, and abandoned where it ignores that: nothing is waited for.
    """
    loop = asyncio.new_event_loop()
    try:
        with _alarm(limit + 10):
            task = loop.create_task(scenario)
            loop.run_until_complete(asyncio.wait({task}, timeout=limit))
            if not task.done():
                stack = io.StringIO()
                task.print_stack(file=stack)
                raise TimeoutError(f"the scenario took longer than {limit:g} s\n{stack.getvalue()}")
            task.result()
    finally:
        left = asyncio.all_tasks(loop)
        for each in left:
            each.cancel()
        if left:
            loop.run_until_complete(asyncio.wait(left, timeout=1.0))
        loop.close()


@contextmanager
def _alarm(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the main thread after a while, also where the event loop itself is blocked."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def ring(*_: object) -> None:
        raise TimeoutError(f"the event loop was blocked, or the scenario took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@asynccontextmanager
async def browsing(studio: Any, register: Callable[[Any], None]) -> AsyncIterator[Any]:
    """NiceGUI's simulated user of the pages that ``register(studio)`` declares; the studio is closed at the end."""
    from nicegui.testing.user_simulation import user_simulation

    # At its end the simulation forgets the modules of the pages: one more import would make second classes.
    modules = dict(sys.modules)
    try:
        async with user_simulation() as user:
            register(studio)
            try:
                yield user
            finally:
                await asyncio.to_thread(studio.close)
    finally:
        for name, module in modules.items():
            sys.modules.setdefault(name, module)


Scenario = Callable[[Any, Any], Awaitable[None]]


def visit(studio: Any, scenario: Scenario, register: Callable[[Any], None] | None = None) -> None:
    """Run ``await scenario(user, studio)`` with a simulated user of all pages, or those of ``register``."""
    if register is None:
        from diptych.studio.pages import register

    async def visiting() -> None:
        async with browsing(studio, register) as user:
            await scenario(user, studio)

    played(visiting())


async def eventually(test: Callable[[], Any], what: str = "", seconds: float = 15.0) -> None:
    """Wait until something holds; fail after a while."""
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, what or "it never happened"
        await asyncio.sleep(0.05)


async def seen(user: Any, text: str, seconds: float = 20) -> None:
    """Wait until the page shows a text."""
    await user.should_see(text, retries=int(seconds / 0.1))
