"""The pictures P1 to P13: what they draw are the quantities' own numbers, captions say the rest."""

import json
import re
from dataclasses import fields, replace

import numpy as np
import pytest

from diagnostics.page import (
    pictures_of_clipping,
    pictures_of_credit,
    pictures_of_dynamics,
    pictures_of_flow,
    pictures_of_gates,
    pictures_of_numbers,
    pictures_of_steps,
    pictures_of_timeline,
    pictures_of_training,
)
from diagnostics.page.picture import across, lines_of
from diagnostics.page.pictures import PICTURES, pictures
from diagnostics.page.svg import canvas, compact
from diagnostics.quantities.kinds import QUANTITIES
from diagnostics.report import from_dict
from tests.full_report import HIDDEN, STEPS, full_report, measured
from tests.toy_report import toy_report

# Of diagnostics.md 5.2; P11 and P13 consist of several; P14 is a table, tested with the page.
NAMES = {
    "P1": "lag-gain", "P2": "gradient-flow", "P3": "influence", "P4": "jacobians",
    "P5": "lyapunov", "P6": "eigenvalues", "P7": "gates", "P8": "timescales", "P9": "credit",
    "P10": "truncation", "P11 a-c": "clipping", "P11 d": "clip-direction",
    "P11 e": "graph-clipping", "P12": "timeline", "P13 a": "numeric-health", "P13 b": "precision",
}  # fmt: skip


@pytest.fixture(scope="module")
def report():
    return full_report()


@pytest.fixture(scope="module")
def drawn(report):
    return {picture.name: picture for picture in pictures(report)}


def painted(picture):
    """The axes of a picture, by their title, in the order of drawing."""
    with canvas(picture.height) as figure:
        picture.paint(figure)
        figure.draw_without_rendering()
        return figure.axes


def line(axes, label):
    return next(one for one in axes.get_lines() if one.get_label() == label)


def upright(axes):
    """Where an axes has vertical lines of full height, in the order of drawing."""
    lines = [one for one in axes.get_lines() if tuple(one.get_ydata()) == (0, 1)]
    return [float(one.get_xdata()[0]) for one in lines if len(set(one.get_xdata())) == 1]


def filled(collection):
    """Lower and upper edge of a band over 0, 1, 2 and so on, from its outline: (T,) each."""
    (outline,) = collection.get_paths()
    places = outline.vertices.round(12)
    across = np.unique(places[:, 0])
    at = [places[places[:, 0] == x, 1] for x in across]
    return np.array([y.min() for y in at]), np.array([y.max() for y in at])


def test_every_plot_of_the_specification_is_drawn(drawn):
    assert set(NAMES.values()) <= set(drawn)
    of_a_monitor = {pictures_of_timeline.timeline}  # drawn in test_diagnostics_monitor_report.py
    assert len(drawn) == len(set(PICTURES) - of_a_monitor)


@pytest.mark.parametrize("name", [*NAMES.values(), "loss"])
def test_a_caption_has_numbers_how_they_were_computed_and_what_they_cost(name, drawn):
    picture = drawn[name]
    assert len(picture.shows) > 50 and picture.how and picture.cost
    assert picture.rows and {len(row) for row in picture.rows} == {len(picture.columns)}
    cells = [cell for row in picture.rows for cell in row[1:]]
    assert any(re.search(r"\d", cell) for cell in cells)
    # An interval, or the reason why there is none.
    said = picture.how.lower()
    assert any("[" in cell for cell in cells) or "without interval" in said


@pytest.mark.parametrize("name", [*NAMES.values(), "loss"])
def test_who_cannot_see_a_picture_is_told_its_numbers(name, drawn):
    picture = drawn[name]
    words = re.search(rf'<desc id="{name}-desc">([^<]*)</desc>', picture.svg)[1]
    assert picture.rows[0][0] in words
    assert re.search(r"\d", words)


def test_pictures_are_the_same_bytes_also_by_way_of_json(report, drawn):
    again = from_dict(json.loads(report.json()), "here")
    for picture in pictures(again):
        assert picture.svg == drawn[picture.name].svg, picture.name
        assert picture.rows == drawn[picture.name].rows


