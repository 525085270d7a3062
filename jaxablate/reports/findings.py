"""What an experiment found, in sentences, and whether it met what was asked of it beforehand."""

from collections.abc import Iterator

from jaxablate.reports.compare import Cell, macro, macro_difference
from jaxablate.reports.experiment_view import Criterion
from jaxablate.reports.matrix import ABOVE, Matrix
from jaxablate.reports.pairs import counted
from jaxablate.reports.study import BASE, Model
from jaxablate.reports.view import Estimate, rounded

MET, MISSED, OPEN = "met", "not met", "not distinguishable"
MEANINGLESS, UNMEASURED = "meaningless", "not measured"


def summary(matrix: Matrix) -> tuple[str, ...]:
    """Paragraphs: what the ablation costs, what finetuning recovers, what it loses without it."""
    paragraphs = (
        _cost(matrix),
        *(_recovered(matrix, model) for model in matrix.trained),
        _control(matrix),
        *(_regression(matrix, model) for model in matrix.trained),
    )
    return tuple(filter(None, (" ".join(sentences) for sentences in paragraphs)))


def _cost(matrix: Matrix) -> Iterator[str]:
    base, column = matrix.baseline, matrix.ablation
    if base is None:
        plain = matrix.criteria.baseline_mask
        yield f"There is no honest score of the base under {plain}, so nothing is compared with it."
        return
    yield (
        f"The base has a macro accuracy of {_value(macro(base).accuracy)} under "
        f"{base.condition.mask} over {_count(len(counted(base)), 'task')}; "
        f"chance is {macro(base).chance:.3f}."
    )
    if not matrix.skilled:
        yield (
            f"That is {_at_chance(base)}: there is no skill to lose or to recover, and every ratio "
            "to this baseline is meaningless."
        )
    ablated = matrix.cell(BASE, column)
    if ablated is None or column is None or ablated is base or column.leaky:
        return
    cost = macro_difference(ablated, base).value
    effect = (
        _direction(cost, up="the ablation raises it by", down="the ablation costs")
        or f"the difference, {_value(cost, sign=True)}, cannot be told from zero"
    )
    yield f"Under {column.mask} the base has {_value(macro(ablated).accuracy)}: {effect}."
    if macro(ablated).verdict != ABOVE:
        yield f"Under {column.mask} the base is {_at_chance(ablated)}."


def _recovered(matrix: Matrix, model: Model) -> Iterator[str]:
    column, base = matrix.ablation, matrix.baseline
    cell = matrix.cell(model.name, column)
    if cell is None or column is None or column.leaky:
        return
    text = f"{_named(model)} has {_value(macro(cell).accuracy)} under {column.mask}"
    ablated = matrix.cell(BASE, column)
    if ablated is not None:
        gain = macro_difference(cell, ablated).value
        text += f", {_value(gain, sign=True)} against the base under the same mask"
        text += "" if _clear(gain) else ", which cannot be told from zero"
    yield f"{text}."
    if macro(cell).verdict != ABOVE:
        yield f"{model.name} under {column.mask} is {_at_chance(cell)}."
    if base is not None and matrix.skilled:
        found = macro_difference(cell, base)
        if found.recovery and found.retention:
            yield (
                f"That is {_value(found.recovery)} of the baseline's accuracy, and "
                f"{_value(found.retention)} of its skill above chance."
            )


def _control(matrix: Matrix) -> Iterator[str]:
    column = matrix.ablation
    tuned = matrix.cell(matrix.criteria.tuned, column)
    if tuned is None or column is None or column.leaky:
        return
    for model in matrix.trained:
        other = matrix.cell(model.name, column)
        if other is None or other is tuned:
            continue
        value = macro_difference(tuned, other).value
        clear = "" if _clear(value) else ", which cannot be told from zero"
        yield (
            f"Under {column.mask}, {matrix.criteria.tuned} minus {_named(model)} is "
            f"{_value(value, sign=True)}{clear}."
        )


def _regression(matrix: Matrix, model: Model) -> Iterator[str]:
    base = matrix.baseline
    cell = matrix.cell(model.name, matrix.column(matrix.criteria.baseline_mask))
    if cell is None or base is None:
        return
    value = macro_difference(cell, base).value
    leaky = model.run is not None and model.run.summary["leaky"]
    name = f"{model.name} (trained under a LEAKY mask)" if leaky else model.name
    change = _direction(value, up="it gained", down="it lost")
    effect = (
        f"{change} against the base"
        if change
        else f"the difference to the base, {_value(value, sign=True)}, cannot be told from zero"
    )
    yield (f"Under {base.condition.mask}, {name} has {_value(macro(cell).accuracy)}: {effect}.")


