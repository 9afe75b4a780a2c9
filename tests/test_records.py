"""Results to keep: xarray, files, JSON, equality and the notebook's view hold the same numbers, or one sentence says why not."""

import json
import math
from dataclasses import fields, replace
from functools import partial
from html.parser import HTMLParser

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_jax
from slt_jax.estimators.llc import LLCEstimate, llc
from slt_jax.estimators.sweep import sweep
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.driver import sample
from slt_jax.sampling.notebook import trace_svg
from slt_jax.sampling.records import block_means
from slt_jax.sampling.samples import Samples, select_chains
from slt_jax.sampling.sgld import sgld


def noisy_quadratic(params, batch):
    return 0.5 * jnp.sum((params[None] - batch) ** 2, axis=-1)


OBSERVABLES = {
    "position": lambda w: w,
    "block_0/norm": lambda w: jnp.linalg.norm(w),
    "half": lambda w: w[:2].astype(jnp.bfloat16),
}


def draw(step_size=1e-3, **options):
    data = jax.random.normal(jax.random.key(1), (64, 3))
    posterior = LocalPosterior(noisy_quadratic, data, data.mean(0), 20.0, 1.0)
    options = {"num_chains": 3, "num_draws": 40, "num_burnin": 5, "observables": OBSERVABLES} | options
    return sample(jax.random.key(0), posterior, sgld(8), step_size=step_size, **options)


@pytest.fixture(scope="module")
def samples():
    return draw()


@pytest.fixture(scope="module")
def diverged():
    """Chains at a step size that is not stable: every number of the estimate is NaN."""
    return draw(step_size=10.0)


def unequal_in(one, name, value):
    return replace(one, **{name: value}) != one


def changed(value):
    """Another value of the same type; of an array, the last element alone."""
    if isinstance(value, np.ndarray):
        value = value.copy()
        value.flat[-1] = changed(value.flat[-1].item())
        return value
    if isinstance(value, bool):
        return not value
    return f"not {value}" if isinstance(value, str) else 1.5 if np.isnan(value) else value + 1


# --- equality


def test_samples_are_equal_by_value_and_differ_in_every_field(samples, diverged):
    assert samples == draw()
    assert diverged == draw(step_size=10.0)
    assert np.isnan(diverged.loss).any()
    assert samples != diverged
    assert samples != "samples"
    for field in fields(Samples):
        if field.type is np.ndarray:
            value = getattr(samples, field.name)
            assert unequal_in(samples, field.name, changed(value)), field.name
            assert unequal_in(samples, field.name, value[:-1]), field.name
    assert unequal_in(samples, "baseline", "full")
    assert unequal_in(samples, "num_parameters", 4)
    assert unequal_in(samples, "observables", {})
    assert unequal_in(samples, "observables", samples.observables | {"half": samples.observables["half"] + 1})
    assert replace(samples, chains=None) == samples
    with pytest.raises(TypeError, match="unhashable"):
        hash(samples)


def test_estimates_are_equal_by_value_and_differ_in_every_field(samples, diverged):
    for one in (llc(samples), llc(diverged)):
        assert one == replace(one, per_chain=one.per_chain.copy())
        for field in fields(LLCEstimate):
            assert unequal_in(one, field.name, changed(getattr(one, field.name))), field.name
        assert unequal_in(one, "trace", None)
        assert unequal_in(one, "mean", 1.5)
        assert unequal_in(one, "per_chain", one.per_chain[:, None])
    assert replace(llc(samples), trace=None) != llc(samples)
    assert llc(samples) != llc(diverged)
    assert llc(samples) != 3.0
    with pytest.raises(TypeError, match="unhashable"):
        hash(llc(samples))


