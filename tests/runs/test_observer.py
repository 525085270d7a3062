"""Everybody is told everything in order; who fails is switched off and the run goes on."""

import pytest

from jaxablate.runs.observer import Observer, Observers


class Recorder:
    def __init__(self):
        self.told = []

    def on_begin(self, facts):
        self.told.append(("begin", facts))

    def on_metrics(self, entry, timing):
        self.told.append(("metrics", entry, timing))

    def on_note(self, sentence):
        self.told.append(("note", sentence))

    def on_end(self, summary):
        self.told.append(("end", summary))


class Failing(Recorder):
    def __init__(self, error, *methods):
        super().__init__()
        for method in methods:
            setattr(self, method, self.fail)
        self.error = error

    def fail(self, *facts):
        self.told.append("failed")
        raise self.error


def tell_all(observers):
    observers.on_begin({"steps": 2})
    observers.on_metrics({"step": 1}, None)
    observers.on_note("hello")
    observers.on_end({"stopped": False})


ALL = [("begin", {"steps": 2}), ("metrics", {"step": 1}, None), ("note", "hello"),
       ("end", {"stopped": False})]  # fmt: skip


def test_all_are_told_all():
    first, second = Recorder(), Recorder()
    observers = Observers([first, second])
    assert isinstance(observers, Observer)
    tell_all(observers)
    assert first.told == second.told == ALL


def test_one_that_fails_is_told_no_more_and_the_others_hear_why_once():
    first, broken, last = Recorder(), Failing(RuntimeError("no\nroute"), "on_metrics"), Recorder()
    observers = Observers([first, broken, last])
    tell_all(observers)
    note = ("note", "Failing failed and is switched off: RuntimeError: no route")
    assert first.told == last.told == [*ALL[:2], note, *ALL[2:]]
    assert broken.told == [ALL[0], "failed"]
    assert observers.active == [first, last]


def test_a_failure_at_a_note_about_a_failure_ends_too():
    observers = Observers(
        [
            Failing(OSError("disk"), "on_metrics", "on_note"),
            Failing(ValueError("x"), "on_note"),
        ]
    )
    observers.on_metrics({}, None)
    assert observers.active == []


def test_an_interrupt_is_not_swallowed():
    with pytest.raises(KeyboardInterrupt):
        Observers([Failing(KeyboardInterrupt(), "on_begin")]).on_begin({})


def test_those_that_hold_something_are_closed_and_one_that_fails_hinders_none():
    closed = []

    class Holder(Recorder):
        def close(self):
            closed.append(self)

    broken = Holder()
    broken.close = Failing(OSError("disk"), "close").close
    first, plain, last = Holder(), Recorder(), Holder()
    Observers([first, broken, plain, last]).close()
    assert closed == [first, last]
