"""`lrt-reference` end to end at its tiny configuration, the adjusted chain on a quadratic, and the verdict on known chains."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray
from jax.flatten_util import ravel_pytree

from configs.lrt_reference import Adjusted, tiny
from configs.lrt_stages import Sampling
from experiments.catalogue import CATALOGUE
from experiments.lrt_reference import EXPERIMENT
from experiments.lrt_reference.page import verdict
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.diagnostics import monte_carlo_std_error, rhat
from slt_jax.sampling.metrics import curvature_metric
from slt_lab.cli import main
from slt_lab.errors import UserError
from slt_lab.nuts import nuts_chain
from slt_lab.results import read_results


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    assert main(["lrt-reference", "--config", "tiny", "--folder", str(folder)], CATALOGUE) == 0
    return folder


def test_tiny_run_reports(tiny_run):
    results = read_results(tiny_run)
    assert dict(results.adjusted_excess.sizes) == {"adjusted_chain": 2, "seed": 2, "checkpoint": 2, "adjusted_draw": 8}
    for name in ("adjusted_excess", "adjusted_difference", "adjusted_acceptance", "llc", "level"):
        assert np.isfinite(results[name]).all(), name
    rows = json.loads((tiny_run / "summary.json").read_text())["checkpoints"]
    assert [(row["seed"], row["step"]) for row in rows] == [(0, 10), (0, 20), (1, 10), (1, 20)]
    assert (tiny_run / "report.html").read_text().count("data:image/png;base64,") == 2


def test_an_adjusted_chain_in_a_metric_is_exact_on_a_quadratic():
    """Curvatures over three decades; the exact LLC is half the sum of nβh/(nβh + γ)."""
    curvatures = jnp.geomspace(0.01, 10.0, 12)
    nbeta, localization = 100.0, 2.0
    center = {"a": jnp.linspace(-1.0, 1.0, 5), "b": jnp.ones(7)}
    flat, unravel = ravel_pytree(center)

    def loss_fn(params, batch):
        offset = ravel_pytree(params)[0] - flat
        return jnp.broadcast_to(0.5 * jnp.sum(curvatures * offset**2), batch.shape)

    posterior = LocalPosterior(loss_fn, jnp.zeros(4), center, nbeta, localization)
    metric = curvature_metric(jax.random.key(1), posterior, 4, num_examples=None)
    starts = [flat, flat + 0.3]

    @jax.jit
    def run(key, start):
        return nuts_chain(
            key, posterior, start, unravel, num_warmup=200, num_draws=500, metric=metric,
            observables={"first": lambda params: params["a"][0]},
        )  # fmt: skip

    chains = [run(key, start) for key, start in zip(jax.random.split(jax.random.key(2), 2), starts, strict=True)]
    values = np.stack([chain.excess for chain in chains]).astype(np.float64)
    exact = float(0.5 * jnp.sum(nbeta * curvatures / (nbeta * curvatures + localization)))
    assert rhat(values) < 1.05
    assert abs(values.mean() - exact) < 3 * monte_carlo_std_error(values)
    first = np.stack([chain.observed["first"] for chain in chains])
    assert np.var(first) == pytest.approx(1 / (nbeta * 0.01 + localization), rel=0.25)


def chains_at(levels):
    rng = np.random.default_rng(0)
    excess = rng.normal(size=(4, 200)) + np.asarray(levels)[:, None]
    names = ["checkpoint 0", "checkpoint 1", "SGLD 0", "SGLD 1"]
    dims = ("adjusted_chain", "adjusted_draw")
    return xarray.Dataset(
        {"adjusted_excess": (dims, excess), "adjusted_difference": (dims, np.full_like(excess, 0.5))},
        coords={"adjusted_chain": names},
    )


def test_chains_that_agree_reach_a_verdict_and_others_do_not():
    one = verdict(chains_at([5.0, 5.0, 5.0, 5.0]))
    assert one.reached
    assert one.mean == pytest.approx(5.0, abs=3 * one.std_error)
    assert one.difference == pytest.approx(0.5)
    apart = verdict(chains_at([5.0, 5.0, 9.0, 9.0]))
    assert not apart.reached
    assert apart.by_start["SGLD"][0] == pytest.approx(9.0, abs=0.3)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seeds": ()}, "seeds is empty"),
        (
            {"adjusted": Adjusted(num_examples=60, num_other_examples=10)},
            "num_other_examples = 70; the empirical loss has",
        ),
        ({"adjusted": replace(tiny().adjusted, num_warmup=2)}, "adjusted.num_warmup = 2; it must be at least 5"),
        ({"level": replace(tiny().level, nbeta=3.0)}, "level.nbeta = 3.0 and sampling.nbeta = 66.67"),
        ({"sampling": Sampling(checkpoint_steps=(50,))}, "go beyond training.num_steps = 20"),
    ],
)
def test_what_contradicts_itself_is_refused(change, sentence):
    with pytest.raises(UserError, match=sentence):
        EXPERIMENT.check(replace(tiny(), **change))
