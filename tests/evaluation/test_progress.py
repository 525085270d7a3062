"""Lines come at the start, now and then, and at the end; a terminal gets a bar."""

import io

from jaxablate.evaluation.progress import Bar, Lines, duration, progress_for


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def test_lines_say_how_far_how_good_and_how_long():
    stream, clock = io.StringIO(), Clock()
    progress = Lines(stream, 30.0, clock)
    progress.start("causal", 100, 20, 10)
    for _ in range(4):
        clock.now += 20
        progress.advance(10, 5)
    clock.now += 1
    progress.advance(40, 0)
    progress.finish()
    progress.finish()
    assert stream.getvalue().splitlines() == [
        "causal: 20/100 items, accuracy 0.500",
        # 20 items in 40 s, so 60 more take 120 s; the 20 known ones do not count for the rate.
        "causal: 40/100 items, accuracy 0.500, 0:02:00 left",
        "causal: 60/100 items, accuracy 0.500, 0:01:20 left",
        "causal: 100/100 items, accuracy 0.300",
    ]


def test_no_line_twice_when_the_last_one_was_just_said():
    stream, clock = io.StringIO(), Clock()
    progress = Lines(stream, 0.0, clock)
    progress.start("m", 1, 0, 0)
    progress.advance(1, 1)
    progress.finish()
    assert stream.getvalue().count("1/1") == 1


def test_a_clock_that_stands_still_divides_by_nothing():
    stream = io.StringIO()
    progress = Lines(stream, 0.0, Clock())
    progress.start("m", 10, 0, 0)
    progress.advance(5, 1)
    assert "left" not in stream.getvalue()


def test_a_terminal_gets_a_bar_and_a_file_gets_lines():
    assert isinstance(progress_for(io.StringIO(), 30.0), Lines)
    stream = Terminal()
    bar = progress_for(stream, 30.0)
    assert isinstance(bar, Bar)
    bar.start("[red]mask", 4, 1, 1)
    bar.advance(3, 1)
    bar.finish()
    assert "[red]mask" in stream.getvalue()
    assert "accuracy 0.500" in stream.getvalue()


def test_durations_are_clock_times():
    wanted = ["0:00:00", "0:00:59", "0:01:01", "25:01:01"]
    assert [duration(seconds) for seconds in (0.0, 59.9, 61.0, 90061.0)] == wanted
