"""What a program is on an accelerator, told on a CPU: the backend's name is changed, and what is traced is looked at.

Numbers are those of the CPU: none of it may move them by more than rounding.
"""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import slt_jax
from slt_jax import backend
from slt_jax.backend import BLOCK, block_of, full_precision, matmul_precision
from slt_jax.models.regression_transformer import RegressionTransformer, squared_error_loss, tokens
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.chains import init_chain, run
from slt_jax.training.checkpoints import CheckpointStore
from slt_jax.training.loop import next_steps, train
from slt_lab.precision import set_precision

KEY = jax.random.key(0)


@pytest.fixture
def accelerator(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()  # what was traced for the other kind of device
    yield monkeypatch
    jax.clear_caches()


def losses(w, batch):
    return (batch["x"] @ w - batch["y"]) ** 2


def linear():
    x = jax.random.normal(jax.random.key(1), (50, 3))
    return LocalPosterior(losses, {"x": x, "y": x @ jnp.ones(3)}, jnp.ones(3), 20.0, 1.0)


def transformer():
    model = RegressionTransformer(width=8, num_heads=2, num_layers=2, hidden=8)
    x, y = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(4, 8, 4), (4, 8)]))
    batch = {"x": x, "y": y}
    params = model.init(KEY, tokens(batch))["params"]
    return jax.grad(lambda w: jnp.mean(squared_error_loss(model)(w, batch))), params


def test_barriers_are_for_the_cpu_alone(monkeypatch):
    gradient, params = transformer()
    on_cpu, text = gradient(params), str(jax.make_jaxpr(gradient)(params))
    assert "optimization_barrier" in text
    jax.clear_caches()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    gradient, _ = transformer()
    assert "optimization_barrier" not in str(jax.make_jaxpr(gradient)(params))
    for one, other in zip(jax.tree.leaves(gradient(params)), jax.tree.leaves(on_cpu), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)


def products():
    return str(jax.make_jaxpr(lambda x: x @ x)(jnp.ones((2, 2))))


def test_precision_is_set_on_accelerators_unless_another_is_asked_for(accelerator):
    assert matmul_precision() == "float32"
    assert "precision=" not in products()
    with full_precision():
        assert "HIGHEST" in products()
    with jax.default_matmul_precision("tensorfloat32"):
        assert matmul_precision() == "tensorfloat32"
        with full_precision():
            assert "HIGHEST" not in products()


def test_the_command_line_sets_it_for_all_that_follows(accelerator):
    before = jax.config.values["jax_default_matmul_precision"]
    try:
        set_precision()
        assert "HIGHEST" in products()
    finally:
        jax.config.update("jax_default_matmul_precision", before)


def test_a_cpu_keeps_the_programs_it_has():
    set_precision()
    assert matmul_precision() is None
    with full_precision():
        assert "precision=" not in products()


def entries(tmp_path, loss_fn):
    """Every road from a loss function to numbers on a device."""
    posterior = LocalPosterior(loss_fn, linear().data, jnp.ones(3), 20.0, 1.0)
    draw = partial(slt_jax.sample, KEY, posterior, slt_jax.sgld(8), step_size=1e-3, num_chains=2, num_draws=3)
    stack = jnp.ones((2, 3))
    options = {"step_size": 1e-3, "num_draws": 3}
    return {
        "sample": draw,
        "sample without a look": partial(draw, inspection=False),
        "sample_checkpoints": lambda: slt_jax.sample_checkpoints(KEY, posterior, stack, slt_jax.sgld(8), **options),
        "inspect": lambda: slt_jax.inspect(posterior, slt_jax.sgld(8)),
        "calibrate": lambda: slt_jax.calibrate(KEY, posterior),
        "curvature_metric": lambda: slt_jax.curvature_metric(KEY, posterior, rank=2),
        "train": lambda: train(
            KEY, loss_fn, jnp.ones(3), lambda key, step, data: data, optax.sgd(1e-3), num_steps=3,
            store=CheckpointStore(tmp_path / "store"), save_at=[3], data=posterior.data,
        ),
    }  # fmt: skip


ENTRIES = ("sample", "sample without a look", "sample_checkpoints", "inspect", "calibrate", "curvature_metric", "train")


