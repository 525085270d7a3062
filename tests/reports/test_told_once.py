"""What runs have in common is told once."""

from jaxablate.reports.told_once import told_once

SETTINGS = [f"setting_{index}: a value that is long enough" for index in range(6)]


def entry(name, *lines, data="the same short fact"):
    return {"id": name, "status": "done", "facts": (("data", data), ("settings", "\n".join(lines)))}


def settings(*entries):
    return [dict(found["facts"])["settings"] for found in told_once(entries)]


def test_a_later_run_tells_what_differs_from_the_nearest_earlier_one():
    first = entry("a", *SETTINGS, "seed: 0", "mask: causal")
    other = entry("b", *SETTINGS, "seed: 0", "mask: prefix_lm")
    near_b = entry("c", *SETTINGS, "seed: 1", "mask: causal")
    found = settings(first, other, near_b, first | {"id": "d"})
    assert found[0] == "\n".join([*SETTINGS, "seed: 0", "mask: causal"])
    assert found[1] == "as in a, but\nmask: prefix_lm"
    assert found[2] == "as in a, but\nseed: 1"
    assert found[3] == "as in a"


def test_what_differs_in_most_or_has_other_keys_is_told_whole():
    first = entry("a", *SETTINGS)
    changed = [line.replace("long enough", "another") for line in SETTINGS]
    more = [*SETTINGS, "seed: 0"]
    assert settings(first, entry("b", *changed), entry("c", *more))[1:] == [
        "\n".join(changed),
        "\n".join(more),
    ]


def test_a_short_fact_is_never_a_reference():
    facts = [dict(found["facts"])["data"] for found in told_once([entry("a"), entry("b")])]
    assert facts == ["the same short fact"] * 2
