"""A view of two tasks under three masks, with every text taken from `name`."""

from jaxablate.reports.view import Condition, Difference, Estimate, Result, View


def make_view(name=lambda field: field, *, leaky=True):
    conditions = tuple(
        Condition(
            label=name(label),
            algebra=name(f"{label} algebra"),
            run=name("run"),
            index=index,
            leaky=leaky and index == 2,
            baseline=index == 0,
        )
        for index, label in enumerate(("causal", "prefix", "full"))
    )
    tasks = (name("task one"), name("task two"))
    results = tuple(_result(condition, task, name) for task in tasks for condition in conditions)
    differences = tuple(
        _difference(condition, task, name) for task in tasks for condition in conditions[1:]
    )
    return View(
        title=name("title"),
        warnings=(name("warning"),),
        conditions=conditions,
        tasks=tasks,
        results=results,
        differences=differences,
        macro=tuple(_result(condition, "macro", name) for condition in conditions),
        macro_differences=tuple(_difference(c, "macro", name) for c in conditions[1:]),
        runs=({"id": name("id"), "status": name("status"), "facts": ((name("n"), name("v")),)},),
        methods=(name("method"),),
    )


def _result(condition, task, name):
    return Result(
        condition=condition,
        task=task,
        num_items=7,
        accuracy=Estimate(value=0.5, low=0.25, high=0.75),
        chance=0.25,
        corrected=Estimate(value=1 / 3, low=0.0, high=2 / 3),
        verdict=name("verdict"),
        notes=(name("note"),),
    )


def _difference(condition, task, name):
    return Difference(
        condition=condition,
        task=task,
        num_items=7,
        value=Estimate(value=-0.1, low=-0.21, high=0.02),
        p_value=0.0412,
        adjusted=0.00001,
        verdict=name("difference"),
        recovery=Estimate(value=0.8, low=0.6, high=0.95),
        retention=None,
    )
