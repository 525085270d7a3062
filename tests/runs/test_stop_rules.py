"""Each rule ends the runs it should and no others; a put-away state goes on as it was."""

import json
import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxablate.core.config import build
from jaxablate.core.errors import UserError
from jaxablate.core.settings import Settings
from jaxablate.runs.stop_rules import REASONS, StopConfig, StopRules

QUIET = StopConfig(leak_share=0.0)
PATIENT = StopConfig(leak_share=0.0, patience_evals=2, min_delta=0.01)


def train(config, losses, every=10):
    rules = StopRules(config)
    told = [rules.on_train(every * (n + 1), loss) for n, loss in enumerate(losses)]
    return rules, told


def evaluate(config, losses, every=100):
    rules = StopRules(config)
    told = [rules.on_eval(every * n, loss) for n, loss in enumerate(losses)]
    return rules, told


def numbers_in(sentence, *numbers):
    return all(f"{number:g}" in sentence for number in numbers)


def test_nothing_learned_by_the_step_ends_the_run_there():
    config = StopConfig(kill_after_steps=30)
    rules, told = train(config, [2.0, 1.97, 1.95, 1.96])
    assert told == [None, None, "no_learning", "no_learning"]
    assert numbers_in(rules.sentence("no_learning"), 2.0, 0.05, 0.08, 30)


def test_enough_learned_once_is_enough_for_good():
    _, told = train(StopConfig(kill_after_steps=30), [2.0, 1.92, 1.99, 2.5, 2.0])
    assert told == [None] * 5


def test_too_little_gained_after_the_step_ends_the_run_even_if_it_gains_later():
    _, told = train(StopConfig(kill_after_steps=20), [2.0, 2.1, 1.5])
    assert told == [None, "no_learning", None]


def test_the_first_loss_is_only_the_one_to_compare_with():
    _, told = train(StopConfig(kill_after_steps=5), [2.0, 2.0])
    assert told == [None, "no_learning"]


def test_the_kill_rule_is_off_unless_asked_for():
    assert train(StopConfig(), [2.0] * 100)[1] == [None] * 100


def test_patience_counts_evaluations_without_a_whole_improvement():
    rules, told = evaluate(PATIENT, [2.0, 1.9, 1.895, 1.891, 1.88])
    assert told == [None, None, None, "plateau", None]
    assert numbers_in(rules.sentence("plateau"), 1.891, 300, 2, 0.01, 1.9)


def test_many_small_improvements_add_up():
    assert evaluate(PATIENT, [2.0, 1.994, 1.988, 1.982, 1.976])[1] == [None] * 5


def test_the_best_is_known_from_the_first_evaluation_but_patience_only_from_min_steps():
    config = StopConfig(patience_evals=2, min_steps=300)
    rules, told = evaluate(config, [1.0, 2.0, 2.0, 1.5, 1.5])
    assert told == [None, None, None, None, "plateau"]
    assert rules.best == {"step": 0, "loss": 1.0}


def test_an_improvement_gives_the_patience_back():
    assert evaluate(PATIENT, [2.0, 2.0, 1.5, 1.5, 1.5])[1][-2:] == [None, "plateau"]


def test_the_best_is_the_lowest_even_if_by_less_than_min_delta_and_the_first_of_equals():
    rules, _ = evaluate(PATIENT, [2.0, 1.995, 1.995])
    assert rules.best == {"step": 100, "loss": 1.995}


def test_there_is_no_best_before_an_evaluation():
    rules = StopRules(QUIET)
    rules.on_train(10, 2.0)
    assert rules.best is None


def test_the_plateau_rule_is_off_unless_asked_for():
    assert evaluate(StopConfig(), [2.0] * 100)[1] == [None] * 100


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_ends_the_run_and_spoils_nothing(loss):
    rules = StopRules(StopConfig(patience_evals=1))
    assert [rules.on_train(10, 2.0), rules.on_eval(10, 2.0)] == [None, None]
    assert rules.on_train(20, loss) == "non_finite"
    assert rules.sentence("non_finite") == f"training loss is {loss} at step 20"
    assert rules.on_eval(20, loss) == "non_finite"
    assert rules.sentence("non_finite") == f"held-out loss is {loss} at step 20"
    assert rules.best == {"step": 10, "loss": 2.0}
    assert [rules.on_train(30, 1.9), rules.on_eval(30, 1.9)] == [None, None]


def test_a_collapse_of_the_loss_is_a_leak():
    rules, told = train(StopConfig(), [2.0, 1.2, 0.99])
    assert told == [None, None, "leak_alarm"]
    sentence = rules.sentence("leak_alarm")
    assert numbers_in(sentence, 0.99, 30, 0.5, 2.0, 50)
    assert rules.alarms == [{"step": 30, "rule": "leak_alarm", "sentence": sentence}]


