"""A loss that is made anew for every checkpoint is seen, once, by the line of its definition; ordinary use is not."""

import contextlib
import gc
import warnings
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import pytest

from slt_jax.posterior import LocalPosterior
from slt_jax.sampling.driver import sample
from slt_jax.sampling.recompilation import RecompilationWarning, watch_compilations
from slt_jax.sampling.sgld import sgld

KERNEL = sgld(4)


def draw(loss_fn, kernel=KERNEL):
    posterior = LocalPosterior(loss_fn, jnp.ones((9, 2)), jnp.zeros(2), 10.0, 1.0)
    return sample(jax.random.key(0), posterior, kernel, step_size=1e-3, num_chains=1, num_draws=2)


def test_a_closure_per_checkpoint_is_named_once_with_its_line():
    def make(scale):
        def loss_of_checkpoint(params, batch):
            return scale * (batch @ params) ** 2

        return loss_of_checkpoint

    draw(make(jnp.ones(())))
    draw(make(jnp.full((), 2.0)))
    line = make(1.0).__code__.co_firstlineno
    with pytest.warns(
        RecompilationWarning, match=rf"loss_of_checkpoint' \(.*test_recompilation\.py, line {line}\)"
    ) as told:
        draw(make(jnp.full((), 3.0)))
    assert len(told) == 1
    draw(make(jnp.full((), 4.0)))  # told once; a second warning would be an error


def linear_loss(params, batch):
    return (batch @ params) ** 2


class Model:
    def loss(self, params, batch):
        return (batch @ params) ** 2


@pytest.mark.parametrize(
    "again",
    [
        lambda: lambda params, batch: (batch @ params) ** 2,
        lambda: partial(linear_loss),
        lambda: jax.jit(lambda params, batch: (batch @ params) ** 2),
        lambda: Model().loss,
    ],
    ids=["lambda", "partial", "jitted", "method"],
)
def test_every_way_to_make_a_function_anew_is_seen(again):
    kept = [again() for _ in range(3)]
    for loss_fn in kept[:2]:
        watch_compilations(loss_fn, jnp.zeros(2), "test")
    with pytest.warns(RecompilationWarning, match="different functions of that one definition"):
        watch_compilations(kept[2], jnp.zeros(2), "test")


def model_of_exponents(exponents):
    return lambda params, batch: jnp.prod(params ** jnp.asarray(exponents)) * batch


@dataclass(frozen=True)
class Loss:
    scale: float

    def __call__(self, params, batch):
        return self.scale * (batch @ params) ** 2


def test_what_is_compiled_once_or_must_be_compiled_again_is_not_told():
    model = Model()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for step in range(4):
            for loss_fn in (linear_loss, model.loss, Loss(1.0)):  # two that take turns, too
                watch_compilations(loss_fn, jnp.zeros(2), "once")
            watch_compilations(lambda params, batch: params, jnp.zeros(2 + step), "other shapes")
            watch_compilations(lambda params, batch: params, jnp.zeros(2), "other kernels", step)
            watch_compilations(model_of_exponents((step, 1)), jnp.zeros(2), "other models")
            watch_compilations(partial(linear_loss, step), jnp.zeros(2), "other models")


def test_what_is_watched_is_not_kept_alive():
    loss_fn = partial(linear_loss)
    watch_compilations(loss_fn, jnp.zeros(2), "kept")
    alive = [None]
    import weakref

    weakref.finalize(loss_fn, alive.clear)
    del loss_fn
    gc.collect()
    assert not alive


def test_a_function_that_computes_something_else_than_was_compiled_is_refused():
    """JAX would go on with the old constant, and the LLC would be that of the old loss."""
    held = {"scale": 1.0}

    def loss_fn(params, batch):
        return held["scale"] * (batch @ params) ** 2

    draw(loss_fn)
    draw(loss_fn)
    held["scale"] = 2.0
    with pytest.raises(ValueError, match=r"loss_fn '.*loss_fn' computes something else than when it was compiled"):
        draw(loss_fn)
    draw(lambda params, batch: loss_fn(params, batch))


def test_an_attribute_that_changed_is_seen_too():
    class Model:
        scale = 1.0

        def losses(self, params, batch):
            return self.scale * (batch @ params) ** 2

    model = Model()
    draw(model.losses)
    draw(model.losses)
    model.scale = 3.0
    with pytest.raises(ValueError, match="computes something else"):
        draw(model.losses)


def test_another_precision_is_no_other_function():
    def loss(params, batch):
        return (batch @ params) ** 2

    for precision in (None, "tensorfloat32", "float32"):
        with jax.default_matmul_precision(precision) if precision else contextlib.nullcontext():
            draw(loss)
