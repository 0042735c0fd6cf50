"""A Ctrl-C waits for the end of the block; the second one does not."""

from __future__ import annotations

import signal
import threading

import pytest

from diptych.runtime.interrupts import interrupts_after


def test_the_first_one_is_noted_and_the_block_goes_on() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_after() as asked:
        assert asked == []
        signal.raise_signal(signal.SIGINT)
        assert asked == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before


def test_the_second_one_goes_to_whoever_was_listening_before() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interrupts_after() as asked:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert asked == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before


def test_an_error_in_the_block_restores_the_handler() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(ZeroDivisionError), interrupts_after():
        _ = 1 / 0
    assert signal.getsignal(signal.SIGINT) is before


def test_other_threads_leave_the_handler_alone() -> None:
    before, seen = signal.getsignal(signal.SIGINT), []

    def work() -> None:
        with interrupts_after() as asked:
            seen.append((asked, signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [([], before)]