def test_a_late_fall_of_the_loss_is_learning():
    _, told = train(StopConfig(leak_before_step=50), [2.0, 1.9, 1.8, 1.7, 1.6, 0.5])
    assert told == [None] * 6


def test_the_last_watched_step_is_watched():
    assert train(StopConfig(leak_before_step=50), [2.0] * 4 + [0.9])[1][-1] == "leak_alarm"


def test_a_first_loss_that_no_text_has_is_a_leak():
    rules, told = train(StopConfig(), [0.07])
    assert told == ["leak_alarm"]
    assert numbers_in(rules.sentence("leak_alarm"), 0.07, 10, 0.1)
    assert train(StopConfig(leak_before_step=5), [0.07])[1] == [None]
    assert train(QUIET, [0.07])[1] == [None]


def test_a_noted_alarm_lets_the_run_go_on_and_is_noted_once():
    rules, told = train(StopConfig(leak_action="note"), [2.0, 0.5, 0.4])
    assert told == [None] * 3
    assert [alarm["step"] for alarm in rules.alarms] == [20]
    with pytest.raises(UserError, match="unknown stop reason 'leak_alarm'"):
        rules.sentence("leak_alarm")


def test_what_is_handed_out_cannot_change_the_rules():
    rules, _ = evaluate(PATIENT, [2.0])
    rules.best.update(loss=0.0)
    rules.state()["best"]["loss"] = 0.0
    rules.alarms.append({})
    assert rules.best == {"step": 0, "loss": 2.0}
    assert rules.alarms == []


LOSSES = st.sampled_from([0.05, 0.5, 0.9, 0.99, 1.0, 1.0001, 1.9, 2.0]) | st.floats(width=32)
EVENTS = st.lists(st.tuples(st.booleans(), st.integers(0, 30), LOSSES), max_size=20)
CONFIGS = st.builds(
    StopConfig,
    kill_after_steps=st.integers(0, 100),
    patience_evals=st.integers(0, 3),
    min_delta=st.sampled_from([0.0, 0.01]),
    min_steps=st.integers(0, 100),
    leak_share=st.sampled_from([0.0, 0.5]),
    leak_action=st.sampled_from(["stop", "note"]),
)


def feed(rules, events, step=0):
    told = []
    for is_train, more, loss in events:
        step += more
        tell = rules.on_train if is_train else rules.on_eval
        told.append(tell(step, loss))
    return told, step


@given(CONFIGS, EVENTS, st.data())
@example(StopConfig(patience_evals=2), [(False, 10, 1.0)] * 4, None)
def test_a_state_restored_from_json_anywhere_behaves_the_same(config, events, data):
    cut = 2 if data is None else data.draw(st.integers(0, len(events)))
    whole = StopRules(config)
    expected, _ = feed(whole, events)
    first = StopRules(config)
    told, step = feed(first, events[:cut])
    text = json.dumps(first.state(), allow_nan=False)
    second = StopRules(config, json.loads(text))
    assert told + feed(second, events[cut:], step)[0] == expected
    assert second.state() == whole.state()
    assert (second.best, second.alarms) == (whole.best, whole.alarms)
    for reason in set(expected) - {None}:
        assert reason in REASONS
        assert second.sentence(reason) == whole.sentence(reason)


@given(st.lists(st.floats(0.1, 10.0), min_size=1, max_size=20))
def test_the_best_is_the_minimum_of_all(losses):
    rules, _ = evaluate(PATIENT, losses)
    assert rules.best == {"step": 100 * losses.index(min(losses)), "loss": min(losses)}


def test_a_state_of_something_else_is_refused():
    with pytest.raises(UserError, match=r"state of the stop rules must hold .*; got nothing"):
        StopRules(QUIET, {})


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("kill_after_steps", -1, "kill_after_steps must be a finite number >= 0, got -1"),
        ("min_delta", math.nan, "min_delta must be a finite number >= 0, got nan"),
        ("min_delta", -0.1, "min_delta must be a finite number >= 0, got -0.1"),
        ("patience_evals", -2, "patience_evals must be a finite number >= 0, got -2"),
        ("leak_share", 1.5, "leak_share must be between 0 and 1, got 1.5"),
    ],
)
def test_impossible_settings_are_refused(setting, value, message):
    with pytest.raises(UserError, match=message.replace("(", r"\(")):
        StopConfig(**{setting: value})


def test_the_config_is_built_from_settings_strictly():
    assert build(StopConfig, Settings({"leak_action": "note"}, {})).leak_action == "note"
    with pytest.raises(UserError, match="did you mean 'note'"):
        build(StopConfig, Settings({"leak_action": "notes"}, {}))
