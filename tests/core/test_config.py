"""Configs are read strictly: every wrong key and value is named, with where it was written."""

import contextlib
from dataclasses import dataclass
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxablate.core.config import build, differences, fingerprint, operational, provenance, resolved
from jaxablate.core.errors import UserError
from jaxablate.core.settings import (
    Settings,
    merge,
    parse_yaml,
    read_override,
    read_settings,
    read_yaml,
)


@dataclass(frozen=True, kw_only=True)
class Inner:
    rate: float = 0.5
    steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    kind: Literal["left", "right"] = "left"
    masks: tuple[str, ...] = ("causal",)
    inner: Inner = Inner()
    fast: bool = False
    note: str = operational("")


def made(text, *overrides):
    settings = parse_yaml(text, "a.yaml")
    for override in overrides:
        settings = overridden(settings, override)
    return build(Outer, settings)


def overridden(settings, override):
    return merge(settings, read_override(override))


def test_yaml_becomes_nested_dataclasses():
    config = made("name: x\nkind: right\nmasks: [causal, 'a & b']\ninner: {rate: 1e-4, steps: 3}\n")
    assert config == Outer(
        name="x", kind="right", masks=("causal", "a & b"), inner=Inner(rate=1e-4, steps=3)
    )


@pytest.mark.parametrize("text", ["1e-4", "1.0e-4", ".0001", "'1e-4'", "1E-4"])
def test_every_way_to_write_a_number_is_a_float(text):
    assert made(f"name: x\ninner: {{rate: {text}}}").inner.rate == 1e-4


def test_yes_is_text_and_true_is_not():
    assert made("name: yes").name == "yes"
    assert made("name: 1:30").name == "1:30"
    assert made("name: x\nfast: true").fast is True
    with pytest.raises(UserError, match="'fast' must be true or false, got 'yes'"):
        made("name: x\nfast: yes")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nnaem: y", r"a\.yaml:2: unknown setting 'naem'; .*did you mean 'name'"),
        ("name: x\ninner:\n  stesp: 1", r"a\.yaml:3: unknown setting 'inner\.stesp'.*'steps'"),
        ("kind: left", "'name' is required and missing"),
        ("name: 3", r"a\.yaml:1: setting 'name' must be text, got 3"),
        ("name: x\nkind: lef", "must be one of left, right, got 'lef'; did you mean 'left'"),
        ("name: x\nmasks: causal", "'masks' must be a list, got 'causal'"),
        ("name: x\nmasks: [causal, 3]", r"a\.yaml:2: setting 'masks\[1\]' must be text, got 3"),
        ("name: x\ninner: 4", "'inner' must be a table, got 4"),
        ("name: x\ninner: {steps: 1.5}", r"'inner\.steps' must be an integer, got 1\.5"),
        ("name: x\ninner: {steps: true}", "must be an integer, got True"),
        ("name: x\ninner: {rate: fast}", "must be a finite number, got 'fast'"),
        ("name: x\ninner: {rate: nan}", "must be a finite number"),
        ("name: x\ninner: {rate: 1e999}", "must be a finite number"),
        ("name: x\ninner: {rate: true}", "must be a finite number, got True"),
        ("name: null", "must be text, got None"),
        ("name: x\nname: y", r"a\.yaml:2: key 'name' is given twice"),
        ("name: x\ninner: {rate: 1, rate: 2}", "key 'rate' is given twice"),
        ("name: &a x\nkind: *a", r"a\.yaml:1: anchors and aliases"),
        ("name: !!python/name:os.system x", r"a\.yaml:1: a tag is not allowed"),
        ("name: !!str 3", "a tag is not allowed"),
        ("- 1", "wanted a table of settings"),
        ("name: [", "not valid YAML"),
        ("? [1]\n: x", "a key must be a word"),
        ("name: " + "[" * 60 + "]" * 60, "nested deeper than 40"),
        ("a: 1\n---\nb: 2", "not valid YAML"),
        ("name: \x07", "not valid YAML"),
    ],
)
def test_what_is_wrong_is_named(text, message):
    with pytest.raises(UserError, match=message):
        made(text)