def test_every_quantity_of_a_report_is_shown_somewhere(report):
    """A quantity that no picture and no table shows would be measured for nobody."""
    elsewhere = {"decay_rate", "product_bound"}  # in the pictures of lag gain and Jacobians
    alone = {"self_checks", "loss_scaling", "update_ratio"}  # tables, or not of a report's level
    of_a_monitor = {"timeline", "course"}  # drawn in test_diagnostics_monitor_report.py
    seen = set()
    for draw in PICTURES:
        for name in QUANTITIES:
            bare = [s.__class__(s.name, {name: q}, s.settings) for s in report.subjects
                    if (q := s.quantities.get(name)) is not None]  # fmt: skip
            stripped = report.__class__("", bare, report.verdicts)
            seen |= {name} if bare and draw(stripped) is not None else set()
    assert seen | elsewhere | alone | of_a_monitor == set(QUANTITIES)
    assert not seen & of_a_monitor


def test_p1_draws_gain_rate_and_the_lag_at_which_a_thousandth_is_left(report):
    axes = painted(pictures_of_flow.lag_gain(report))[0]
    for subject in report.subjects:
        gain = subject.quantities["lag_gain"]
        np.testing.assert_array_equal(line(axes, subject.name).get_ydata(), gain.value)
    rate = report["rnn", "decay_rate"]
    # The LSTM's thousandth lies beyond the largest lag that was measured.
    assert report["lstm", "decay_rate"].horizon > STEPS - 1 > rate.horizon
    diamonds = [one for one in axes.get_lines() if one.get_marker() == "D"]
    assert len(diamonds) == 1
    assert (diamonds[0].get_xdata()[0], diamonds[0].get_ydata()[0]) == (rate.horizon, 1e-3)
    assert rate.value**rate.horizon == pytest.approx(1e-3)


def test_p1_draws_the_band_of_single_gains_and_the_power_of_the_rate(report):
    axes = painted(pictures_of_flow.lag_gain(report))[0]
    dotted = [one for one in axes.get_lines() if len(one.get_xdata()) == 100]
    assert len(axes.collections) == len(dotted) == len(report.subjects)
    for subject, band, power in zip(report.subjects, axes.collections, dotted, strict=True):
        gain, rate = (subject.quantities[name] for name in ("lag_gain", "decay_rate"))
        low, high = filled(band)
        np.testing.assert_allclose(low, gain.band[:, 0], atol=1e-12)
        np.testing.assert_allclose(high, gain.band[:, 1], atol=1e-12)
        assert ((gain.value[1:] > low[1:]) & (gain.value[1:] < high[1:])).all()
        lags, drawn_power = power.get_data()
        seen = np.isfinite(drawn_power)
        assert seen[0] and lags[-1] == STEPS - 1
        np.testing.assert_allclose(drawn_power[seen], rate.value ** lags[seen], rtol=1e-12)


def test_p1_marks_the_judged_lag_and_the_rounding_unit_where_a_gain_falls_below_it(report):
    toy = toy_report()  # 0.4 to the power of 23 is 7e-10, below the unit of float32
    axes = painted(pictures_of_flow.lag_gain(toy))[0]
    words = {text.get_text(): text.xy for text in axes.texts}
    assert [words["judged: 23"][0]] == upright(axes) == [23]
    unit = words["ε float32"][1]
    assert unit == np.finfo(np.float32).eps
    level = [one.get_ydata()[0] for one in axes.get_lines() if tuple(one.get_xdata()) == (0, 1)]
    assert {unit, 1e-3, 1e-6} <= set(level)
    # The small networks stay above it, and their axes has no room for it.
    there = {text.get_text() for text in painted(pictures_of_flow.lag_gain(report))[0].texts}
    assert "ε float32" not in there and f"judged: {STEPS - 1}" in there


def test_p2_draws_total_local_and_carried(report):
    axes = painted(pictures_of_flow.gradient_flow(report))
    flow = report["lstm", "gradient_flow"]
    np.testing.assert_array_equal(line(axes[0], "total δ").get_ydata(), flow.value)
    local = line(axes[0], "local ε").get_ydata()
    np.testing.assert_array_equal(local[1:], flow.local_norm[1:])
    assert np.isnan(local[0]) and flow.local_norm[0] == 0  # nothing enters at the initial state
    carried = line(axes[0], "carried").get_ydata()
    np.testing.assert_array_equal(carried[:-1], flow.carried_norm[:-1])
    assert np.isnan(carried[-1]) and flow.carried_norm[-1] == 0  # nothing comes after the end


def test_p2_draws_below_what_one_step_back_keeps(report):
    axes = painted(pictures_of_flow.gradient_flow(report))
    assert axes[2].get_ylabel() == "step gain"
    for below, subject in zip(axes[2:4], report.subjects, strict=True):
        kept, gain = below.get_lines()
        assert tuple(kept.get_ydata()) == (1, 1)
        found = subject.quantities["gradient_flow"].step_gain
        np.testing.assert_array_equal(gain.get_xydata().T, [np.arange(STEPS), found])