def test_sweeps_are_equal_by_value():
    data = jax.random.normal(jax.random.key(1), (64, 3))
    posterior = LocalPosterior(noisy_quadratic, data, data.mean(0), 20.0, 1.0)
    made = partial(sweep, posterior=posterior, kernel=sgld(8), step_sizes=[1e-3, 10.0], num_draws=20)
    one = made(jax.random.key(0))
    assert one == made(jax.random.key(0))
    assert np.isnan(one.mean[1, 0, 0])
    assert one != made(jax.random.key(1))
    assert one != replace(one, estimates=one.estimates[:1])
    with pytest.raises(TypeError, match="unhashable"):
        hash(one)


# --- files


def test_loaded_samples_hold_the_same_bits_and_give_the_same_llc(samples, diverged, tmp_path):
    path = tmp_path / "new" / "folder" / "samples.npz"
    for one in (samples, diverged):
        one.save(path)
        loaded = Samples.load(str(path))
        assert loaded == one
        assert llc(loaded) == llc(one)
        assert loaded.chains is None
        arrays = {f.name: getattr(one, f.name) for f in fields(Samples) if f.type is np.ndarray} | one.observables
        for name, before in arrays.items():
            after = loaded.observables[name] if name in loaded.observables else getattr(loaded, name)
            assert after.dtype == before.dtype
            assert after.shape == before.shape
            assert np.asarray(after).tobytes() == np.asarray(before).tobytes()
    assert [file.name for file in path.parent.iterdir()] == ["samples.npz"]
    with np.load(path) as plain:
        assert any(np.array_equal(plain[name], diverged.loss, equal_nan=True) for name in plain.files)


def test_chains_can_be_selected_from_loaded_samples(samples, tmp_path):
    samples.save(tmp_path / "samples.npz")
    loaded = Samples.load(tmp_path / "samples.npz")
    assert select_chains(loaded, slice(1, 3)) == select_chains(samples, slice(1, 3))
    assert select_chains(loaded, slice(1, 3)).chains is None


def test_loaded_estimates_are_the_same(samples, diverged, tmp_path):
    for one in (llc(samples), llc(diverged), replace(llc(samples), trace=None, mean=math.inf)):
        one.save(tmp_path / "estimate.npz")
        assert LLCEstimate.load(tmp_path / "estimate.npz") == one


def test_every_damage_to_a_file_is_refused(tmp_path):
    small = draw(num_chains=1, num_draws=4, num_burnin=0, observables={})
    for one in (small, llc(small)):
        kind, path = type(one), tmp_path / "result.npz"
        one.save(path)
        whole = path.read_bytes()
        refusal = rf"{path} is damaged, or holds no {kind.__name__}; copy it again"
        for length in [*range(0, len(whole), 101), len(whole) - 1]:
            path.write_bytes(whole[:length])
            with pytest.raises(ValueError, match=refusal):
                kind.load(path)
        for position in range(0, len(whole), 37):
            flipped = bytearray(whole)
            flipped[position] ^= 1 << position % 8
            path.write_bytes(bytes(flipped))
            with pytest.raises(ValueError, match=refusal):
                kind.load(path)
        path.write_bytes(whole)
        assert kind.load(path) == one


def test_other_files_are_refused(samples, tmp_path):
    np.savez(tmp_path / "plain.npz", loss=np.zeros(3))
    with pytest.raises(ValueError, match=r"plain\.npz is damaged, or holds no Samples"):
        Samples.load(tmp_path / "plain.npz")
    samples.save(tmp_path / "samples.npz")
    with pytest.raises(ValueError, match=r"samples\.npz holds Samples, not LLCEstimate; load it with Samples\.load"):
        LLCEstimate.load(tmp_path / "samples.npz")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.npz"):
        Samples.load(tmp_path / "nowhere.npz")


