"""Bars of long reading: on a terminal after a moment, never in a pipe."""

import io
import sys

from jaxablate.cli import terminal
from jaxablate.core.watch import tell


class Screen(io.StringIO):
    def isatty(self):
        return True


def make_screen(monkeypatch):
    # Inside the test: pytest puts its own stderr back between a fixture and the test.
    monkeypatch.setattr(sys, "stderr", Screen())
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    return sys.stderr


def read(times):
    with terminal.bars():
        for done in range(times):
            tell("reading weights", done, times)


def test_long_work_shows_a_bar_with_its_name(monkeypatch):
    screen = make_screen(monkeypatch)
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.0)
    read(5)
    assert "reading weights" in screen.getvalue()
    assert "4/5 bytes" in screen.getvalue()


def test_short_work_shows_nothing(monkeypatch):
    screen = make_screen(monkeypatch)
    read(5)
    assert "reading" not in screen.getvalue()


def test_the_terminal_is_free_again_when_the_work_is_done(monkeypatch):
    screen = make_screen(monkeypatch)
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.0)
    with terminal.bars():
        assert screen.getvalue() == ""
        for _ in range(2):
            for done in range(6):
                tell("reading weights", done, 5)
            assert sys.stderr is screen
        shown, hidden = screen.getvalue().count("\x1b[?25h"), screen.getvalue().count("\x1b[?25l")
        assert shown == hidden == 2
        assert screen.getvalue().count("4/5 bytes") >= 2


def test_a_pipe_gets_no_bar(monkeypatch, capsys):
    monkeypatch.setattr(terminal, "PATIENCE_S", 0.0)
    read(5)
    assert capsys.readouterr().err == ""


def test_loading_and_checking_tell_how_many_bytes_are_done(tiny, tmp_path):
    from jaxablate.checkpoints.convert import convert
    from jaxablate.checkpoints.open import open_checkpoint
    from jaxablate.core.watch import watching

    told = {}

    def watch(work, done, total):
        assert 0 < done <= total
        told[work] = (done, total)

    with watching(watch):
        convert(tiny, tmp_path / "out", to="jaxablate", dtype=None)
        open_checkpoint(tmp_path / "out", dtype="float32")
    assert told.keys() == {"reading weights", "checking files"}
    assert all(done == total > 0 for done, total in told.values())