def criteria(matrix: Matrix) -> tuple[Criterion, ...]:
    """Each declared condition of success with its numbers and its verdict."""
    wanted = matrix.criteria
    column, base = matrix.ablation, matrix.baseline
    mask, plain = (column.mask if column else wanted.mask or "?"), wanted.baseline_mask
    tuned = matrix.cell(wanted.tuned, column)
    ablated = matrix.cell(BASE, column)
    under_plain = matrix.cell(wanted.tuned, matrix.column(plain))
    found = []
    if wanted.recovery is not None:
        text = f"{wanted.tuned} under {mask} >= {wanted.recovery:g} x base under {plain}"
        found.append(_recovery(matrix, text, wanted.recovery, tuned, base))
    if wanted.gain is not None:
        text = f"{wanted.tuned} - base, both under {mask} >= {wanted.gain:+g}"
        found.append(_least("gain", text, wanted.gain, tuned, ablated))
    if wanted.regression_margin is not None:
        margin = -wanted.regression_margin
        text = f"{wanted.tuned} - base, both under {plain} >= {margin:+g}"
        found.append(_least("no regression", text, margin, under_plain, base))
    return tuple(found)


def _recovery(
    matrix: Matrix, text: str, least: float, tuned: Cell | None, base: Cell | None
) -> Criterion:
    found = _least("recovery", text, None, tuned, base)
    if tuned is None or base is None or found.verdict == UNMEASURED:
        return found
    if not matrix.skilled:
        note = f"the baseline is {_at_chance(base)}, so there is nothing to recover"
        return _criterion("recovery", text, None, MEANINGLESS, (note,))
    ratios = macro_difference(tuned, base)
    notes = found.notes
    if ratios.retention:
        notes = (f"skill above chance kept: {_value(ratios.retention)}", *notes)
    return _criterion("recovery", text, ratios.recovery, _judged(ratios.recovery, least), notes)


def _least(
    name: str,
    text: str,
    least: float | None,
    cell: Cell | None,
    base: Cell | None,
) -> Criterion:
    """A difference that must reach some value."""
    if cell is None or base is None:
        return _criterion(name, text, None, UNMEASURED, ())
    if cell.condition.leaky or base.condition.leaky:
        return _criterion(name, text, None, UNMEASURED, ("a leaky mask measures no skill",))
    notes = []
    if macro(cell).verdict != ABOVE:
        notes.append(f"{cell.condition.label} is {_at_chance(cell)}")
    if cell.condition.stopped:
        notes.append(f"STOPPED: its training ended early by the rule {cell.condition.stopped}")
    value = macro_difference(cell, base).value
    verdict = OPEN if least is None else _judged(value, least)
    return _criterion(name, text, value, verdict, tuple(notes))


def _criterion(
    name: str, text: str, value: Estimate | None, verdict: str, notes: tuple[str, ...]
) -> Criterion:
    return Criterion(
        name=name,
        wanted=text,
        value=value,
        signed=name != "recovery",
        verdict=verdict,
        notes=notes,
    )


def _judged(value: Estimate | None, least: float) -> str:
    """Met or not when the whole interval says so."""
    if value is None:
        return UNMEASURED
    low, high = _ends(value)
    return MET if low >= least else MISSED if high < least else OPEN


def _at_chance(cell: Cell) -> str:
    return macro(cell).verdict


def _clear(value: Estimate) -> bool:
    """The interval leaves out zero."""
    low, high = _ends(value)
    return low > 0 or high < 0


def _ends(value: Estimate) -> tuple[float, float]:
    """Both ends of an interval; the value itself where a run gave none."""
    low = value.value if value.low is None else value.low
    return low, value.value if value.high is None else value.high


def _direction(value: Estimate, *, up: str, down: str) -> str:
    """A change in words with its size; empty where the interval does not tell it from zero."""
    low, high = _ends(value)
    if not _clear(value):
        return ""
    if value.value > 0:
        return f"{up} {_value(value)}"
    seeds = tuple(-one for one in value.seeds)
    return f"{down} {_value(Estimate(value=-value.value, low=-high, high=-low, seeds=seeds))}"


def _value(estimate: Estimate, *, sign: bool = False) -> str:
    """A number with its interval."""
    form = "+.3f" if sign else ".3f"
    value, low, high = (
        format(rounded(number, 3), form) for number in (estimate.value, *_ends(estimate))
    )
    spread = ""
    if estimate.seeds:
        ends = (rounded(end, 3) for end in (min(estimate.seeds), max(estimate.seeds)))
        first, last = (format(end, form) for end in ends)
        spread = f"; {len(estimate.seeds)} seeds: {first} to {last}"
    return f"{value} ({low} to {high}{spread})"


def _named(model: Model) -> str:
    """A trained model with how it was trained."""
    assert model.run is not None
    told = model.run.summary
    stop = f", STOPPED by {model.stopped}" if model.stopped else ""
    steps = f"{told['steps_done']} of {told['steps_planned']} steps"
    steps += f", {len(model.members)} seeds" if len(model.members) > 1 else ""
    return f"{model.name} (trained under {told['mask']}, {steps}{stop})"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