def test_what_cannot_be_stored_is_refused_and_leaves_the_old_file(samples, tmp_path):
    path = tmp_path / "samples.npz"
    samples.save(path)
    tree = draw()
    tree.observables["tree"] = {"a": tree.observables["half"]}
    for keep in (lambda: tree.save(path), tree.to_xarray):
        with pytest.raises(ValueError, match="observable 'tree' is a tree of arrays"):
            keep()
    with pytest.raises(ValueError, match="Object arrays cannot be saved"):
        replace(samples, observables={"odd": np.array([[None]])}).save(path)
    assert Samples.load(path) == samples
    assert [file.name for file in tmp_path.iterdir()] == ["samples.npz"]


# --- JSON


def test_an_estimate_goes_through_json_and_back(samples, diverged):
    for one in (llc(samples), llc(diverged), replace(llc(samples), rhat=math.inf, drift=-math.inf, trace=None)):
        text = json.dumps(one.as_dict(), allow_nan=False)
        back = LLCEstimate.from_dict(json.loads(text))
        assert back == one
        assert back.diverged.dtype == bool
        assert back.per_chain.dtype == np.float64
        assert str(back) == str(one)
        assert repr(back) == repr(one)
    assert llc(diverged).as_dict()["mean"] is None
    assert llc(diverged).as_dict()["per_chain"] == [None] * 3
    assert llc(samples).as_dict()["mean"] == llc(samples).mean


def test_a_dict_that_is_no_estimate_is_refused(samples):
    values = llc(samples).as_dict()
    with pytest.raises(ValueError, match="'lambda' is unknown or missing"):
        LLCEstimate.from_dict({**values, "lambda": 1.0})
    with pytest.raises(ValueError, match="'rhat' is unknown or missing"):
        LLCEstimate.from_dict({name: value for name, value in values.items() if name != "rhat"})
    del values["trace"]
    assert LLCEstimate.from_dict(values) == replace(llc(samples), trace=None)


# --- xarray


def test_samples_as_a_tree_in_the_layout_of_arviz(samples):
    tree = samples.to_xarray()
    assert set(tree.children) == {"posterior", "sample_stats", "settings", "warmup_posterior", "warmup_sample_stats"}
    posterior, stats = tree["posterior"], tree["sample_stats"]
    assert posterior["llc"].dims == ("chain", "draw")
    assert float(posterior["llc"].mean()) == pytest.approx(llc(samples).mean, rel=1e-12)
    assert posterior["position"].dims == ("chain", "draw", "position_dim_0")
    assert posterior["block_0.norm"].dims == ("chain", "draw")
    np.testing.assert_array_equal(posterior["position"], samples.observables["position"])
    np.testing.assert_array_equal(posterior["half"], samples.observables["half"].astype(np.float32))
    for name in ("loss", "center_loss", "excess", "grad_norm"):
        np.testing.assert_array_equal(stats[name], getattr(samples, name))
        assert stats[name].dims == ("chain", "draw")
    for name in ("nbeta", "localization", "step_size", "finite", "acceptance", "num_parameters"):
        np.testing.assert_array_equal(tree["settings"][name], getattr(samples, name))
    assert tree["settings"].attrs == {"baseline": "paired"}
    np.testing.assert_array_equal(tree["warmup_sample_stats"]["excess"], samples.burnin_excess)
    np.testing.assert_array_equal(tree["warmup_posterior"]["llc"], 20.0 * samples.burnin_excess)
    for group in tree.children.values():
        for variable in [*group.data_vars.values(), *group.coords.values()]:
            assert set(variable.attrs) == {"long_name", "units"}
        assert set(group.coords) == set(group.dims)
    np.testing.assert_array_equal(posterior["draw"], np.arange(40))


def test_a_baseline_of_one_number_and_no_burnin(samples):
    tree = draw(baseline="full", num_burnin=0).to_xarray()
    assert set(tree.children) == {"posterior", "sample_stats", "settings"}
    stats = tree["sample_stats"]
    assert stats["center_loss"].shape == (3, 40)
    np.testing.assert_array_equal(stats["loss"] - stats["center_loss"], stats["excess"])


