"""Curves: no spike is lost, gaps stay gaps, ticks are round, the cursor reads values out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.app import App, ComposeResult

from screens.widgets import plot
from screens.widgets.chart import Chart
from screens.widgets.plot import Axis
from screens.widgets.scales import TIME
from screens.widgets.series import Series


def lit_rows(bits: np.ndarray) -> np.ndarray:
    """Which dots are lit, [rows, columns]."""
    height, width = bits.shape
    dots = (bits[:, None, :, None] & plot.WEIGHTS[None, :, None, :]) > 0
    return dots.reshape(height * 4, width * 2)


def drawn(values: np.ndarray, width: int = 20, height: int = 5, low: float = 0.0, high: float = 1.0) -> np.ndarray:
    steps = np.arange(len(values), dtype=np.float64)
    x = Axis(0.0, max(1.0, float(len(values) - 1)), (), 1.0)
    return lit_rows(plot.dots(steps, values, x, Axis(low, high, (), 1.0), width, height))


@given(place=st.integers(1, 99_998))
def test_a_spike_among_a_hundred_thousand_points_is_drawn(place: int) -> None:
    values = np.zeros(100_000)
    values[place] = 1.0
    assert drawn(values)[0].any()


@given(st.lists(st.floats(0, 1) | st.just(float("nan")), min_size=1, max_size=300))
def test_lowest_and_highest_value_are_always_drawn(points: list[float]) -> None:
    values = np.array(points)
    lit = drawn(values)
    finite = values[np.isfinite(values)]
    if not len(finite):
        assert not lit.any()
        return
    rows = np.flatnonzero(lit.any(axis=1))
    assert rows[0] == round((1 - finite.max()) * 19)
    assert rows[-1] == round((1 - finite.min()) * 19)


def test_a_line_stops_at_a_gap_and_goes_on_behind_it() -> None:
    values = np.full(40, 0.5)
    values[10:20] = np.nan
    columns = drawn(values).any(axis=0)
    assert columns[:10].all() and columns[20:].all()
    assert not columns[11:19].any()


def test_few_points_are_joined_by_a_line() -> None:
    assert drawn(np.array([0.0, 1.0])).any(axis=0).all()


@given(low=st.floats(-1e4, 1e4), span=st.floats(1e-4, 1e6), most=st.integers(1, 12))
def test_ticks_are_round_inside_the_axis_and_not_too_many(low: float, span: float, most: int) -> None:
    axis = plot.ticks(low, low + span, most)
    assert axis.low <= low + 1e-6 * span and axis.high >= low + span * (1 - 1e-6)
    assert 1 <= len(axis.ticks) <= most + 2
    assert all(axis.low - 1e-9 * axis.step <= tick <= axis.high + 1e-9 * axis.step for tick in axis.ticks)
    assert len(set(plot.labels(axis))) == len(axis.ticks)


def test_a_constant_curve_still_has_an_axis() -> None:
    axis = plot.ticks(0.7, 0.7, 4)
    assert axis.low < 0.7 < axis.high


def test_smoothing_leaves_gaps_and_means() -> None:
    values = np.array([1.0, 3.0, np.nan, 1.0, 3.0, 1.0, 3.0])
    smooth = plot.smooth(values, 4)
    assert np.isnan(smooth[2])
    assert smooth[np.isfinite(smooth)].std() < values[np.isfinite(values)].std()


def test_what_diverged_once_does_not_change_the_means_behind_it() -> None:
    values = np.ones(1000)
    values[100] = 1e20
    assert plot.smooth(values, 20)[120:].tolist() == [1.0] * 880


def test_a_sparkline_falls_when_the_loss_falls() -> None:
    text = plot.sparkline(np.linspace(1, 0, 50), 10)
    assert len(text) == 10
    assert text[0] in "⠉⠑⠁⠙⠈⠋" and text[-1] in "⣀⡠⢄⢀⡀⠤⣠"


class Alone(App[None]):
    """A chart and nothing else."""

    def compose(self) -> ComposeResult:
        yield Chart("loss")


@pytest.fixture
def series() -> Series:
    values = np.linspace(1.4, 0.8, 52)
    values[30] = np.nan
    return Series("train", np.arange(1, 53), values)


def text_of(chart: Chart) -> list[str]:
    return [chart.render_line(y).text for y in range(chart.size.height)]


async def test_title_names_value_and_gaps_and_the_axis_its_steps(series: Series) -> None:
    app = Alone()
    async with app.run_test(size=(60, 10)) as pilot:
        chart = app.query_one(Chart)
        chart.show([series])
        await pilot.pause()
        lines = text_of(chart)
        assert lines[0].startswith("loss") and ".800" in lines[0] and "1 gap" in lines[0]
        assert [word for word in lines[-1].split() if word.isdigit()] == ["0", "20", "40", "60"]
        assert any(line.startswith("1.2┤") for line in lines)


async def test_the_cursor_reads_values_and_leaves_at_the_end(series: Series) -> None:
    app = Alone()
    async with app.run_test(size=(60, 10)) as pilot:
        chart = app.query_one(Chart)
        chart.show([series])
        await pilot.pause()
        chart.move_cursor(-1)
        assert chart.cursor == 52
        chart.move_cursor(-1)
        assert chart.cursor == 51
        assert f"at step 51  ━ {series.values[50]:.3f}".replace(" 0.", " .") in text_of(chart)[0]
        chart.move_cursor(1)
        chart.move_cursor(1)
        assert chart.cursor is None


async def test_only_lines_that_differ_are_drawn_again(series: Series) -> None:
    app = Alone()
    async with app.run_test(size=(60, 10)) as pilot:
        chart = app.query_one(Chart)
        chart.show([series])
        await pilot.pause()
        refreshed: list[object] = []
        chart.refresh = lambda *regions, **_: refreshed.extend(regions)  # type: ignore[method-assign,assignment]
        chart.show([series])
        assert not refreshed
        chart.toggle_smoothing()
        assert 0 < len(refreshed) <= chart.size.height


async def test_on_a_logarithmic_scale_what_is_not_positive_is_a_gap() -> None:
    app = Alone()
    async with app.run_test(size=(60, 12)) as pilot:
        chart = app.query_one(Chart)
        chart.show([Series("norm", np.arange(4), np.array([0.01, -1.0, 1.0, 100.0]))])
        chart.toggle_log()
        await pilot.pause()
        assert "log" in text_of(chart)[0]
        assert any(line.lstrip().startswith(("10.00┤", "100.0┤", "1.000┤")) for line in text_of(chart))


async def test_without_points_it_says_so() -> None:
    app = Alone()
    async with app.run_test(size=(60, 10)) as pilot:
        app.query_one(Chart).show([])
        await pilot.pause()
        assert "no loss yet" in text_of(app.query_one(Chart))[1]


async def test_an_axis_of_a_few_steps_counts_whole_steps() -> None:
    app = Alone()
    async with app.run_test(size=(80, 10)) as pilot:
        chart = app.query_one(Chart)
        chart.show([Series("train", np.array([1]), np.array([3.2]))])
        await pilot.pause()
        assert text_of(chart)[-1].split() == ["0", "1"]


async def test_a_constant_curve_a_spike_and_gaps_of_a_hundred_thousand_points_in_eight_curves() -> None:
    rising = np.arange(1, 100_001)
    curves = []
    for number in range(8):
        values = np.full(100_000, 0.5)
        values[1000 + 10_000 * number] = 1.0
        values[::50_000] = np.nan
        curves.append(Series(f"run {number}", rising, values, number))
    app = Alone()
    async with app.run_test(size=(100, 30)) as pilot:
        chart = app.query_one(Chart)
        chart.names = False
        chart.show(curves)
        await pilot.pause()
        top = text_of(chart)[1]
        assert sum(letter > "⠀" and letter <= "⣿" for letter in top) == 8, (
            "every spike is drawn, in a column of its own"
        )
        assert all(each.gaps == 2 for each in curves)
        assert not any(each.name in text_of(chart)[0] for each in curves), "a legend names them"


async def test_the_last_curve_may_stand_out() -> None:
    flat, falling = np.full(20, 0.5), np.linspace(1, 0, 20)
    app = Alone()
    async with app.run_test(size=(60, 12)) as pilot:
        chart = app.query_one(Chart)
        chart.show([Series("a", np.arange(20), flat, 0), Series("b", np.arange(20), falling, 1)], front=True)
        await pilot.pause()
        looks = {
            (str(segment.style.color.name), bool(segment.style.bold))
            for y in range(1, 9)
            for segment in chart.render_line(y)
            if segment.style and segment.style.color and any("⠀" < letter <= "⣿" for letter in segment.text)
        }
        assert ("#56b4e9", False) in looks and ("#cc79a7", True) in looks


async def test_another_scale_is_named_and_takes_the_cursor_away(series: Series) -> None:
    app = Alone()
    async with app.run_test(size=(80, 12)) as pilot:
        chart = app.query_one(Chart)
        chart.show([series])
        await pilot.pause()
        chart.move_cursor(-1)
        assert chart.cursor == 52
        chart.show([Series("train", np.linspace(0, 5400, 52), series.values)], scale=TIME)
        assert chart.cursor is None and "over time" in text_of(chart)[0]
        assert text_of(chart)[-1].split() == ["0", "15m", "30m", "45m", "1h", "1h15m", "1h30m"]
        chart.move_cursor(-1)
        assert " at 1h30m" in text_of(chart)[0]


@given(st.lists(st.floats(-1e3, 1e3) | st.just(float("nan")), max_size=200), st.integers(1, 250))
def test_smoothing_is_the_mean_of_what_is_near(points: list[float], window: int) -> None:
    values = np.array(points, np.float64)
    smooth = plot.smooth(values, window)
    assert len(smooth) == len(values)
    for place in range(0, len(values), 17):
        near = values[max(0, place - window // 2) : place + (window + 1) // 2]
        near = near[np.isfinite(near)]
        if np.isfinite(values[place]):
            assert smooth[place] == pytest.approx(near.mean(), abs=1e-6)
        else:
            assert np.isnan(smooth[place])
