"""A signal waits for the end of the block; the second one does not. Cancel tokens."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from diptych.runtime.interrupts import (
    SIGNALS,
    Cancel,
    RaiseKeyboardInterrupt,
    interrupts_after,
    stop_if_asked,
    stoppable,
)


@pytest.fixture(autouse=True)
def raising() -> Iterator[None]:
    """Both signals raise KeyboardInterrupt, also where the parent process ignores SIGINT (``nohup make test &``)."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in SIGNALS}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_noted_and_the_block_goes_on(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interrupts_after() as received:
        assert received == []
        signal.raise_signal(number)
        assert received == [number]
    assert signal.getsignal(number) is before


@pytest.mark.parametrize("number", SIGNALS)
def test_the_second_signal_goes_to_the_previous_handler(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with interrupts_after() as received:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert received == [signal.SIGINT]
    assert signal.getsignal(number) is before


def test_a_second_sigterm_ends_a_process_without_a_handler() -> None:
    program = (
        "import signal\nfrom diptych.runtime import interrupts\ninterrupts.REPEAT_SECONDS = 0\n"
        "signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "with interrupts.interrupts_after():\n    signal.raise_signal(signal.SIGTERM)\n    print('held', flush=True)\n"
        "    signal.raise_signal(signal.SIGTERM)\n    print('still here')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "held\n")


def test_a_sigterm_sent_twice_at_once_is_one_request() -> None:
    """``timeout`` sends it to the process and then to its group."""
    with interrupts_after() as received:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
    assert received == [signal.SIGTERM]
    handler = RaiseKeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        handler(signal.SIGTERM, None)
    handler(signal.SIGTERM, None)


def test_an_ignored_signal_stays_ignored_after_the_block() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with interrupts_after() as received:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
    assert received == [signal.SIGINT, signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_an_error_in_the_block_restores_the_handler() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), interrupts_after():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_leave_the_handler_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with interrupts_after() as received:
            seen.append((received, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [([], before)]


def test_a_cancel_token_is_set_once_and_for_all_threads() -> None:
    cancel = Cancel()
    assert not cancel.requested
    assert not cancel.wait(0.0)
    threading.Thread(target=cancel.request).start()
    assert cancel.wait(10.0)
    assert cancel.requested


def test_trials_stop_where_they_were_asked_to_and_not_elsewhere() -> None:
    asked: list[int] = []
    with stoppable(lambda: bool(asked)):
        stop_if_asked()
        asked.append(1)
        with pytest.raises(KeyboardInterrupt):
            stop_if_asked()
    stop_if_asked()