def test_observables_of_one_name_are_refused(samples):
    values = samples.observables["position"]
    for name in ("llc", "chain"):
        with pytest.raises(ValueError, match=f"two variables would be called '{name}'"):
            replace(samples, observables={name: values}).to_xarray()
    with pytest.raises(ValueError, match=r"two variables would be called 'a\.b'; give observable 'a/b' another name"):
        replace(samples, observables={"a.b": values, "a/b": values}).to_xarray()


def test_arviz_reads_the_tree(samples):
    """The front of arviz-stats needs arviz-base, which the library does not."""
    pytest.importorskip("arviz_base")
    import arviz_stats

    tree, estimate = samples.to_xarray(), llc(samples)
    assert float(arviz_stats.rhat(tree)["llc"]) == pytest.approx(estimate.rhat, rel=1e-12)
    assert float(arviz_stats.ess(tree, method="mean")["llc"]) == pytest.approx(estimate.ess, rel=1e-12)
    summary = arviz_stats.summary(tree, round_to="none")
    assert summary.loc["llc", "mean"] == pytest.approx(estimate.mean, rel=1e-12)
    assert {"llc", "block_0.norm", "position[0]", "position[2]"} <= set(summary.index)
    assert arviz_stats.ess(tree, group="sample_stats")["grad_norm"].shape == ()


def test_an_estimate_as_a_dataset(samples, diverged):
    for one in (llc(samples), llc(diverged)):
        dataset = one.to_xarray()
        for name in ("std_error", "rhat", "ess", "drift", "drift_std_error", "acceptance", "per_chain", "trace"):
            np.testing.assert_array_equal(dataset[f"llc_{name}"], getattr(one, name))
        np.testing.assert_array_equal(dataset["llc"], one.mean)
        for name in ("diverged", "nbeta", "localization", "step_size"):
            np.testing.assert_array_equal(dataset[name], getattr(one, name))
        assert dataset["llc_per_chain"].dims == ("chain",)
        assert dataset["llc_trace"].dims == ("chain", "block")
        assert dataset.attrs == {"status": one.status, "baseline": one.baseline}
        for variable in dataset.variables.values():
            assert set(variable.attrs) == {"long_name", "units"}
    without = replace(llc(samples), trace=None).to_xarray()
    assert "llc_trace" not in without
    assert set(without.dims) == {"chain"}


def test_every_field_of_an_estimate_is_in_the_dataset(samples):
    one = llc(samples)
    dataset = one.to_xarray()
    shown = {name.removeprefix("llc_") for name in dataset.data_vars} | set(dataset.attrs) | {"mean"}
    assert {field.name for field in fields(LLCEstimate)} <= shown


# --- traces and the notebook


@pytest.mark.parametrize("draws", [0, 1, 199, 200, 201, 399, 1000, 1234])
def test_block_means_cover_every_draw_once(draws):
    values = np.random.default_rng(0).normal(size=(2, draws))
    blocks = block_means(values)
    assert blocks.shape == (2, min(draws, 200))
    parts = np.array_split(np.arange(draws), max(blocks.shape[1], 1))
    lengths = {len(part) for part in parts}
    assert max(lengths) - min(lengths) <= 1
    index = np.arange(draws)[None] * 1.0
    covered = block_means(index)  # equals the middle of each block
    edges = np.arange(blocks.shape[1]) * draws // max(blocks.shape[1], 1)
    ends = np.append(edges[1:], draws)
    np.testing.assert_allclose(covered[0], [(a + b - 1) / 2 for a, b in zip(edges, ends, strict=False)][: len(edges)])
    np.testing.assert_allclose(
        blocks, np.array([values[:, a:b].mean(1) for a, b in zip(edges, ends, strict=False)][: len(edges)]).T.reshape(blocks.shape)
    )  # fmt: skip