@pytest.mark.filterwarnings("ignore::slt_jax.sampling.recompilation.RecompilationWarning")  # one definition a test
@pytest.mark.parametrize("name", ENTRIES)
def test_every_road_sets_it(name, accelerator, tmp_path):
    seen = []

    def watched(w, batch):
        seen.append(jax.config.values["jax_default_matmul_precision"])
        return losses(w, batch)

    entries(tmp_path, watched)[name]()
    assert set(seen) == {"float32"}


def test_draws_in_blocks_are_the_draws(monkeypatch):
    posterior, kernel = linear(), slt_jax.sgld(8)
    draw = partial(run, init_chain(KEY, posterior, kernel), posterior, kernel, step_size=1e-3, num_draws=12, thinning=2)
    (one, trace), (other, in_blocks) = draw(active_draws=8), draw(active_draws=8, block=4)
    for leaf, like in zip(jax.tree.leaves((one, trace)), jax.tree.leaves((other, in_blocks)), strict=True):
        if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            np.testing.assert_allclose(leaf, like, rtol=1e-6)
    assert np.all(trace.loss[8:] == 0)
    lengths = str(jax.make_jaxpr(lambda count: draw(active_draws=count, block=4))(jnp.int32(8)))
    assert "length=4" in lengths
    assert "length=2" in lengths
    assert "length=" not in str(jax.make_jaxpr(lambda n: draw(active_draws=n))(jnp.int32(8))).replace("length=2", "")


@pytest.mark.parametrize(("num_burnin", "num_draws", "thinning"), [(0, 5, 1), (11, 70, 2), (40, 80, 1)])
def test_an_accelerator_draws_what_a_cpu_draws(num_burnin, num_draws, thinning, monkeypatch):
    draw = partial(
        slt_jax.sample, KEY, linear(), slt_jax.sgld(8), step_size=1e-3, num_chains=2, num_draws=num_draws,
        num_burnin=num_burnin, thinning=thinning,
    )  # fmt: skip
    on_cpu = draw()
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    there = draw()
    for name in ("loss", "center_loss", "burnin_excess", "acceptance"):
        np.testing.assert_allclose(getattr(there, name), getattr(on_cpu, name), rtol=1e-4, atol=1e-7, err_msg=name)


def test_blocks_divide_the_counts_where_they_can(accelerator):
    assert block_of(1000, 4000) == 50
    assert block_of(0, 4000) == 50
    assert block_of(7, 4000) == BLOCK
    assert block_of(600, 500) == 50
    assert block_of(0, 0) == BLOCK
    accelerator.setattr(backend, "on_cpu", lambda: True)
    assert block_of(1000, 4000) == 1


def walked(targets, longest):
    """step -> static length of the loop it is in, on a walk to the targets with chunks as a clock allows them."""
    step, found, lengths = 0, {}, itertools.cycle(longest)
    for target in targets:
        while step < target:
            count, block = next_steps(step, target, next(lengths))
            assert 0 < count <= target - step
            assert count % block == 0
            found |= dict.fromkeys(range(step, step + count), block)
            step += count
    return found


def test_which_steps_are_compiled_together_does_not_follow_the_clock(accelerator):
    targets = [1, 5, 40, 200, 333]
    slow, quick = walked(targets, [1]), walked(targets, [1, 7, 64, 1000, 3])
    assert slow == quick
    assert sorted(slow) == list(range(333))
    assert list(slow.values()).count(BLOCK) == (200 - 64) // BLOCK * BLOCK + (320 - 224)


def test_training_on_an_accelerator_is_the_training(tmp_path, monkeypatch):
    def trained(name):
        store = CheckpointStore(tmp_path / name)
        state = train(
            KEY,
            losses,
            jnp.zeros(3),
            fresh_batch,
            optax.adam(1e-2),
            num_steps=100,
            store=store,
            save_at=[10, 70],
            data=None,
        )
        return state.params, store.steps()

    on_cpu, steps = trained("cpu")
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    jax.clear_caches()
    there, steps_there = trained("gpu")
    np.testing.assert_allclose(there, on_cpu, rtol=1e-5)
    assert steps_there == steps


def fresh_batch(key, step, data):
    x = jax.random.normal(key, (8, 3))
    return {"x": x, "y": x @ jnp.ones(3)}
