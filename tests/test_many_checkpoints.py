"""Checkpoints x chains in one program: every checkpoint gets what it gets alone, and all of them compile once."""

import doctest
import os
import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slt_jax
from slt_jax.posterior import LocalPosterior, at_center, by_path, restrict
from slt_jax.sampling import checkpoints, driver
from slt_jax.sampling.checkpoints import sample_checkpoints
from slt_jax.sampling.driver import sample
from slt_jax.sampling.sgld import sgld

ROOT = Path(__file__).parents[1]
KEY = jax.random.key(0)
OPTIONS = {"num_chains": 3, "num_draws": 12, "num_burnin": 4}
STEPS = (1e-3, 5e-4, 1e-3, 2e-3, 1e-3)


def losses(params, batch):
    return (batch["x"] @ params["w"] + params["b"] - batch["y"]) ** 2


def a_posterior():
    x = jax.random.normal(jax.random.key(1), (60, 3))
    noise = jax.random.normal(jax.random.key(2), (60,))
    return LocalPosterior(
        losses, {"x": x, "y": x @ jnp.ones(3) + noise}, {"w": jnp.ones(3), "b": jnp.zeros(())}, 20.0, 1.0
    )


def several_centers():
    shifts = jax.random.normal(jax.random.key(3), (5, 3)) / 5
    return {"w": 1 + shifts, "b": jnp.linspace(-0.2, 0.2, 5)}


def alone(posterior, number, step_size=1e-3, **options):
    center = jax.tree.map(lambda leaf: leaf[number], several_centers())
    return sample(KEY, at_center(posterior, center), step_size=step_size, **options)


def assert_same(one, other):
    for name in (
        "loss",
        "center_loss",
        "burnin_excess",
        "grad_norm",
        "acceptance",
        "nbeta",
        "localization",
        "step_size",
    ):
        np.testing.assert_allclose(getattr(one, name), getattr(other, name), rtol=2e-5, atol=1e-6, err_msg=name)
    assert slt_jax.llc(one).status == slt_jax.llc(other).status
    for leaf, like in zip(
        jax.tree.leaves(one.chains.kernel_state), jax.tree.leaves(other.chains.kernel_state), strict=True
    ):
        np.testing.assert_allclose(leaf, like, rtol=1e-4, atol=1e-6)


CASES = {
    "computed on each minibatch": (a_posterior, sgld(4), {"num_draws": 2, "num_burnin": 1}),
    "gathered from all losses": (a_posterior, sgld(8), {}),
    "full baseline": (a_posterior, sgld(8), {"baseline": "full"}),
    "full batches": (a_posterior, sgld(None), {}),
    "a preconditioner": (a_posterior, sgld(8, preconditioner=slt_jax.rmsprop()), {}),
    "part of the weights": (lambda: restrict(a_posterior(), by_path("w")), sgld(8), {}),
    "all at once": (a_posterior, sgld(8), {"layout": "vmap", "thinning": 2}),
}


@pytest.mark.parametrize("case", CASES)
def test_every_checkpoint_gets_what_it_gets_alone(case):
    make, kernel, changes = CASES[case]
    posterior, options = make(), {**OPTIONS, **changes}
    found = sample_checkpoints(KEY, posterior, several_centers(), kernel, step_size=STEPS, **options)
    assert len(found) == 5
    for number, samples in enumerate(found):
        assert_same(samples, alone(posterior, number, STEPS[number], kernel=kernel, **options))


def test_what_is_found_at_each_center_is_its_own():
    found = sample_checkpoints(KEY, a_posterior(), several_centers(), sgld(8), step_size=STEPS, **OPTIONS)
    for number, samples in enumerate(found):
        like = alone(a_posterior(), number, STEPS[number], kernel=sgld(8), **OPTIONS)
        assert samples.inspection.gain == pytest.approx(like.inspection.gain, rel=1e-4, abs=1e-6)
        assert samples.inspection.heating == pytest.approx(like.inspection.heating, rel=1e-4)
    assert len({samples.inspection.gain for samples in found}) == 5


def test_all_lots_are_one_compilation_and_the_same_numbers(tmp_path):
    draw = partial(sample_checkpoints, KEY, a_posterior(), several_centers(), sgld(8), step_size=1e-3, **OPTIONS)
    together = draw()
    driver._advance.clear_cache()
    path = tmp_path / "state.npz"
    in_lots = draw(at_once=2, state_path=path)
    assert driver._advance._cache_size() == 1
    assert sorted(file.name for file in tmp_path.glob("*.npz")) == ["state.0-1.npz", "state.2-3.npz", "state.4-4.npz"]
    for one, other in zip(in_lots, together, strict=True):
        assert_same(one, other)
    assert [one.loss.tolist() for one in draw(at_once=2, state_path=path)] == [one.loss.tolist() for one in in_lots]
    moved = jax.tree.map(lambda leaf: leaf + 0.01, several_centers())
    with pytest.raises(ValueError, match="belongs to a run with other settings: center, centers"):
        sample_checkpoints(KEY, a_posterior(), moved, sgld(8), step_size=1e-3, at_once=2, state_path=path, **OPTIONS)


@pytest.mark.parametrize("layout", ["vmap", "map"])
def test_lots_are_as_wide_as_memory_allows(layout, monkeypatch):
    posterior, widths = a_posterior(), []
    advance = driver.sample_chains

    def watched(key, posterior, kernel, settings, **options):
        widths.append(len(settings.step_size) // 3)
        return advance(key, posterior, kernel, settings, **options)

    monkeypatch.setattr(checkpoints, "sample_chains", watched)
    draw = partial(
        sample_checkpoints, KEY, posterior, several_centers(), sgld(8), step_size=1e-3, layout=layout, **OPTIONS
    )
    together = draw()
    chain = checkpoints._chain_bytes(posterior, sgld(8), OPTIONS)
    chain += checkpoints._step_bytes(posterior, sgld(8)) if layout == "vmap" else 0
    monkeypatch.setattr(checkpoints, "_free_bytes", lambda device: 3 * 3.5 * chain / checkpoints.MEMORY_SHARE)
    for one, other in zip(draw(), together, strict=True):
        assert_same(one, other)
    monkeypatch.setattr(checkpoints, "_free_bytes", lambda device: 1)
    draw()
    assert widths == [5, 3, 3, 1, 1, 1, 1, 1]


def test_the_bytes_of_a_chain_are_those_it_has():
    posterior = a_posterior()
    chain = jax.eval_shape(lambda: slt_jax.init_chain(KEY, posterior, sgld(8)))
    numbers = 60 + 4 + 12 * 3  # losses and w* of its center, and three numbers a draw
    assert checkpoints._chain_bytes(posterior, sgld(8), OPTIONS) == 4 * numbers + 4 * checkpoints._bytes(chain)


def test_the_example_runs():
    results = doctest.testmod(checkpoints)
    assert results.attempted > 5
    assert results.failed == 0


def test_the_benchmark_prints_equal_numbers_and_one_compilation():
    script = ["benchmarks/many_checkpoints.py", "--checkpoints", "3", "--chains", "2", "--draws", "2", "--width", "8"]
    done = subprocess.run(
        [sys.executable, *script], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    difference = re.search(r"relative to the largest loss: (\S+)", done.stdout)
    assert difference is not None
    assert float(difference[1]) < 1e-5
    assert "programs compiled for the chains of all checkpoints: 1\n" in done.stdout
    assert re.search(r"again: one program \S+ s, one after another \S+ s, ratio \d", done.stdout)
