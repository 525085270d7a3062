"""Records of an instrument, to finetune on: the questions that its task asks, with their answers.

They are made when they are needed. None to train on has the content of a validation row.
"""

from jaxablate.core.errors import unknown
from jaxablate.data.records import Record, Records
from jaxablate.data.sources import MADE
from jaxablate.data.synthetic.instrument import INSTRUMENTS, make_row

# Records where a config gives no number.
TRAIN_RECORDS, HELD_OUT_RECORDS = 20_000, 500


def trained_instruments() -> tuple[str, ...]:
    """The instruments that may be learned from: all but the canary."""
    return tuple(name for name in INSTRUMENTS.names() if INSTRUMENTS.get(name).trained)


def check_instrument(name: str) -> None:
    """Raises `UserError` for a name that is no instrument to learn from."""
    if name not in trained_instruments():
        raise unknown("instrument to learn from", name, trained_instruments())


def instrument_splits(
    name: str, *, seed: int, train_limit: int = 0, eval_limit: int = 0
) -> tuple[Records, Records]:
    """Training and held-out records; the seed changes the first, the second open the task.

    Raises:
        UserError: for a name that is no instrument to learn from.
    """
    check_instrument(name)
    return (
        _records(name, "train", train_limit or TRAIN_RECORDS, seed),
        _records(name, "validation", eval_limit or HELD_OUT_RECORDS, 0),
    )


def _records(name: str, split: str, count: int, seed: int) -> Records:
    rows = tuple(_record(name, split, index, seed) for index in range(count))
    return Records(rows, {}, f"{MADE}: {name}, {split}, seed {seed}", found=count)


def _record(name: str, split: str, index: int, seed: int) -> Record:
    """The answer begins with the space that the task puts before it."""
    made = make_row(name, split, index, seed=seed)
    row = made.to_row()
    answer = f" {made.choices[made.label]}"
    return Record(f"{split}:{index}", row["prompt"], "", answer, parts=tuple(row["parts"]))