def test_the_trace_of_an_estimate_is_what_it_averages(samples, diverged):
    estimate = llc(samples)
    assert estimate.trace.shape == (3, 40)
    np.testing.assert_allclose(estimate.trace.mean(axis=1), estimate.per_chain, rtol=1e-12)
    assert not np.isfinite(llc(diverged).trace).all()


class Reader(HTMLParser):
    """Checks that every tag is closed in order and that nothing is loaded or run; gathers text and points."""

    EMPTY = ("path", "polyline")

    def __init__(self, html):
        super().__init__()
        self.open, self.text, self.points, self.tags = [], "", [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        assert tag not in {"script", "img", "link", "style"}
        assert len(dict(attrs)) == len(attrs)
        self.tags.append(tag)
        self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in self.EMPTY
        self.tags.append(tag)
        if tag == "polyline":
            self.points.append([tuple(map(float, point.split(","))) for point in dict(attrs)["points"].split()])

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_the_view_of_an_estimate_shows_the_number_its_diagnostics_and_its_chains(samples):
    estimate = llc(samples)
    view = Reader(estimate._repr_html_())
    for shown in (
        f"LLC {estimate.mean:.4g} ± {estimate.std_error:.2g}",
        f"status: {estimate.status}",
        f"{estimate.rhat:.3f}",
    ):
        assert shown in view.text
    assert ", ".join(f"{value:.4g}" for value in estimate.per_chain) in view.text
    assert [len(line) for line in view.points] == [40, 40, 40]
    heights = np.array([[y for _, y in line] for line in view.points])
    values = estimate.trace
    assert np.corrcoef(heights.ravel(), values.ravel())[0, 1] < -0.999  # up is more
    assert "svg" not in Reader(replace(estimate, trace=None)._repr_html_()).tags


def test_the_view_says_what_went_wrong_and_escapes_it(diverged):
    estimate = llc(diverged)
    view = Reader(estimate._repr_html_())
    assert "LLC nan ± nan" in view.text
    assert "diverged, diverged, diverged" in view.text
    assert estimate.status in view.text
    hostile = Reader(replace(estimate, status="<script>alert(1)</script>", baseline="<b>")._repr_html_())
    assert "<script>alert(1)</script>" in hostile.text


def test_the_view_of_samples(samples, diverged):
    view = Reader(samples._repr_html_())
    for shown in (
        "Samples: 3 chains of 40 draws",
        "paired",
        "observable block_0/norm",
        "one number a draw",
        "3 numbers a draw",
    ):
        assert shown in view.text
    assert len(view.points) == 3
    assert "chains 0, 1, 2" in Reader(diverged._repr_html_()).text
    named = replace(samples, observables={"<script>": samples.observables["position"]})
    assert "observable <script>" in Reader(named._repr_html_()).text


def test_a_trace_is_broken_where_it_is_not_finite_and_limited_to_a_few_chains():
    trace = np.arange(10.0)[None].repeat(2, axis=0)
    trace[0, 3:5] = [np.nan, np.inf]
    assert [len(line) for line in Reader(trace_svg(trace)).points] == [3, 5, 10]
    assert trace_svg(np.full((2, 3), np.nan)) == ""
    assert trace_svg(np.zeros((2, 0))) == ""
    flat = Reader(trace_svg(np.ones((1, 4)))).points
    assert np.isfinite(flat).all()
    many = Reader(trace_svg(np.random.default_rng(0).normal(size=(20, 5))))
    assert len(many.points) == 12
    assert "and 8 more" in many.text
    runaway = np.concatenate([trace[1:], 1e30 * trace[1:]])
    hidden = Reader(trace_svg(runaway, hidden=np.array([False, True])))
    assert len(hidden.points) == 1
    assert "9" in hidden.text


def test_public_names_lead_to_the_methods():
    assert slt_jax.Samples.load.__self__ is Samples
    assert slt_jax.LLCEstimate.load.__self__ is LLCEstimate