def test_p3_shows_only_rows_that_the_source_can_reach(report):
    axes = painted(pictures_of_steps.influence(report))[0]
    found = report["lstm", "influence"]
    shown = axes.get_images()[0].get_array()
    for values, source, norms in zip(shown, found.sources, found.value, strict=True):
        assert np.isnan(np.asarray(values)[source + 1 :]).all()
        np.testing.assert_allclose(values[: source + 1], np.log10(norms[: source + 1]), rtol=1e-12)


def test_p4_draws_the_bound_above_the_truth(report):
    left, right = painted(pictures_of_steps.jacobians(report))[:2]
    values, bound = (report["lstm", name] for name in ("singular_values", "product_bound"))
    names = ("largest σ", "median σ", "smallest σ")  # noqa: RUF001 - the letter
    for name, column in zip(names, values.spread.T, strict=True):
        np.testing.assert_array_equal(line(left, name).get_xydata().T, [values.steps, column])
    drawn_bound = line(right, "bound").get_ydata()
    truth = line(right, "true largest").get_ydata()
    np.testing.assert_allclose(drawn_bound, bound.bound / np.log(10), rtol=1e-12)
    assert (drawn_bound >= truth - 1e-9).all() and (drawn_bound > truth + 0.1).any()


def test_p5_draws_the_spectrum_and_how_its_first_exponent_settled(report):
    left, right = painted(pictures_of_dynamics.lyapunov(report))
    found = report["lstm", "lyapunov"]
    np.testing.assert_array_equal(line(left, "lstm").get_ydata(), found.value)
    curve = right.get_lines()[0].get_ydata()
    assert curve[-1] == pytest.approx(found.value[0], abs=1e-12)
    level = [float(one.get_ydata()[0]) for one in left.get_lines() if len(one.get_xdata()) == 2]
    # ln 1e3 and ln 1e6 over the judged lag, as rule R5 has them, and the line of no change.
    expected = np.array([-13.8, -6.9, 0, 6.9, 13.8]) / (STEPS - 1)
    np.testing.assert_allclose(np.sort(level), expected, rtol=1e-12)


def test_p5_draws_the_interval_of_every_exponent(report):
    left = painted(pictures_of_dynamics.lyapunov(report))[0]
    for subject, bars in zip(report.subjects, left.collections, strict=True):
        found = subject.quantities["lyapunov"]
        ends = np.array([bar[:, 1] for bar in bars.get_segments()])
        np.testing.assert_array_equal(ends, found.ci)
        assert [bar[0, 0] for bar in bars.get_segments()] == list(range(1, len(found.value) + 1))
        assert (ends[:, 0] < found.value).all() and (found.value < ends[:, 1]).all()


def test_p6_draws_every_eigenvalue_and_the_unit_circle(report):
    axes = painted(pictures_of_dynamics.eigenvalues(report))[0]
    circle = np.hypot(*axes.get_lines()[0].get_data())
    np.testing.assert_allclose(circle, 1.0, rtol=1e-12)
    found = report["lstm", "linearisation"]
    assert len(line(axes, "mean Jacobian").get_xdata()) == 2 * HIDDEN
    for block, values in found.weights.items():
        np.testing.assert_array_equal(line(axes, f"block {block}").get_xydata(), values)


def test_p7_draws_a_dot_per_unit_and_gate(report):
    axes = painted(pictures_of_gates.saturation(report))
    found = report["lstm", "gate_statistics"]
    gates = [a.texts[0].get_text() for a in axes if a.texts]
    assert gates == ["i", "f", "g", "o", "h"]
    for one, gate in zip(axes, "ifgo", strict=False):
        dots = one.get_lines()[1]
        np.testing.assert_array_equal(dots.get_xdata(), found.left[gate])
        np.testing.assert_array_equal(dots.get_ydata(), found.right[gate])


def test_p8_counts_every_unit_once_and_says_which_runs_keep_nothing(report):
    picture = pictures_of_gates.timescales(report)
    axes = painted(picture)[0]
    assert sum(bar.get_height() for bar in axes.patches) == HIDDEN
    assert "no unit keeps its state by itself: rnn" in picture.shows


def test_p8_has_lines_at_the_length_the_needed_lag_and_a_third_of_it(report):
    lag = 9
    short = replace(report, verdicts=[replace(v, lag=lag) for v in report.verdicts])
    picture = pictures_of_gates.timescales(short)
    (axes,) = painted(picture)
    assert upright(axes) == [STEPS, lag, lag / 3]
    assert f"the length T of the sequences ({STEPS})" in picture.shows
    low, high = axes.get_xlim()
    assert low < lag / 3 and high > STEPS
    mark = next(one for one in axes.get_lines() if tuple(one.get_ydata()) == (0, 0.12))
    assert mark.get_xdata()[0] == report["lstm", "memory_timescales"].value


