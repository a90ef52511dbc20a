"""That figures show the numbers, that nothing in them is cut off, and how scales and labels are chosen."""

from __future__ import annotations

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import metaquery as mq
from metaquery.drawing.axes import Axis, duration, linear_axis, log_ticks, seconds_ticks, share_axis
from metaquery.drawing.canvas import Area, Canvas, Drawing, Line, Text, colour, dashes, shortened, text_width
from metaquery.evaluation.analysis import Band
from metaquery.report.axes import budget_axis, rank_axis, regret_axis
from metaquery.report.charts import Steps, points_chart, steps_chart
from metaquery.report.diagrams import Square, critical_difference_diagram, matrix
from metaquery.report.figures import figures, generalisation_caption, panels, panels_together
from metaquery.report.raster import png

SVG = "{http://www.w3.org/2000/svg}"


def texts(drawing: Drawing) -> list[str]:
    return [item.text for item in drawing.items if isinstance(item, Text)]


def box(item: Text) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a text."""
    wide = text_width(item.text, item.size)
    start = -wide * {"start": 0.0, "middle": 0.5, "end": 1.0}[item.anchor]
    turn = math.radians(item.angle)
    corners = [(start + dx, dy) for dx in (0, wide) for dy in (-0.75 * item.size, 0.1 * item.size)]
    around = [
        (item.x + x * math.cos(turn) + y * math.sin(turn), item.y - x * math.sin(turn) + y * math.cos(turn))
        for x, y in corners
    ]
    xs, ys = zip(*around, strict=True)
    return min(xs), min(ys), max(xs), max(ys)


def assert_all_inside(drawing: Drawing) -> None:
    for item in drawing.items:
        if isinstance(item, Text):
            left, top, right, bottom = box(item)
            assert left >= -1, item
            assert top >= -1, item
            assert right <= drawing.width + 1, item
            assert bottom <= drawing.height + 1, item
        else:
            assert (item.points >= -1).all()
            assert (item.points <= (drawing.width + 1, drawing.height + 1)).all()


def test_nothing_is_cut_off(evaluation: mq.Evaluation) -> None:
    small = panels(evaluation.analysis)
    for drawing in [*(f.drawing for f in figures(evaluation.analysis)), *small]:
        assert_all_inside(drawing)
    assert_all_inside(panels_together(evaluation.analysis, small).drawing)


def test_curves_are_drawn_as_they_are(evaluation: mq.Evaluation) -> None:
    analysis = evaluation.analysis
    drawing = next(figure.drawing for figure in figures(analysis) if figure.name == "regret_test")
    bands = analysis.curves("test")
    y = regret_axis("", min(band.mean.min() for band in bands))
    hover = drawing.hover
    assert hover is not None
    lines = [item for item in drawing.items if isinstance(item, Line) and item.width == 1.8]
    assert [line.colour for line in lines] == ["series-0", "series-1"]
    for line, band, told in zip(lines, bands, hover.lines, strict=True):
        np.testing.assert_array_equal(told[2], np.stack([band.mean, band.low, band.high], axis=1))
        expected = y.along(band.mean, hover.bottom, hover.top)
        for at, value in zip(hover.positions, expected, strict=True):  # the line's last corner there or before
            held = line.points[line.points[:, 0] <= at + 1e-9][-1]
            assert held[1] == pytest.approx(value)
    assert budget_axis(analysis).along(analysis.grid, 0, 1)[[0, -1]] == pytest.approx([0, 1])


def test_a_band_encloses_its_line() -> None:
    mean, low, high = np.array([0.5, 0.5, 0.2]), np.array([0.4, 0.3, 0.1]), np.array([0.6, 0.7, 0.9])
    steps = Steps(np.array([0.0, 0.5, 1.0]), ["a"], [Band(mean, low, high)], ["0", "1/2", "1"])
    drawing = steps_chart("t", steps, Axis("x", 0, 1, []), share_axis("y"))
    (band,) = (item for item in drawing.items if isinstance(item, Area))
    hover = drawing.hover
    assert hover is not None
    left, right = hover.positions[[0, -1]]

    def down(value: float) -> float:
        return hover.bottom - value * (hover.bottom - hover.top)

    middle = (left + right) / 2
    expected = [
        *((left, 0.4), (middle, 0.4), (middle, 0.3), (right, 0.3), (right, 0.1), (right, 0.1)),
        *((right, 0.9), (right, 0.9), (right, 0.7), (middle, 0.7), (middle, 0.6), (left, 0.6)),
    ]
    assert band.points == pytest.approx(np.array([(x, down(value)) for x, value in expected]))


def test_svg_says_what_the_drawing_says() -> None:
    canvas = Canvas()
    canvas.line((1, 2), (1, 5), (7, 5), (8, 9.26), colour="series-1", dashes=(3, 1))
    canvas.rectangle(0, 0, 2, 2, opacity=0.5, tip='a "tip" & <more>', datasets=(3,))
    canvas.text(4, 5, "<a & b>", angle=40)
    drawing = Drawing("x < y", 10, 12, canvas.items)
    root = ElementTree.fromstring(drawing.svg())
    line, area = root.iter(f"{SVG}path")
    assert line.get("d") == "M1 2V5H7L8 9.3"
    assert (line.get("stroke"), line.get("stroke-dasharray")) == ("#d55e00", "3 1")
    assert (area.get("d"), area.get("data-tip")) == ("M0 0H2V2H0Z", None)
    assert [text.text for text in root.iter(f"{SVG}text")] == ["<a & b>"]
    assert root.findtext(f"{SVG}title") == "x < y"

    inline = ElementTree.fromstring(drawing.inline(series='"1'))
    area = list(inline.iter("path"))[1]
    assert (area.get("data-tip"), area.get("data-datasets")) == ('a "tip" & <more>', "3")
    assert area.get("fill") == "var(--ink)"
    assert (inline.get("aria-label"), inline.get("data-series"), inline.get("tabindex")) == ("x < y", '"1', "0")


def test_png_has_the_colours_where_the_drawing_has_them() -> None:
    import io

    from matplotlib.image import imread

    canvas = Canvas()
    canvas.rectangle(20, 4, 20, 10, colour="series-0")
    canvas.line((0, 16), (40, 16), colour="series-1", width=4)
    drawing = Drawing("", 40, 20, canvas.items)
    image = imread(io.BytesIO(png(drawing)))
    assert image.shape[:2] == (50, 100)
    shown = {place: tuple((image[place][:3] * 255).round().astype(int)) for place in ((22, 75), (22, 25), (40, 50))}
    assert shown == {(22, 75): (0, 114, 178), (22, 25): (255, 255, 255), (40, 50): (213, 94, 0)}
    assert png(drawing) == png(drawing)


def test_series_are_told_apart_by_colour_and_dashes() -> None:
    assert len({(colour(i), dashes(i)) for i in range(42)}) == 42
    assert len({colour(i) for i in range(7)}) == 7
    assert len({dashes(i) for i in range(6)}) == 6


@given(st.floats(1e-3, 1e6), st.floats(1.001, 1e6))
def test_ticks_of_the_budget_are_inside(low: float, ratio: float) -> None:
    for ticks in (seconds_ticks(low, low * ratio), log_ticks(low, low * ratio)):
        values = [value for value, _ in ticks]
        assert len(values) >= 2
        assert values == sorted(set(values))
        assert low * 0.998 <= values[0]
        assert values[-1] <= low * ratio * 1.002


@example([0.875])  # the last tick is the upper end, but for rounding
@given(st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=5))
def test_ticks_of_numbers_are_inside_and_told_apart(values: list[float]) -> None:
    axis = linear_axis("", np.array(values))
    labels = [label for _, label in axis.ticks]
    assert 3 <= len(labels) <= 8
    assert len(set(labels)) == len(labels)
    assert axis.low <= axis.ticks[0][0] <= axis.ticks[-1][0] <= axis.high
    assert axis.low < min(values) <= max(values) < axis.high


def test_ticks_that_people_like() -> None:
    assert [duration(s) for s in (0.25, 59, 60, 5400, 200000)] == ["0.25 s", "59 s", "1 min", "1.5 h", "2.31 d"]
    assert [label for _, label in seconds_ticks(2150, 7660)] == ["40 min", "1 h", "1.5 h", "2 h"]
    assert [label for _, label in regret_axis("", 0.02).ticks] == ["0.01", "0.03", "0.1", "0.3", "1"]
    assert regret_axis("", 1e-9).ticks[0] == (1e-3, "≤ 0.001")
    assert [label for _, label in rank_axis("", 1).ticks] == ["1", "2"]
    assert rank_axis("", 4).along(np.array([1.0, 4.0]), 100, 0) == pytest.approx([100 * 0.1 / 3.2, 100 * 3.1 / 3.2])
    crowded = Axis("", 0, 100, [(value, str(value)) for value in range(0, 101, 10)])
    assert [label for _, label in crowded.thinned(100, 11)] == ["0", "30", "60", "90"]


def test_long_names_are_shortened_in_the_middle() -> None:
    assert shortened("short", 100) == "short"
    long = shortened("a_very_long_name_of_a_dataset_v2", 120)
    assert text_width(long) <= 120
    assert long.startswith("a_very")
    assert long.endswith("v2")
    assert "…" in long


@pytest.mark.parametrize("n", [1, 2, 30])
def test_matrices_of_any_size_fit(n: int) -> None:
    names = [f"a_rather_long_name_of_a_dataset_{i}" for i in range(n)]
    cells = [[Square(f"{i}.{j}", (i - j) / n, f"tip {i} {j}") for j in range(n)] for i in range(n)]
    drawing = matrix("m", names, names, cells, heads=("rows", "columns"))
    assert_all_inside(drawing)
    squares = [item for item in drawing.items if isinstance(item, Area)]
    assert [square.tip for square in squares] == [f"tip {i} {j}" for i in range(n) for j in range(n)]
    assert all(square.opacity == pytest.approx(0.7 * abs(i // n - i % n) / n) for i, square in enumerate(squares))
    assert drawing.columns == n


@pytest.mark.parametrize("n", [2, 5, 14])
def test_a_rank_diagram_puts_optimizers_at_their_ranks(n: int) -> None:
    ranks = np.linspace(1, n, n)[::-1]
    labels = [f"an optimizer with a long name, number {i}" for i in range(n)]
    drawing = critical_difference_diagram("ranks", labels, ranks, [(n - 1, n - 2)], 0.5 * (n - 1))
    assert_all_inside(drawing)
    marks = [item for item in drawing.items if isinstance(item, Area)]
    assert [mark.tip.split("\n")[1] for mark in marks] == [f"average rank {rank:.2f}" for rank in sorted(ranks)]
    x = np.array([mark.points[:, 0].mean() for mark in marks])
    assert np.diff(x) == pytest.approx((x[-1] - x[0]) / (n - 1), abs=1)
    (bar,) = (item for item in drawing.items if isinstance(item, Line) and item.width == 3.4)
    assert bar.points[:, 0] == pytest.approx([x[0] - 4, x[1] + 4], abs=1)
    (distance,) = (item for item in drawing.items if isinstance(item, Line) and item.width == 1.6)
    assert np.ptp(distance.points[:, 0]) == pytest.approx((x[-1] - x[0]) / 2, abs=2)


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_labels_of_points_do_not_cover_each_other(places: list[tuple[float, float]]) -> None:
    points = np.array(places)
    labels = [f"optimizer {i}" for i in range(len(points))]
    axis = Axis("", -0.2, 1.2, [(0, "0"), (1, "1")])
    drawing = points_chart("p", points, labels, axis, axis, np.array([[0.0, 0.0], [1.0, 1.0]]))
    assert_all_inside(drawing)
    boxes = [box(item) for item in drawing.items if isinstance(item, Text) and item.text in labels]
    for i, one in enumerate(boxes):
        for other in boxes[:i]:
            assert not (one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3])


@pytest.mark.parametrize(("name", "upwards"), [("auc", True), ("loss", False)])
def test_the_front_starts_at_the_worst_and_one_optimizer_is_enough(corpus: mq.Corpus, name: str, upwards: bool) -> None:
    analysis = mq.evaluate(corpus, ["random"], budget=mq.Budget(trials=8), seeds=2, metric=name).analysis
    drawn = figures(analysis)
    for figure in drawn:
        assert_all_inside(figure.drawing)
    assert "critical_difference" not in [figure.name for figure in drawn]
    pareto = next(figure.drawing for figure in drawn if figure.name == "pareto")
    front = next(item for item in pareto.items if isinstance(item, Line) and item.colour == "soft")
    (mark,) = (item for item in pareto.items if isinstance(item, Area))
    bottom, top = front.points[:, 1].max(), front.points[:, 1].min()
    assert mark.points[:, 1].mean() == pytest.approx(top if upwards else bottom, abs=0.5)
    assert front.points[0, 1] == (bottom if upwards else top)


def test_the_mean_of_the_matrix_is_over_datasets_that_have_all_its_parts(evaluation: mq.Evaluation) -> None:
    regret = [[0.2, 0.4, 0.1], [0.3, 0.1, None], [0.7, None, 0.3]]
    transfer = {**evaluation.provenance["transfer"], "sources": ["alpha", "beta", "gamma"], "regret": regret}
    datasets = [
        {**item, "test": {"best": 1.0, "worst": 0.5, "default": default}}
        for item, default in zip(evaluation.provenance["datasets"], (0.75, 0.9, None), strict=True)
    ]
    changed = {**evaluation.provenance, "transfer": transfer, "datasets": datasets}
    caption = generalisation_caption(mq.Evaluation(evaluation.results, changed).analysis)
    told = re.findall(r"\d\.\d\d|the \d datasets", caption)
    # alpha: 0.2, (0.3 + 0.7) / 2, 0.5; beta: 0.1, 0.4, 0.2; gamma's default failed
    assert told == ["the 2 datasets", "0.15", "0.45", "0.35"]
