"""Figures take lists, tuples and arrays alike, draw what they are given, and name the argument whose shape does not fit."""

import io
import itertools

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest

from slt_jax import plotting

STEPS = [0, 1, 10, 100]
RISING = [1.0, 2.0, 3.0, 4.0]
WALK = np.random.default_rng(0).normal(size=(2, 60)).cumsum(axis=1).round(3).tolist()
PATH = [[0.0, 0.0], [1.0, 0.2], [2.0, 1.0], [2.5, 2.0]]

# name -> positional and keyword arguments, as nested lists
FIGURES = {
    "shade_stages": (([1.0, 5.0, 50.0], ["A", "B"]), {"intervals": [[4.0, 6.0]]}),
    "plot_development": (
        (STEPS, RISING[::-1], STEPS[1:], RISING[1:], [0.1, 0.2, 0.3]),
        {"llc_reference": [STEPS[1:], RISING[1:]], "llc_smooth": [STEPS[1:], [2.5, 2.5, 2.5]]},
    ),
    "plot_curves": (
        (STEPS, {"one": RISING, "two": [2.0, None, 1.0, 0.5]}),
        {"ylabel": "loss", "reference_lines": {"ridge": 1.5}, "colormap": "viridis", "legend_title": "curve"},
    ),
    "plot_traces": (([[5.0] * 10] * 2, WALK), {"thinning": 2, "window": 5}),
    "plot_rhat": ((STEPS, [1.0, 1.1, 1.02, 1.0]), {}),
    "plot_trajectory": ((PATH, [0, 0, 1, 1]), {"points": PATH[:2], "centers": [[0.0, 1.0]] * 4}),
    "plot_heat_map": (
        ([[1.0, None, 3.0], [2.0, 4.0, 8.0]], [0.1, 0.2], [1.0, 2.0, 3.0]),
        {"row_label": "step size", "column_label": "γ", "value_label": "LLC"},
    ),
    "plot_step_table": (([[0, 0, 1, 0, 1], [1, 0, 0, 0, -1]], [[0, 0]]), {}),
    "plot_estimates_against_truth": (([1.0, 2.0, 4.0], {"sgld": ([1.1, 2.0, 3.5], [0.1, 0.2, 0.3])}), {}),
}


def picture(name, arguments, options):
    """The figure as PNG bytes."""
    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    if name == "shade_stages":
        ax.set_xlim(1, 100)
    getattr(plotting, name)(ax, *arguments, **options)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    plt.close(figure)
    return buffer.getvalue()


def converted(value, make):
    """`value` with every list of numbers, or of lists of them, made by `make`; pairs of curves and mappings stay what they are."""
    if isinstance(value, dict):
        return {key: converted(each, make) for key, each in value.items()}
    if isinstance(value, tuple) and value and isinstance(value[0], list):
        return tuple(converted(each, make) for each in value)
    if isinstance(value, list) and not isinstance(value[0], str):
        return make(value)
    return value


def as_array(value):
    return np.asarray(value, float) if not isinstance(value[0], int) else np.asarray(value)


def as_tuples(value):
    return tuple(as_tuples(each) if isinstance(each, list) else each for each in value)


def as_jax(value):
    return jnp.asarray(as_array(value))


@pytest.mark.parametrize("make", [as_array, as_tuples, as_jax])
@pytest.mark.parametrize("name", FIGURES)
def test_lists_tuples_and_arrays_give_the_same_picture(name, make):
    arguments, options = FIGURES[name]
    others = tuple(converted(each, make) for each in arguments)
    # jax arrays are float32; at these numbers the pictures agree to the pixel all the same
    assert picture(name, others, converted(options, make)) == picture(name, arguments, options)


def test_every_figure_is_tried():
    figures = {name for name in plotting.__all__ if name.startswith(("plot_", "shade_"))}
    assert figures == set(FIGURES)


