"""Order, selection, circles and unknown names."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxablate.core.errors import UserError
from jaxablate.experiments.graph import order, select


@st.composite
def graphs(draw):
    """Names that need some of the names before them, given in any order."""
    names = [f"s{i}" for i in range(draw(st.integers(1, 8)))]
    needs = {
        name: draw(st.lists(st.sampled_from(names[:i]), unique=True)) if i else []
        for i, name in enumerate(names)
    }
    return {name: needs[name] for name in draw(st.permutations(names))}


@given(graphs())
def test_every_stage_comes_once_and_after_what_it_needs(needs):
    found = order(needs)
    assert sorted(found) == sorted(needs)
    assert all(found.index(need) < found.index(name) for name in needs for need in needs[name])


@given(graphs(), st.data())
def test_a_selection_is_closed_and_no_larger_than_it_must_be(needs, data):
    wanted = data.draw(st.lists(st.sampled_from(list(needs)), unique=True, min_size=1))
    found = select(needs, wanted)
    assert found == [name for name in order(needs) if name in found]
    assert all(need in found for name in found for need in needs[name])
    needed = {need for name in found for need in needs[name]}
    assert set(found) <= {*wanted, *needed}


def test_stages_keep_their_order_where_nothing_is_needed():
    assert order({"c": [], "a": [], "b": []}) == ["c", "a", "b"]


def test_a_circle_is_shown():
    with pytest.raises(UserError, match="circle: a -> b -> c -> a"):
        order({"a": ["b"], "b": ["c"], "c": ["a"]})


def test_an_unknown_need_names_the_nearest_stage():
    with pytest.raises(UserError, match=r"'stage4' needs 'stage3c'.*did you mean 'stage3b'"):
        order({"stage3b": [], "stage4": ["stage3c"]})


def test_an_unknown_selection_names_the_nearest_stage():
    with pytest.raises(UserError, match=r"'stage5', which is no stage.*did you mean 'stage4'"):
        select({"stage4": []}, ["stage5"])