@pytest.mark.parametrize("source", ["lag_gain", "gradient_flow", None])
def test_p8_takes_the_length_from_what_was_measured(source, report):
    kept = {k: q for k, q in report.subjects[0].quantities.items()
            if k in (source, "memory_timescales")}  # fmt: skip
    alone = replace(report, subjects=[replace(report.subjects[0], quantities=kept)])
    picture = pictures_of_gates.timescales(alone)
    (axes,) = painted(picture)
    assert (STEPS in upright(axes)) == (source is not None)
    assert ("length T" in picture.shows) == (source is not None)


def test_p9_stacks_the_gates_up_to_the_norm_of_the_step(report):
    axes = painted(pictures_of_credit.credit(report))[0]
    found = report["lstm", "credit"]
    top = np.max([v.vertices[:, 1].max() for c in axes.collections for v in c.get_paths()])
    assert top == pytest.approx(found.value.max(), rel=1e-12)
    below = np.sqrt(np.sum([np.square(v) for v in found.gates.values()], axis=0))
    np.testing.assert_allclose(below, found.value, rtol=1e-9)  # squares of gates add up


def test_p9_draws_the_share_from_each_step_on_and_prints_the_coherence(report):
    picture = pictures_of_credit.credit(report)
    for axes, subject in zip(painted(picture)[2:4], report.subjects, strict=True):
        found = subject.quantities["credit"]
        share, ninety = axes.get_lines()
        expected = [found.value[t:].sum() / found.value.sum() for t in range(STEPS)]
        np.testing.assert_allclose(share.get_ydata(), expected, rtol=1e-12)
        assert expected[0] == 1 and tuple(ninety.get_ydata()) == (0.9, 0.9)
        row = next(row for row in picture.rows if row[0] == subject.name)
        assert row[1] == f"{found.coherence:.2g}" and 0 < found.coherence < 1


def test_p10_draws_error_and_direction_by_chunk(report):
    left, right = painted(pictures_of_credit.truncation(report))
    found = report["lstm", "tbptt_error"]
    values = line(left, "lstm").get_ydata()
    np.testing.assert_array_equal(values[:-1], found.value[:-1])
    assert found.value[-1] == 0 and np.isnan(values[-1])  # the whole sequence in one chunk
    np.testing.assert_array_equal(right.get_lines()[0].get_ydata()[:-1], 1 - found.cosine[:-1])


def test_p11_marks_clipped_steps_and_says_that_the_direction_was_kept(report):
    picture = pictures_of_clipping.clipping(report)
    axes = painted(picture)[0]
    clip = report["lstm", "clipping"]
    np.testing.assert_array_equal(line(axes, "after clipping").get_ydata(), clip.post)
    marks = [c for c in axes.collections if len(c.get_paths()) == clip.clipped.sum()]
    assert len(marks) == 1
    assert "lstm 1.000000" in picture.shows


def test_p11_tells_whose_norm_was_clipped_and_what_it_did_to_the_direction(report):
    picture = pictures_of_clipping.direction(report)
    # (3, 4, 1) clipped to (1, 1, 1): cosine 8 / sqrt(26 * 3), shares 25/26 and 1/26.
    assert picture.rows[0][1] == f"{8 / np.sqrt(78):.4f}"
    widths = sorted(bar.get_width() for bar in painted(picture)[0].patches)
    np.testing.assert_allclose(widths, [1 / 26, 1 / 26, 25 / 26, 25 / 26], rtol=1e-12)


def test_p11_draws_delta_with_and_without_clipping_inside_the_graph(report):
    axes = painted(pictures_of_clipping.in_graph(report))[0]
    found = report["lstm", "graph_clipping"]
    np.testing.assert_array_equal(line(axes, "as it is").get_ydata(), found.total_norm)
    clipped = line(axes, "clipped at every step back").get_ydata()
    np.testing.assert_array_equal(clipped, found.clipped_norm)