WRONG = {
    "llc_std_error has shape": ("plot_development", (STEPS, RISING, STEPS, RISING, RISING[:2]), {}),
    r"loss has shape \(3,\) and loss_steps \(4,\)": (
        "plot_development",
        (STEPS, RISING[:3], STEPS, RISING, RISING),
        {},
    ),
    "llc_smooth has 1 parts": (
        "plot_development",
        (STEPS, RISING, STEPS, RISING, RISING),
        {"llc_smooth": (STEPS,)},
    ),
    r"llc_reference\[1\] has shape": (
        "plot_development",
        (STEPS, RISING, STEPS, RISING, RISING),
        {"llc_reference": (STEPS, [1.0])},
    ),
    r"curve 'b' has shape \(2,\) and steps \(4,\)": (
        "plot_curves",
        (STEPS, {"a": RISING, "b": RISING[:2]}),
        {"ylabel": ""},
    ),
    r"curve 'a' has shape \(4, 4\); its axes should be \(step\)": (
        "plot_curves",
        (STEPS, {"a": [RISING] * 4}),
        {"ylabel": ""},
    ),
    r"draws has shape \(60,\); its axes should be \(chain, step\)": ("plot_traces", ([], WALK[0]), {}),
    "burnin has 1 chains and draws 2": ("plot_traces", (WALK[:1], WALK), {}),
    "draws is not an array of numbers": ("plot_traces", ([], [[1.0, 2.0], [1.0]]), {}),
    "rhat has shape": ("plot_rhat", (STEPS, RISING[:1]), {}),
    "burnin is not an array of numbers": ("plot_traces", ([[1.0, 2.0], [1.0]], WALK), {}),
    "intervals is not an array of numbers": ("shade_stages", ([1.0, 2.0],), {"intervals": [[1.0, 2.0], [1.0]]}),
    "steps is not an array of numbers": ("plot_rhat", (["one", "two"], [1.0, 1.0]), {}),
    r"path has shape \(2, 3\); it should be a list of pairs": ("plot_trajectory", ([[1, 2, 3]] * 2, [0, 0]), {}),
    r"stage_of has shape \(3,\) for a path \(4, 2\)": ("plot_trajectory", (PATH, [0, 0, 1]), {}),
    r"centers has shape \(3,\)": ("plot_trajectory", (PATH, [0, 0, 1, 1]), {"centers": [1.0, 2.0, 3.0]}),
    r"values has shape \(2, 2\) for 1 rows and 2 columns": (
        "plot_heat_map",
        ([[1.0, 2.0]] * 2, [1.0], [1.0, 2.0]),
        {"row_label": "", "column_label": "", "value_label": ""},
    ),
    "standard errors of 'a' has shape": (
        "plot_estimates_against_truth",
        ([1.0, 2.0], {"a": ([1.0, 2.0], [0.1])}),
        {},
    ),
    "estimates of 'a' have 3 parts": ("plot_estimates_against_truth", ([1.0], {"a": ([1.0], [1.0], [1.0])}), {}),
    r"boundaries has shape \(\)": ("shade_stages", (3.0,), {}),
    "intervals has shape": ("shade_stages", ([1.0, 2.0],), {"intervals": [[1.0, 2.0, 3.0]]}),
}


@pytest.mark.parametrize("message", WRONG)
def test_a_wrong_shape_is_named(message):
    name, arguments, options = WRONG[message]
    _, ax = plt.subplots()
    with pytest.raises(ValueError, match=message) as caught:
        getattr(plotting, name)(ax, *arguments, **options)
    plt.close("all")
    assert "\n" not in str(caught.value)


def test_curves_leave_out_step_zero_which_a_log_axis_has_not():
    _, ax = plt.subplots()
    plotting.plot_curves(ax, STEPS, {"a": RISING}, ylabel="")
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), STEPS[1:])
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), RISING[1:])
    plt.close("all")


def test_traces_without_burnin_have_no_line_at_its_end():
    _, (left, right) = plt.subplots(1, 2)
    plotting.plot_traces(left, [], WALK, window=1)
    plotting.plot_traces(right, [[5.0] * 10] * 2, WALK, window=1)
    drawn = [line for line in left.lines if len(line.get_xdata())]
    np.testing.assert_array_equal([line.get_ydata() for line in drawn], WALK)
    assert left.lines[-1].get_linestyle() == "-"
    assert right.lines[-1].get_linestyle() == ":"
    plt.close("all")


def test_more_estimates_than_markers_are_all_drawn():
    _, ax = plt.subplots()
    plotting.plot_estimates_against_truth(ax, [1.0, 2.0], {str(i): ([1.0, 2.0], [0.1, 0.1]) for i in range(12)})
    assert len(ax.get_legend().get_texts()) == 12
    markers = [container.lines[0].get_marker() for container in ax.containers]
    assert all(one != other for one, other in itertools.pairwise(markers))
    plt.close("all")


def test_the_heat_map_writes_every_number_and_says_which_are_not():
    _, ax = plt.subplots()
    arguments, options = FIGURES["plot_heat_map"]
    plotting.plot_heat_map(ax, *arguments, **options)
    assert [text.get_text() for text in ax.texts] == ["1", "diverged", "3", "2", "4", "8"]
    plt.close("all")
