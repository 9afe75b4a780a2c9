"""Models with a known learning coefficient: their losses, their exact finite-nβ values, and samplers against them."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from scipy.signal import lfilter

import slt_jax
from configs.known_models import CONFIGS, Budget, Nuts
from experiments.known_models import EXPERIMENT, exact, measure
from experiments.known_models.models import CURVATURES, posterior_of
from slt_jax import theory
from slt_jax.models import singular
from slt_jax.posterior import LocalPosterior, check_posterior
from slt_jax.sampling.diagnostics import monte_carlo_std_error
from slt_jax.sampling.driver import sample
from slt_jax.sampling.pilot import find_neighbourhood
from slt_jax.sampling.samples import select_chains
from slt_jax.sampling.sgld import sgld
from slt_lab.comparison import samplers
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder

MODELS = [
    singular.quadratic([1.0, 0.1, 0.0]),
    singular.normal_crossing([2, 1]),
    singular.normal_crossing([1, 1, 1]),
    singular.reduced_rank(3, 2, 2, 1),
    singular.tanh_network(2),
    singular.relu_unit(1),
    singular.relu_unit(3),
]


def mean_loss(model, params):
    return jnp.mean(model.loss_fn(params, model.data))


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_center_is_a_minimum_with_zero_loss(model):
    check_posterior(LocalPosterior(model.loss_fn, model.data, model.center, 10.0, 1.0))
    assert float(mean_loss(model, model.center)) == 0.0
    gradient = jax.grad(lambda params: mean_loss(model, params))(model.center)
    assert all(float(jnp.abs(leaf).max()) == 0.0 for leaf in jax.tree.leaves(gradient))


def test_losses_are_the_polynomials_they_claim_to_be():
    w = jnp.array([0.3, -0.7, 1.1])
    assert mean_loss(singular.quadratic([1.0, 0.1, 0.0]), w) == pytest.approx(0.5 * (0.09 + 0.1 * 0.49), rel=1e-6)
    assert mean_loss(singular.normal_crossing([2, 0, 1]), w) == pytest.approx(0.3**4 * 1.21, rel=1e-6)
    a, b = jnp.array([[0.2, -1.0, 0.5]]), jnp.array([[0.4], [2.0]])
    rank_one = singular.reduced_rank(3, 1, 2, 1)
    residual = np.asarray(b @ a) - np.diag([1.0, 0, 0])[:2]
    found = mean_loss(rank_one, {"layer_1": a, "layer_2": b})
    assert found == pytest.approx(0.5 * (residual**2).sum(), rel=1e-6)
    relu = singular.relu_unit(3)
    assert mean_loss(relu, {"inner": w, "outer": jnp.array(-2.0)}) == pytest.approx(float(w @ w), rel=1e-6)


def test_equal_settings_share_one_loss_function():
    assert singular.normal_crossing([1, 2]).loss_fn is singular.normal_crossing([1, 2]).loss_fn
    assert singular.quadratic([1.0]).loss_fn is singular.quadratic((1.0,)).loss_fn
    assert singular.tanh_network(1).loss_fn is singular.tanh_network(3).loss_fn


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: singular.quadratic([0.0]), "at least one is positive"),
        (lambda: singular.quadratic([1.0, -1.0]), "non-negative"),
        (lambda: singular.normal_crossing([0, 0]), "at least one positive"),
        (lambda: singular.reduced_rank(2, 2, 2, 3), "rank must be at most"),
        (lambda: singular.tanh_network(3, 5), "need at least 7"),
        (lambda: exact.tanh_llc(4, np.ones(9), 10.0, 1.0), "at most 3"),
        (lambda: exact.reduced_rank_llc(3, 3, 3, 10.0, 1.0), "one or two"),
    ],
)
def test_what_cannot_be_is_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def brute_force(model, nbeta, localization, half_width, points):
    """nβ E[L] on a plain grid over every parameter of `model`."""
    axis = np.linspace(-half_width, half_width, points)
    flat, unravel = ravel_pytree(model.center)
    total = weighted = 0.0
    losses = jax.jit(jax.vmap(lambda vector: mean_loss(model, unravel(vector))))
    for first in axis:
        rest = np.stack(np.meshgrid(*[axis] * (flat.size - 1), indexing="ij"), -1).reshape(-1, flat.size - 1)
        w = np.concatenate([np.full((len(rest), 1), first), rest], axis=1)
        energy = nbeta * np.asarray(losses(jnp.asarray(w, jnp.float32)), np.float64)
        weight = np.exp(-energy - localization / 2 * (w**2).sum(1))
        total, weighted = total + weight.sum(), weighted + (energy * weight).sum()
    return weighted / total


@pytest.mark.parametrize(
    ("model", "value", "points"),
    [
        (singular.normal_crossing([1, 1, 1]), lambda n, g: exact.normal_crossing_llc((1, 1, 1), n, g), 120),
        (singular.normal_crossing([2, 1]), lambda n, g: exact.normal_crossing_llc((2, 1), n, g), 400),
        (singular.reduced_rank(1, 2, 1), lambda n, g: exact.reduced_rank_llc(1, 2, 1, n, g), 40),
        (singular.reduced_rank(2, 1, 2), lambda n, g: exact.reduced_rank_llc(2, 1, 2, n, g), 40),
        (singular.tanh_network(1), lambda n, g: exact.tanh_llc(1, np.linspace(-1, 1, 20), n, g), 400),
        (singular.tanh_network(2), lambda n, g: exact.tanh_llc(2, np.linspace(-1, 1, 20), n, g), 40),
        (singular.relu_unit(1), lambda n, g: exact.relu_llc(1, n, g), 400),
        (singular.relu_unit(2), lambda n, g: exact.relu_llc(2, n, g), 120),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_reduced_quadrature_equals_a_plain_grid(model, value, points):
    # A moderate nβ, so that a plain grid resolves the ridge.
    assert value(20.0, 4.0) == pytest.approx(brute_force(model, 20.0, 4.0, 3.0, points), rel=2e-4)


@pytest.mark.parametrize("exponents", [(1, 1), (2, 2), (1, 1, 1)])
def test_finite_values_approach_the_asymptotic_ones(exponents):
    coefficient = theory.normal_crossing(exponents)
    lam, m = float(coefficient.learning_coefficient), coefficient.multiplicity
    nbetas = np.array([1e6, 1e12, 1e24])
    gaps = [lam - exact.normal_crossing_llc(exponents, nbeta, 1.0) for nbeta in nbetas]
    # λ - λ̂ = (m - 1)/(log nβ + constant): the product with log nβ tends to m - 1.
    products = np.array(gaps) * np.log(nbetas)
    assert np.all(np.diff(np.abs(products - (m - 1))) < 0)
    assert products[-1] == pytest.approx(m - 1, rel=0.1)


def autoregressive(rng, correlation, shape):
    """Stationary series of variance 1, with exp-decaying memory along the last axis."""
    noise = rng.standard_normal(shape)
    noise[..., 1:] *= np.sqrt(1 - correlation**2)
    return lfilter([1.0], [1.0, -correlation], noise, axis=-1)


@pytest.mark.parametrize(("correlation", "squared"), [(0.0, False), (0.9, False), (0.9, True)])
def test_intervals_cover_where_the_draws_remember(correlation, squared):
    """200 estimates of 4 chains: 95% intervals hold the mean in 90-99%, for the skewed draws of an LLC of ½ too (z²/2)."""
    draws = autoregressive(np.random.default_rng(0), correlation, (200, 4, 600))
    values, truth = (draws**2 / 2, 0.5) if squared else (draws, 0.0)
    errors = np.array([monte_carlo_std_error(each) for each in values])
    means = values.mean(axis=(1, 2))
    assert 0.90 <= np.mean(np.abs(means - truth) < 1.96 * errors) <= 0.99
    assert 0.58 <= np.mean(np.abs(means - truth) < errors) <= 0.78  # 0.68 ± 3 binomial standard errors
    assert errors.mean() == pytest.approx(means.std(), rel=0.15)


def test_chains_that_disagree_widen_the_error():
    """With sixteen chains stuck at levels of their own, only the spread of the levels says how far off the mean may be."""
    rng = np.random.default_rng(1)
    levels = rng.standard_normal((16, 1))
    error = monte_carlo_std_error(levels + 0.01 * rng.standard_normal((16, 400)))
    assert error >= 0.99 * levels.std(ddof=1) / 4


def test_sampled_intervals_cover_the_exact_value():
    """The same for SGLD on a quadratic, 200 estimates of 4 chains in one program."""
    posterior = posterior_of("quadratic", 1000.0, 100.0)
    exact_value = theory.quadratic_sgld_llc(np.array(CURVATURES), 1000.0, 100.0, 0.0)
    samples = sample(
        jax.random.key(0), posterior, sgld(None, integrator="leimkuhler_matthews"), step_size=1e-3, num_chains=800,
        num_draws=300, num_burnin=100, thinning=10, baseline=0.0, layout="vmap",
    )  # fmt: skip
    estimates = [slt_jax.llc(select_chains(samples, slice(4 * i, 4 * i + 4))) for i in range(200)]
    scores = np.array([(each.mean - exact_value) / each.std_error for each in estimates])
    assert 0.90 <= np.mean(np.abs(scores) < 1.96) <= 0.99
    assert 0.58 <= np.mean(np.abs(scores) < 1) <= 0.78


def test_pilot_gives_the_same_step_as_calibrate_where_the_curvature_is_constant():
    posterior = posterior_of("quadratic", 1000.0, 4.0)
    found = find_neighbourhood(jax.random.key(0), posterior, batch_size=None, num_chains=4, num_steps=20, rounds=1)
    assert found.stiffest == pytest.approx(1004.0, rel=1e-3)
    averaged = next(each.sampler for each in samplers(None) if each.name == "SGLD, Leimkuhler-Matthews")
    assert averaged.tune(jax.random.key(1), posterior, neighbourhood=found).step_size == pytest.approx(
        slt_jax.calibrate(jax.random.key(1), posterior, batch_size=None).step_size, rel=1e-3
    )
    with pytest.raises(ValueError, match="needs localization > 0"):
        find_neighbourhood(jax.random.key(0), posterior_of("quadratic", 1000.0, 0.0), batch_size=None)


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    config = CONFIGS["tiny"]()
    folder = RunFolder.open("known-models", "tiny", config, tmp_path_factory.mktemp("runs") / "tiny")
    assert EXPERIMENT.compute(config, folder) == []
    EXPERIMENT.report(config, folder)
    return folder


def test_summary_holds_every_sampler_beside_the_exact_value(tiny_run):
    summary = json.loads((tiny_run.path / "summary.json").read_text())
    quadratic = summary["models"]["quadratic"]
    assert quadratic["exact"] == pytest.approx(theory.quadratic_sgld_llc(np.array(CURVATURES), 1000.0, 4.0, 0.0))
    assert quadratic["learning_coefficient"] == 2.0
    assert set(quadratic["samplers"]) == {"SGLD, Euler"}
    for row in quadratic["samplers"].values():
        assert all(np.isfinite(value) for value in row.values())
    assert np.isfinite(quadratic["nuts"]["mean"])


def test_page_stands_alone_and_a_second_run_computes_nothing(tiny_run, monkeypatch):
    page = (tiny_run.path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert 'src="http' not in page
    monkeypatch.setattr(measure, "sample", None)
    monkeypatch.setattr(measure, "nuts_llc", None)
    results, diverged = measure.run(CONFIGS["tiny"](), tiny_run)
    assert diverged == []
    assert results.identical(tiny_run.read_results())


def test_results_have_the_names_dims_and_units_of_every_other_experiment(tiny_run):
    results = tiny_run.read_results()
    assert results.llc.dims == results.llc_std_error.dims == ("model", "sampler")
    assert results.llc_diverged.dims == results.llc_per_chain.dims == ("model", "sampler", "chain")
    assert results.llc_diverged.dtype == bool
    for name, variable in results.data_vars.items():
        assert variable.attrs["long_name"], name
        assert variable.attrs["units"], name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"models": ("quadratics",)}, "there is no model 'quadratics'; there are: quadratic, quartic"),
        ({"models": ("linear-network-²",)}, "there is no model 'linear-network-²'"),
        ({"models": ()}, "models is empty"),
        ({"nuts": Nuts(models=("x",))}, "there is no model 'x'"),
        ({"nuts": Nuts(num_warmup=1)}, "nuts.num_warmup = 1; it must be at least 5"),
        ({"nuts": Nuts(num_draws=3)}, "nuts.num_draws = 3"),
        ({"budget": Budget(repeats=1)}, "budget.repeats = 1; their spread needs at least 2"),
        ({"budget": Budget(num_draws=3)}, "budget.num_draws = 3"),
        ({"samplers": ("SGLD",)}, "there is no sampler 'SGLD'; there are: SGLD, Euler"),
        ({"localization": 0.0}, "localization = 0"),
        ({"nbeta": 1.0}, "nbeta = 1"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(changes, message):
    with pytest.raises(UserError, match=message):
        EXPERIMENT.check(dataclasses.replace(CONFIGS["tiny"](), **changes))


@pytest.mark.parametrize("name", CONFIGS)
def test_named_configs_pass_the_check(name):
    EXPERIMENT.check(CONFIGS[name]())