def test_p12_draws_the_map_and_what_was_recorded_below_it(report):
    axes = painted(pictures_of_training.timeline(report))
    training = report["lstm", "training"]
    labels = [a.get_ylabel() for a in axes if a.get_ylabel()]
    assert labels[:4] == ["row t", "ρ", "clipped", "update"]  # noqa: RUF001 - the letter
    shown = np.asarray(axes[0].get_images()[0].get_array())
    np.testing.assert_allclose(shown, np.log10(training.flow).T, rtol=1e-12)
    strips = {a.get_ylabel(): a.get_lines()[-1].get_ydata() for a in axes if a.get_lines()}
    np.testing.assert_array_equal(strips["ρ"], training.strips["rho"])  # noqa: RUF001
    assert strips["clipped"][-1] == report["lstm", "clipping"].clipped[-25:].mean()


def test_a_report_written_before_there_were_strips_is_still_read_and_drawn(report):
    document = json.loads(report.json())
    for subject in document["subjects"]:
        del subject["quantities"]["training"]["strips"]
    again = from_dict(document, "an older file")
    assert pictures_of_training.timeline(again).svg.startswith("<svg")


def test_p13_draws_nothing_where_nothing_left_its_range_and_a_dot_per_parameter(report):
    axes = painted(pictures_of_numbers.numeric_health(report))[0]
    heights = [path.vertices[:, 1].max() for c in axes.collections for path in c.get_paths()]
    assert max(heights) == 0
    axes = painted(pictures_of_numbers.precision(report))[0]
    dots = [one.get_xdata()[0] for one in axes.get_lines() if one.get_marker() == "o"]
    known = [v for s in report.subjects for v in s.quantities["precision"].parameters.values()]
    assert sorted(dots) == sorted(v for v in known if v > 0)


def test_p14_lists_every_identity_of_one_layer_and_the_worst_of_several(report):
    columns, rows = pictures_of_numbers.self_checks(measured("lstm"))
    checks = measured("lstm")["self_checks"]
    assert [row[0] for row in rows] == list(checks.residuals)
    assert {row[3] for row in rows} == {"holds"}
    columns, rows = pictures_of_numbers.self_checks(report)
    assert len(columns) == 5 and [row[0] for row in rows] == ["lstm", "rnn"]
    assert rows[0][2] == checks.worst
    assert rows[0][1] == f"{len(checks.residuals)} of {len(checks.residuals)} hold"


def test_levels_and_directions_stand_in_panels_of_their_own(report):
    subject = report.subjects[0]
    names = [f"encoder, level {k}, {way}" for k in (1, 0) for way in ("forward", "reverse")]
    four = replace(report, subjects=[replace(subject, name=name) for name in names], verdicts=[])
    axes = painted(pictures_of_steps.influence(four))
    # Two stand side by side, so a name of 25 characters fits in one line.
    assert [a.get_title() for a in axes if a.get_title()] == names
    axes = painted(pictures_of_gates.saturation(four))
    words = [text.get_text() for a in axes for text in a.texts]
    assert [text for text in words if len(text) > 1] == names


@pytest.mark.parametrize(
    ("count", "columns", "lines"), [(1, 1, 1), (3, 3, 1), (4, 2, 2), (7, 3, 3)]
)
def test_panels_fill_their_rows(count, columns, lines):
    assert (across(count), lines_of(count)) == (columns, lines)


def test_a_drawing_is_shortened_without_moving_anything_visibly():
    dot = '<use xlink:href="#m" x="1.23456" y="-7.0001" style="fill: red"/>\n'
    made = compact(f'<path d="M 0.123456 9.87654"/>\n{dot}{dot}<text x="3.5">1.23456</text>')
    assert '<path d="M 0.12 9.88"/>' in made and '<text x="3.5">1.23456</text>' in made
    assert made.count('style="fill: red"') == 1 and made.count('x="1.23" y="-7.00"') == 2


def spoiled(value, by):
    """The same value with every float in it replaced."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return np.full_like(value, by)
    if isinstance(value, dict):
        return {key: spoiled(item, by) for key, item in value.items()}
    return by if isinstance(value, float) else value


@pytest.mark.parametrize("by", [np.nan, np.inf, 0.0])
def test_numbers_that_cannot_be_drawn_are_left_out_without_a_warning(by, report):
    """A report of what went wrong must be drawn above all: warnings are errors here."""
    kept = ("cost", "max_norm", "clip")  # counts and thresholds are given, not measured
    subjects = [
        replace(
            subject,
            quantities={
                name: replace(q, **{f.name: spoiled(getattr(q, f.name), by)
                                    for f in fields(q) if f.name not in kept})
                for name, q in subject.quantities.items()
            },
        )
        for subject in report.subjects
    ]  # fmt: skip
    for picture in pictures(replace(report, subjects=subjects)):
        with canvas(picture.height) as figure:
            picture.paint(figure)
            figure.draw_without_rendering()
            assert all(len(row) == len(picture.columns) for row in picture.rows)