def test_an_alias_bomb_is_refused_before_it_grows():
    pairs = zip("abcdefg", "bcdefgh", strict=True)
    lines = ["a: &a [x, x]"] + [f"{c}: &{c} [*{p}, *{p}]" for p, c in pairs]
    with pytest.raises(UserError, match="anchors and aliases"):
        parse_yaml("\n".join(lines), "bomb.yaml")


def test_later_files_and_overrides_win_and_say_so(tmp_path):
    (tmp_path / "a.yaml").write_text("name: x\ninner:\n  rate: 1\n  steps: 2\n")
    (tmp_path / "b.yaml").write_text("\ninner:\n  rate: 3\n")
    files = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    settings = read_settings(files, ["inner.steps=7", "masks=[full]"])
    config = build(Outer, settings)
    assert config == Outer(name="x", inner=Inner(rate=3.0, steps=7), masks=("full",))
    assert provenance(config, settings) == {
        "name": f"{files[0]}:1",
        "inner.rate": f"{files[1]}:3",
        "inner.steps": "override 'inner.steps=7'",
        "masks": "override 'masks=[full]'",
        "kind": "default",
        "fast": "default",
        "note": "default",
    }


def test_a_value_that_replaces_a_table_takes_its_place_in_the_provenance():
    first = parse_yaml("inner: {rate: 1}", "a.yaml")
    merged = overridden(first, "inner=5")
    assert merged == Settings({"inner": 5}, {"inner": "override 'inner=5'"})


@pytest.mark.parametrize("text", ["inner.rate", "=3", "inner..rate=1", ""])
def test_an_override_without_key_or_value_is_refused(text):
    with pytest.raises(UserError, match="an override reads key=value"):
        read_settings([], [text])


def test_an_override_names_itself_when_it_is_wrong():
    with pytest.raises(UserError, match=r"override 'inner\.rate=fast': setting 'inner\.rate'"):
        made("name: x", "inner.rate=fast")


def test_unreadable_files_are_user_errors(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_yaml(tmp_path / "none.yaml")
    (tmp_path / "big.yaml").write_bytes(b"a: " + b"x" * 1_000_001)
    with pytest.raises(UserError, match="at most"):
        read_yaml(tmp_path / "big.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: \xe9")
    with pytest.raises(UserError, match="not UTF-8"):
        read_yaml(tmp_path / "latin.yaml")
    (tmp_path / "empty.yaml").write_text("# nothing\n")
    assert read_yaml(tmp_path / "empty.yaml") == Settings()


def test_the_fingerprint_sees_what_matters_only():
    base = Outer(name="x")
    assert fingerprint(base) == fingerprint(Outer(name="x", note="other"))
    assert fingerprint(base) != fingerprint(Outer(name="x", inner=Inner(steps=1)))
    assert resolved(Outer(name="x", note="n"))["note"] == "n"


def test_differences_name_keys_and_both_values():
    old, new = resolved(Outer(name="x")), resolved(Outer(name="y", inner=Inner(steps=2)))
    assert differences(old, new) == ["name: 'x' -> 'y'", "inner.steps: None -> 2"]
    assert differences({"a": 1}, {}) == ["a: 1 -> not set"]


@given(st.text(max_size=60))
def test_any_text_is_settings_or_a_user_error(text):
    with contextlib.suppress(UserError):
        assert isinstance(parse_yaml(text, "fuzz"), Settings)


@dataclass(frozen=True, kw_only=True)
class Several:
    parts: tuple[Inner, ...]


def test_a_list_of_tables_becomes_a_tuple_of_dataclasses():
    settings = parse_yaml("parts:\n- {rate: 1}\n- {steps: 2}\n", "a.yaml")
    config = build(Several, settings)
    assert config == Several(parts=(Inner(rate=1.0), Inner(steps=2)))
    assert resolved(config) == {"parts": [{"rate": 1.0, "steps": None}, {"rate": 0.5, "steps": 2}]}
    wrong = parse_yaml("parts:\n- {rate: 1}\n- {step: 2}\n", "a.yaml")
    with pytest.raises(UserError, match=r"a.yaml:2.*'parts\[1\].step'.*did you mean 'steps'"):
        build(Several, wrong)
    with pytest.raises(UserError, match=r"'parts\[0\]' must be a table, got 3"):
        build(Several, parse_yaml("parts: [3]", "a.yaml"))
