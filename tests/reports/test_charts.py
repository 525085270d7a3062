"""Charts as numbers: where points lie, and what is left out."""

import pytest

from jaxablate.reports.charts import Series, line_chart, thinned, ticks, value_range


def chart_of(*series, **settings):
    return line_chart("t", series, x_label="x", y_label="y", **settings)


def test_points_lie_where_their_values_say():
    series = Series(label="a", points=((0, 1.0), (5, 2.0), (10, 3.0)), intervals=((5, 1.5, 3.0),))
    (line,) = chart_of(series, y_range=(1.0, 3.0)).lines
    assert line.path == "M0.00,100.00L50.00,50.00L100.00,0.00"
    assert line.dots == (("0.00%", "100.00%"), ("50.00%", "50.00%"), ("100.00%", "0.00%"))
    assert line.bars == (("50.00%", "75.00%", "0.00%"),)


def test_a_missing_value_is_a_gap():
    series = Series(label="a", points=((0, 1.0), (1, None), (2, 2.0), (3, 3.0)))
    (line,) = chart_of(series, y_range=(0.0, 4.0)).lines
    assert line.path.count("M") == 2
    assert len(line.dots) == 3


def test_without_points_there_is_no_chart():
    assert chart_of(Series(label="a", points=((0, None),))) is None
    assert chart_of() is None


def test_a_logarithmic_axis_spaces_factors_evenly():
    series = Series(label="a", points=((1e-5, 1.0), (1e-4, 2.0), (1e-3, 3.0)))
    chart = chart_of(series, x_values=[1e-5, 1e-4, 1e-3], log_x=True)
    assert [tick.at for tick in chart.x_ticks] == ["0.00%", "50.00%", "100.00%"]
    assert [tick.label for tick in chart.x_ticks] == ["1e-05", "0.0001", "0.001"]


def test_one_point_and_one_value_still_make_a_chart():
    chart = chart_of(Series(label="a", points=((7, 2.0),)))
    assert chart.lines[0].dots == (("50.00%", "50.00%"),)


def test_an_axis_holds_points_intervals_and_the_reference():
    series = Series(label="a", points=((0, 0.5),), intervals=((0, 0.2, 0.7),))
    low, high = value_range([series], [0.9])
    assert low < 0.2
    assert high > 0.9


@pytest.mark.parametrize("number", [0, 1, 159, 160, 161, 1000])
def test_thinning_keeps_the_last_point_and_the_mean(number):
    points = [(step, float(step)) for step in range(number)]
    found = thinned(points)
    assert len(found) <= 160
    if 0 < number <= 160:
        assert list(found) == points
    if number > 160:
        assert found[-1][0] == number - 1
        size = -(-number // 160)
        assert found[0] == (size - 1, sum(range(size)) / size)


@pytest.mark.parametrize("ends", [(0.0, 1.0), (0.31, 0.36), (1e-5, 2e-5), (0, 30), (2.2, 9.7)])
def test_ticks_are_round_and_inside(ends):
    found = ticks(*ends)
    assert 3 <= len(found) <= 8
    assert all(ends[0] - 1e-12 <= tick <= ends[1] + 1e-12 for tick in found)


def test_counts_have_whole_ticks():
    assert ticks(0, 2, whole=True) == [0.0, 1.0, 2.0]
