"""Signals leave a note, and one that comes too late reaches whoever goes on."""

import os
import signal

import pytest

from jaxablate.training.stopping import StopRequest


def test_a_signal_is_noted_and_obeyed_when_asked():
    with StopRequest() as request:
        assert not request.reached(1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert request.reached(2)
        assert request.signal == "SIGTERM"
        request.signal = None


def test_a_second_interrupt_ends_at_once():
    with StopRequest() as request:
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        request.signal = None


def test_handlers_come_back_and_hear_of_a_signal_that_came_too_late():
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        with StopRequest():
            os.kill(os.getpid(), signal.SIGTERM)
            assert heard == []
        assert heard == [signal.SIGTERM]
        os.kill(os.getpid(), signal.SIGTERM)
        assert len(heard) == 2
    finally:
        signal.signal(signal.SIGTERM, before)
