"""All heads of all layers in one program: the numbers of one run for each."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.posterior import LocalPosterior, by_layer_and_slice, by_slice, restrict
from slt_jax.sampling.driver import sample_chains, sample_restrictions
from slt_jax.sampling.samples import ChainSettings
from slt_jax.sampling.sgld import sgld
from slt_jax.sampling.statistics import cross_moments

LAYERS, HEADS, WIDTH = 3, 2, 4
AXES = {"block_{layer}/qkv": 1, "block_{layer}/out": 0}


def center():
    keys = jax.random.split(jax.random.key(0), LAYERS)
    blocks = {
        f"block_{layer}": {"qkv": jax.random.normal(key, (WIDTH, HEADS, 2)), "out": jnp.ones((HEADS, 2, WIDTH)) / 8}
        for layer, key in enumerate(keys)
    }
    return {**blocks, "bias": jnp.zeros(WIDTH)}


def loss_fn(params, x):
    for layer in range(LAYERS):
        block = params[f"block_{layer}"]
        x = x + jnp.einsum("bhd,hdw->bw", jnp.tanh(jnp.einsum("bw,whd->bhd", x, block["qkv"])), block["out"])
    return jnp.mean((x + params["bias"][None]) ** 2, axis=1)


def posterior():
    return LocalPosterior(loss_fn, jax.random.normal(jax.random.key(1), (20, WIDTH)), center(), 10.0, 5.0)


def in_layer(layer):
    return {pattern.replace("{layer}", str(layer)): axis for pattern, axis in AXES.items()}


PAIRS = [(layer, head) for layer in range(LAYERS) for head in range(HEADS)]


@pytest.mark.parametrize(("layer", "head"), PAIRS)
def test_takes_and_puts_what_by_slice_does(layer, head):
    whole = posterior()
    one = restrict(whole, by_slice(in_layer(layer), head))
    traced = restrict(whole, by_layer_and_slice(AXES, LAYERS, layer, head))
    assert sorted(traced.center) == ["block_0/out", "block_0/qkv"]
    for a, b in zip(jax.tree.leaves(one.center), jax.tree.leaves(traced.center), strict=True):
        np.testing.assert_array_equal(a, b)
    moved = [given.full_params(jax.tree.map(lambda leaf: leaf + 1, given.center)) for given in (one, traced)]
    jax.tree.map(np.testing.assert_array_equal, *moved)


@pytest.mark.parametrize("layout", ["map", "vmap"])
def test_one_program_draws_what_a_run_for_each_head_draws(layout):
    """The chains of head i use the keys of chains 2i and 2i + 1 in the one run: give those to the single runs."""
    whole, key = posterior(), jax.random.key(4)
    options = {"num_draws": 12, "num_burnin": 3, "layout": layout, "statistics": {"m": cross_moments(None, losses)}}
    stack = by_layer_and_slice(AXES, LAYERS, *jnp.array(PAIRS).T)
    together = sample_restrictions(key, whole, stack, sgld(8), step_size=1e-3, num_chains=2, **options)
    assert len(together) == len(PAIRS)
    for number in (0, 3):
        layer, head = PAIRS[number]
        alone = by_slice(in_layer(layer), head)
        # Chains 0 .. 2i + 1 of this run have the keys of the run above; the last two are this head's.
        count = 2 * number + 2
        settings = ChainSettings(
            jnp.full(count, 1e-3), jnp.full(count, 10.0), jnp.full(count, 5.0),
            jax.tree.map(lambda leaf, count=count: jnp.repeat(leaf[None], count), alone),
        )  # fmt: skip
        single = sample_chains(key, whole, sgld(8), settings, **options)
        np.testing.assert_allclose(together[number].loss, single.loss[-2:], rtol=2e-6)
        product = single.statistics["m"].product[-2:]
        np.testing.assert_allclose(together[number].statistics["m"].product, product, rtol=1e-3, atol=1e-9)


def losses(params):
    return loss_fn(params, posterior().data)


def test_new_heads_do_not_recompile():
    @partial(jax.jit)
    def value(restriction):
        given = restrict(posterior(), restriction)
        return jnp.mean(given.losses(given.center, given.data))

    values = {float(value(by_layer_and_slice(AXES, LAYERS, layer, head))) for layer, head in PAIRS}
    assert len(values) == 1
    assert value._cache_size() == 1


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: by_layer_and_slice(AXES, 0, 0, 0), "num_layers = 0"),
        (lambda: by_layer_and_slice({"bias": 0}, 3, 0, 0), "name no layer"),
        (lambda: restrict(posterior(), by_layer_and_slice(AXES, LAYERS, 3, 0)), r"layer 3 is outside 0\.\.2"),
        (lambda: restrict(posterior(), by_layer_and_slice(AXES, LAYERS, 0, 2)), r"index 2 is outside 0\.\.1"),
        (lambda: restrict(posterior(), by_layer_and_slice(AXES, 4, 0, 0)), "block_3/qkv' matches no parameter"),
    ],
)
def test_bad_layers_are_refused_in_one_sentence(build, message):
    with pytest.raises(ValueError, match=message):
        build()
