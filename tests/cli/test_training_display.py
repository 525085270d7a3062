"""What people see of a run: every number, the time left, and nothing that moves their cursor."""

import io

import pytest
from rich.console import Console

from jaxablate.cli.training_display import NOTES, TrainingDisplay
from jaxablate.runs.observer import Observer

FACTS = {"run": "tiny-ab12cd", "checkpoint": "models/tiny", "mask": "prefix_lm", "leaky": False,
         "step": 0, "steps": 100}  # fmt: skip
SUMMARY = {"stop_reason": "plateau", "sentence": "held-out loss is 2 at step 30"}


class Clock:
    now = 50.0

    def __call__(self):
        return self.now


class Screen(io.StringIO):
    def isatty(self):
        return True


def train(step, loss=2.34567):
    return {"step": step, "kind": "train", "loss": loss, "learning_rate": 2e-5, "grad_norm": 0.5321,
            "tokens": 1, "slots": 1}  # fmt: skip


def evaluation(step, mask="prefix_lm", **more):
    return {"step": step, "kind": "eval", "mask": mask, "loss": 1.5, "leaky": False, **more}


TIMING = {"step": 10, "tokens_per_s": 12345.6, "real_share": 0.784, "mfu": 0.4123,
          "memory_bytes": 3 * 2**30}  # fmt: skip


def shown_on_pipe(tell, facts=FACTS):
    stream, clock = io.StringIO(), Clock()
    display = TrainingDisplay(stream, clock=clock)
    display.on_begin(facts)
    tell(display, clock)
    return stream.getvalue().splitlines()


def shown_on_board(tell, facts=FACTS, close=True):
    clock = Clock()
    console = Console(
        file=Screen(), force_terminal=True, width=100, height=50, legacy_windows=False, _environ={}
    )
    display = TrainingDisplay(console=console, clock=clock)
    display.on_begin(facts)
    try:
        tell(display, clock)
        plain = Console(file=io.StringIO(), width=100, _environ={})
        if display._shown is not None:
            plain.print(display._shown)
    finally:
        display.close()
    return plain.file.getvalue(), console.file.getvalue()


def nothing(display, clock):
    pass


def test_a_log_gets_one_whole_line_an_entry():
    def tell(display, clock):
        display.on_metrics(evaluation(0, decode_loss=1.625, decode_targets=60), None)
        display.on_metrics(train(10), TIMING)
        display.on_note("a checkpoint was written")
        display.on_end(SUMMARY)

    assert shown_on_pipe(tell) == [
        "tiny-ab12cd: training models/tiny under prefix_lm, 100 steps",
        "step 0/100: held-out loss 1.5000 under prefix_lm (1.6250 of 60 tokens decoded token by "
        "token)",
        "step 10/100: loss 2.3457, learning rate 2.00e-05, gradient norm 0.532, 12,346 tokens/s, "
        "78% of them real, 41.2% MFU, 3.0 GiB",
        "a checkpoint was written",
        "plateau: held-out loss is 2 at step 30",
    ]


def test_a_resumed_run_says_where_it_goes_on():
    (line,) = shown_on_pipe(nothing, {**FACTS, "step": 40, "leaky": True})
    assert line.endswith("under prefix_lm LEAKY, goes on after step 40 of 100")


def test_what_is_not_known_is_left_out():
    def tell(display, clock):
        display.on_metrics(train(10), {**TIMING, "mfu": None, "memory_bytes": None})
        display.on_metrics(train(20), None)

    _, first, second = shown_on_pipe(tell)
    assert first.endswith("78% of them real")
    assert "tokens/s" not in second


def test_time_left_goes_by_the_pace_since_the_first_line():
    def tell(display, clock):
        clock.now += 1000  # compiling
        display.on_metrics(train(10), None)
        clock.now += 20
        display.on_metrics(evaluation(20), None)
        display.on_metrics(train(20), None)
        clock.now += 40
        display.on_metrics(train(30), None)
        display.on_metrics(train(100), None)

    lines = shown_on_pipe(tell)
    assert "left" not in lines[1]
    assert lines[3].endswith("0:02:40 left")
    assert lines[4].endswith("0:03:30 left")
    assert "left" not in lines[5]


def test_a_loss_under_a_leaky_mask_says_so_everywhere():
    def tell(display, clock):
        display.on_metrics({**evaluation(0, "full_bidirectional"), "leaky": True}, None)

    assert shown_on_pipe(tell)[1].endswith("under full_bidirectional LEAKY")
    assert "full_bidirectional LEAKY" in shown_on_board(tell)[0]


def test_foreign_text_moves_no_cursor():
    def tell(display, clock):
        display.on_note("bad\x1b[2Jnote\nsecond [red]line[/red]")

    (_, line) = shown_on_pipe(tell)
    assert line == r"bad\x1b[2Jnote second [red]line[/red]"
    picture, raw = shown_on_board(tell)
    assert line in picture
    assert "\x1b[2J" not in raw


def all_kinds(display, clock):
    display.on_metrics(evaluation(0), None)
    display.on_metrics(
        evaluation(0, "layers(0) & causal", decode_loss=1.625, decode_targets=60), None
    )
    display.on_metrics(train(10), TIMING)
    clock.now += 20
    display.on_metrics(train(20), TIMING)
    clock.now += 10
    for number in range(NOTES + 1):
        display.on_note(f"note {number}")


@pytest.mark.parametrize(
    "told",
    [
        "tiny-ab12cd: training models/tiny under prefix_lm",
        "step 20/100",
        "0:02:30 left",  # ten seconds have gone by since the line
        "loss 2.3457, learning rate 2.00e-05, gradient norm 0.532",
        "12,346 tokens/s, 78% of them real, 41.2% MFU, 3.0 GiB",
        "layers(0) & causal",
        "1.6250 of 60 tokens",
        "note 1\n",
        "note 3",
    ],
)
def test_the_board_shows(told):
    picture, _ = shown_on_board(all_kinds)
    assert told in "\n".join(line.rstrip() for line in picture.splitlines()) + "\n"


def test_the_board_keeps_the_newest_notes_only():
    assert "note 0" not in shown_on_board(all_kinds)[0]


def test_the_board_says_that_it_waits_before_the_first_line():
    assert "waiting for the first steps" in shown_on_board(nothing)[0]


def test_the_bar_grows_with_the_steps():
    def at(step):
        picture, _ = shown_on_board(lambda display, clock: display.on_metrics(train(step), None))
        return picture.count("━")

    def coloured(step):
        _, raw = shown_on_board(lambda display, clock: display.on_metrics(train(step), None))
        return raw

    assert coloured(10) != coloured(90)
    assert at(50) > 0


def test_the_end_leaves_the_last_picture_and_the_cursor():
    def tell(display, clock):
        all_kinds(display, clock)
        display.on_end(SUMMARY)
        display.on_end(SUMMARY)

    _, raw = shown_on_board(tell)
    assert raw.count("\x1b[?25l") == raw.count("\x1b[?25h") == 1
    assert "plateau: held-out loss is 2 at step 30" in raw[raw.rindex("tiny-ab12cd") :]


def test_standard_error_gets_lines_where_it_is_no_terminal(capsys):
    display = TrainingDisplay()
    assert isinstance(display, Observer)
    display.on_begin(FACTS)
    assert capsys.readouterr().err.startswith("tiny-ab12cd: training")


def test_a_terminal_gets_the_board():
    screen = Screen()
    display = TrainingDisplay(screen)
    display.on_begin(FACTS)
    display.close()
    assert "step 0/100" in screen.getvalue()
