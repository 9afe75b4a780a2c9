"""What other people bring: the right number, or one sentence that names the argument and says what to do.

Types are checked by the library here as they are for its users, so the type checker of the other tests is switched off.
"""

import os
import subprocess
import sys
from typing import Any, NamedTuple

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import optax
import pytest
import xarray
from flax import nnx
from flax.core import FrozenDict

from slt_jax import (
    LocalPosterior,
    Restriction,
    by_path,
    by_slice,
    curvature_metric,
    default_nbeta,
    estimate_llc,
    init_chain,
    llc,
    restrict,
    rmsprop,
    run,
    sample,
    sample_checkpoints,
    sample_restrictions,
    sgld,
    sweep,
)
from slt_jax.estimators.free_energy import free_energy
from slt_jax.sampling.driver import sample_chains
from slt_jax.sampling.samples import ChainSettings

KEY = jax.random.key(0)
INPUTS = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
DATA = {"x": INPUTS, "y": INPUTS @ np.array([1.0, -1.0, 0.5], np.float32)}
CENTER = {"w": jnp.asarray([1.0, -1.0, 0.5])}


@pytest.fixture(autouse=True)
def _without_the_type_checker_of_the_tests():
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", before)


def loss_fn(params, batch):
    return (batch["x"] @ params["w"] - batch["y"]) ** 2


def posterior(**changes):
    return LocalPosterior(
        **{"loss_fn": loss_fn, "data": DATA, "center": CENTER, "nbeta": 5.0, "localization": 1.0, **changes}
    )


def draw(key=KEY, kernel=None, *, of=None, **options):
    """`sample` on a small problem, with one thing changed."""
    settings = {"step_size": 1e-3, "num_chains": 2, "num_draws": 4, **options}
    return sample(key, posterior() if of is None else of, sgld(8) if kernel is None else kernel, **settings)


def on(**changes):
    """Sampling a posterior with one part changed, as a call to be made."""
    return lambda: draw(of=posterior(**changes))


def with_(**options):
    """Sampling with one option changed, as a call to be made."""
    return lambda: draw(**options)


def heads(restrictions):
    return lambda: sample_restrictions(KEY, posterior(), restrictions, sgld(8), step_size=1e-3, num_draws=4)


def grid(**axes):
    return lambda: sweep(KEY, posterior(), sgld(8), **{"step_sizes": [1e-3], "num_draws": 4, **axes})


def chains(*settings):
    return lambda: sample_chains(KEY, posterior(), sgld(8), *settings, num_draws=4)


def deleted():
    array = jnp.ones(3) + 0.0
    array.delete()
    return array


def donated():
    array = jnp.ones((40, 3)) + 0.0
    jax.jit(lambda x: x + 1.0, donate_argnums=0)(array)
    return array


class Loader:
    """As torch's DataLoader: a length and batches, no arrays."""

    def __iter__(self):
        return iter([DATA])

    def __len__(self):
        return 1


class Tensor:
    """As torch's Tensor: a shape, and `.numpy()`."""

    shape = (40, 3)

    def numpy(self):
        return INPUTS


class Normed(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=True)(nn.Dense(1)(x))[:, 0]


class Net(nnx.Module):
    def __init__(self, rngs, *, normed=False, dropout=False):
        self.linear = nnx.Linear(3, 1, rngs=rngs)
        self.norm = nnx.BatchNorm(1, rngs=rngs) if normed else None
        self.dropout = nnx.Dropout(0.5, rngs=rngs) if dropout else None

    def __call__(self, x):
        x = self.linear(x)
        x = x if self.norm is None else self.norm(x)
        return (x if self.dropout is None else self.dropout(x))[:, 0]


def mlp():
    return eqx.nn.MLP(3, 1, 4, 1, key=KEY)


def normed_equinox():
    return eqx.nn.make_with_state(eqx.nn.BatchNorm)(3, axis_name="batch", mode="ema")


def fixed_trace(function):
    return lambda params, batch: function(loss_fn(params, batch))


class Case(NamedTuple):
    """What a user does, the call, and what the sentence must hold beside the argument's name."""

    what: str
    call: Any
    error: type[Exception]
    argument: str
    phrase: str


PARAMS = [
    Case("an equinox model whole", on(center=mlp()), TypeError, "center leaf 'activation'", "eqx.partition(model, eqx.is_inexact_array)"),
    Case("an equinox model in a dict", on(center={"model": mlp()}), TypeError, "center leaf 'model/activation'", "eqx.combine"),
    Case("an equinox layer with text", on(center=eqx.nn.BatchNorm(3, axis_name="b", mode="ema")), ValueError, "center", "eqx.nn.make_with_state"),
    Case("equinox state", on(center=normed_equinox()), ValueError, "center", "running statistics"),
    Case("linen variables with batch_stats", on(center=Normed().init(KEY, INPUTS)), ValueError, "center", "'batch_stats'"),
    Case("frozen linen variables", on(center=FrozenDict(Normed().init(KEY, INPUTS))), ValueError, "center", "variables['params']"),
    Case("a linen module", on(center=Normed()), TypeError, "center", "model.init(key, inputs)['params']"),
    Case("nnx state with statistics", on(center=nnx.state(Net(nnx.Rngs(0), normed=True))), ValueError, "center", "nnx.split(model, nnx.Param, ...)"),
    Case("an nnx module with statistics", on(center=Net(nnx.Rngs(0), normed=True)), ValueError, "center", "BatchStat"),
    Case("an nnx module with dropout", on(center=Net(nnx.Rngs(0), dropout=True)), ValueError, "center", "Rng"),
    Case("shapes instead of parameters", on(center=jax.eval_shape(lambda: CENTER)), TypeError, "center leaf 'w'", "not with eval_shape"),
    Case("a function beside the weights", on(center={**CENTER, "act": jnp.tanh}), TypeError, "center leaf 'act'", "the function tanh"),
    Case("text beside the weights", on(center={**CENTER, "act": "relu"}), TypeError, "center leaf 'act'", "the string 'relu'"),
    Case("a key beside the weights", on(center={**CENTER, "key": KEY}), ValueError, "center leaf 'key'", "PRNG key"),
    Case("an optimiser's step count", on(center={**CENTER, "step": jnp.asarray(3)}), ValueError, "center leaf 'step'", "int32"),
    Case("a mask of booleans", on(center={**CENTER, "mask": jnp.ones(3, bool)}), ValueError, "center leaf 'mask'", "bool"),
    Case("complex weights", on(center={"w": jnp.ones(3, complex)}), ValueError, "center leaf 'w'", "real and imaginary part"),
    Case("weights of eight bits", on(center={"w": jnp.ones(3, jnp.float8_e4m3fn)}), ValueError, "center leaf 'w'", "give float32 parameters"),
    Case("an array of objects", on(center={"w": np.array([None, 1.0], object)}), TypeError, "center leaf 'w'", "dtype object"),
    Case("a torch tensor", on(center={"w": Tensor()}), TypeError, "center leaf 'w'", ".numpy()"),
    Case("nothing", on(center={}), ValueError, "center", "no parameters"),
    Case("None", on(center=None), ValueError, "center", "no parameters"),
    Case("an array of no numbers", on(center={"w": jnp.ones((0, 3))}), ValueError, "center", "no parameters"),
    Case("a deleted array", on(center={"w": deleted()}), ValueError, "center leaf 'w'", "deleted"),
]  # fmt: skip
SHORT = {"x": INPUTS, "y": DATA["y"][:7]}
PEOPLE = xarray.Dataset({"x": (("n", "d"), INPUTS)})
DATA_CASES = [
    Case("a generator", on(data=(DATA for _ in range(3))), TypeError, "data", "every example at once"),
    Case("a loader", on(data=Loader()), TypeError, "data", "np.concatenate"),
    Case("a list of dicts", on(data=[{"x": x, "y": y} for x, y in zip(*DATA.values(), strict=True)]), ValueError, "data", "np.stack"),
    Case("a list of pairs", on(data=list(zip(*DATA.values(), strict=True))), ValueError, "data", "a list of 40 examples"),
    Case("a list of rows", on(data=list(INPUTS)), ValueError, "data", "reads as n = 3 examples"),
    Case("a list of numbers", on(data=[1.0, 2.0, 3.0]), ValueError, "data", "a list of 3 examples"),
    Case("text", on(data="the quick brown fox"), TypeError, "data", "tokens"),
    Case("an array of text", on(data={"x": np.array(["a", "b"])}), TypeError, "data leaf 'x'", "holds text"),
    Case("rows of unequal length", on(data={"x": np.array([[1], [1, 2]], object)}), TypeError, "data leaf 'x'", "pad the rows"),
    Case("dates", on(data={"x": np.array(["2026-01-01"], "datetime64[D]")}), TypeError, "data leaf 'x'", "datetime64"),
    Case("records", on(data=np.zeros(3, [("a", float), ("b", int)])), TypeError, "data", "one array for each field"),
    Case("a masked array", on(data={**DATA, "x": np.ma.array(INPUTS, mask=INPUTS > 0)}), TypeError, "data leaf 'x'", "mask"),
    Case("a data frame", on(data=PEOPLE["x"].to_pandas()), TypeError, "data", ".to_numpy()"),
    Case("an xarray variable", on(data={**DATA, "x": PEOPLE["x"]}), TypeError, "data leaf 'x'", ".to_numpy()"),
    Case("an xarray data set", on(data=PEOPLE), TypeError, "data", "np.asarray(given[name])"),
    Case("a torch tensor", on(data={**DATA, "x": Tensor()}), TypeError, "data leaf 'x'", ".numpy()"),
    Case("shapes instead of data", on(data=jax.eval_shape(lambda: DATA)), TypeError, "data leaf 'x'", "give a numpy or JAX array"),
    Case("a donated array", on(data={**DATA, "x": donated()}), ValueError, "data leaf 'x'", "donate_argnums"),
    Case("a scalar among the data", on(data={**DATA, "scale": 2.0}), ValueError, "data leaf 'scale'", "a scalar"),
    Case("unequal lengths", on(data=SHORT), ValueError, "data leaf 'y'", "7"),
    Case("no data", on(data=None), ValueError, "data", "no arrays"),
    Case("the losses at w* of other data", on(center_losses=jnp.zeros(7)), ValueError, "center_losses", "(40,)"),
]  # fmt: skip
LOSSES = [
    Case("loss and parameters exchanged", lambda: estimate_llc(KEY, CENTER, loss_fn, DATA), TypeError, "loss_fn", "a dict"),
    Case("an equinox model as the loss", on(loss_fn=mlp()), TypeError, "loss_fn", "cannot be hashed"),
    Case("the mean", on(loss_fn=fixed_trace(jnp.mean)), ValueError, "loss_fn", "leave the mean to the library"),
    Case("a column", on(loss_fn=fixed_trace(lambda l: l[:, None])), ValueError, "loss_fn", "losses[:, 0]"),
    Case("losses of tokens", on(loss_fn=fixed_trace(lambda l: jnp.ones((13, 5)))), ValueError, "loss_fn", "average over the other axes"),
    Case("one loss per feature", on(loss_fn=lambda p, b: (b["x"] * p["w"][None]).sum(axis=0)), ValueError, "loss_fn", "shape (3,)"),
    Case("losses and accuracies", on(loss_fn=fixed_trace(lambda l: (l, l))), ValueError, "loss_fn", "a tuple"),
    Case("a dict", on(loss_fn=fixed_trace(lambda l: {"loss": l})), ValueError, "loss_fn", "a dict"),
    Case("no return statement", on(loss_fn=fixed_trace(lambda l: None)), ValueError, "loss_fn", "nothing (None)"),
    Case("counts of errors", on(loss_fn=fixed_trace(lambda l: (l > 0).astype(int))), ValueError, "loss_fn", "int32"),
    Case("a loss made of steps", on(loss_fn=fixed_trace(lambda l: jnp.floor(1e4 * l))), ValueError, "loss_fn", "cross-entropy in place of accuracy"),
    Case("complex losses", on(loss_fn=fixed_trace(lambda l: l + 0j)), ValueError, "loss_fn", "complex64"),
    Case("numpy inside", on(loss_fn=fixed_trace(np.asarray)), TypeError, "loss_fn", "jax.numpy"),
    Case("an if on values", on(loss_fn=fixed_trace(lambda l: l if l.sum() > 0 else -l)), TypeError, "loss_fn", "TracerBoolConversionError"),
]  # fmt: skip
NUMBERS = [
    *(
        Case(f"{name}={value!r}", with_(**{name: value}), TypeError, name, "whole number")
        for name in ("num_draws", "num_chains", "num_burnin", "thinning")
        for value in (10.0, 10.5, True, "10", None)
        if (name, value) != ("num_burnin", None)  # that is the default
    ),
    Case("half an example", on(chunk_size=2.5), TypeError, "chunk_size", "whole number"),
    Case("half a batch", lambda: draw(kernel=sgld(2.5)), TypeError, "batch_size", "whole number"),
    Case("n as text", lambda: default_nbeta("100"), TypeError, "n is", "whole number"),
    Case("a step as text", with_(step_size="0.1"), TypeError, "step_size", "the string '0.1'"),
    Case("no step", with_(step_size=None), ValueError, "step_size", "calibrate"),
    Case("a step per chain", with_(step_size=np.full(2, 1e-3)), ValueError, "step_size", "not an array"),
    Case("a complex step", with_(step_size=1e-3 + 0j), TypeError, "step_size", "one real number"),
    Case("a negative step", with_(step_size=-1e-3), ValueError, "step_size", "positive"),
    Case("a step below float32", with_(step_size=1e-60), ValueError, "step_size", "positive"),
    Case("nbeta as text", on(nbeta="5"), TypeError, "nbeta", "the string '5'"),
    Case("several nbeta", on(nbeta=jnp.ones(2)), ValueError, "nbeta", "not an array"),
    Case("infinite nbeta", on(nbeta=np.inf), ValueError, "nbeta", "finite"),
    Case("localization as text", on(localization="1"), TypeError, "localization", "the string '1'"),
    Case("several localizations", on(localization=np.ones(2)), ValueError, "localization", "not an array"),
    Case("a boolean localization", on(localization=True), TypeError, "localization", "real number"),
    Case("a baseline that is not a number", with_(baseline=float("nan")), ValueError, "baseline", "finite"),
    Case("no baseline", with_(baseline=None), TypeError, "baseline", "real number"),
    Case("a baseline per chain", with_(baseline=np.ones(2)), ValueError, "baseline", "not an array"),
    Case("an unknown baseline", with_(baseline="init"), ValueError, "baseline", "'paired', 'full'"),
]  # fmt: skip
OPTIONS = [
    Case("a seed as key", with_(key=0), TypeError, "key", "jax.random.key(0)"),
    Case("a numpy seed as key", with_(key=np.int64(3)), TypeError, "key", "np.int64(3)"),
    Case("a key of old style", with_(key=jax.random.PRNGKey(0)), TypeError, "key", "old style"),
    Case("several keys", with_(key=jax.random.split(KEY, 3)), ValueError, "key", "3 keys"),
    Case("a layout of old JAX", with_(layout="pmap"), ValueError, "layout", "'vmap'"),
    Case("no devices", with_(devices=[]), ValueError, "devices", "empty"),
    Case("a device by name", with_(devices=["cpu"]), TypeError, "devices", "jax.devices()"),
    Case("one device", with_(devices=jax.devices()[0]), TypeError, "devices", "give a list"),
    Case("a device twice", with_(devices=jax.devices()[:1] * 2), ValueError, "devices", "twice"),
    Case("a folder for the state", with_(state_path=os.curdir), ValueError, "state_path", "a folder"),
    Case("a state where no file can be", with_(state_path="/proc/state.npz"), ValueError, "state", "no file can be made"),
    Case("an estimate saved as a folder", lambda: draw().save("/"), ValueError, "/ is a folder", "result.npz"),
    Case("temperatures as text", lambda: free_energy(KEY, posterior(), sgld(8), "1, 10"), TypeError, "nbetas", "positive numbers"),
    Case("a number for the state", with_(state_path=3), TypeError, "state_path", "path of a file"),
    Case("the function instead of a kernel", with_(kernel=sgld), TypeError, "kernel", "call it"),
    Case("the class instead of a kernel", with_(kernel=type(sgld(8))), TypeError, "kernel", "call it"),
    Case("a kernel's name", with_(kernel="sgld"), TypeError, "kernel", "sgld(256)"),
    Case("an optimiser as kernel", with_(kernel=optax.sgd(0.1)), TypeError, "kernel", "sgld(256)"),
    Case("a preconditioner as kernel", with_(kernel=rmsprop()), TypeError, "kernel", "RMSProp"),
    Case("a preconditioner as metric", with_(metric=rmsprop()), TypeError, "metric", "curvature_metric(key, posterior)"),
    Case("a matrix as metric", with_(metric=jnp.eye(3)), TypeError, "metric", "shape (3, 3)"),
    Case("the metric of another model", lambda: draw(metric=curvature_metric(KEY, posterior())._replace(directions=jnp.ones((5, 3)))), ValueError, "metric.directions", "3 parameters"),
    Case("a metric of two ranks", lambda: draw(metric=curvature_metric(KEY, posterior())._replace(scales=jnp.ones(2))), ValueError, "metric", "(rank,)"),
    Case("one observable without a name", with_(observables=lambda p: p["w"]), TypeError, "observables", "a dict of name"),
    Case("an observable that is a value", with_(observables={"w": 1.0}), TypeError, "observables['w']", "a function"),
    Case("an observable that returns nothing", with_(observables={"w": lambda p: None}), TypeError, "observables['w']", "one array"),
    Case("an observable that returns two", with_(observables={"w": lambda p: (p["w"], 1.0)}), TypeError, "observables['w']", "a tuple"),
    Case("an observable called loss", with_(observables={"loss": lambda p: p["w"]}), ValueError, "observables", "every chain records"),
    Case("an observable called 1", with_(observables={1: lambda p: p["w"]}), TypeError, "observables", "strings"),
    Case("posterior and kernel exchanged", lambda: sample(KEY, sgld(8), posterior(), step_size=1e-3), TypeError, "posterior", "LocalPosterior(loss_fn, data"),
    Case("parameters for a posterior", lambda: sample(KEY, CENTER, sgld(8), step_size=1e-3), TypeError, "posterior", "a dict"),
    Case("settings of no chain", chains(ChainSettings(*jnp.zeros((3, 0)))), ValueError, "settings", "one value for each chain"),
    Case("settings of unequal lengths", chains(ChainSettings(jnp.ones(2), jnp.ones(3), jnp.ones(2))), ValueError, "settings", "one value for each chain"),
    Case("a chain without nbeta", chains(ChainSettings(jnp.ones(2), jnp.zeros(2), jnp.ones(2))), ValueError, "nbeta", "positive"),
    Case("settings as a dict", chains({"step_size": 1e-3}), TypeError, "settings", "ChainSettings"),
]  # fmt: skip
RESTRICTIONS = [
    Case("one part, not a stack", heads(by_path("w")), ValueError, "restrictions", "restrict(posterior, by_path(...))"),
    Case("one index, not a stack", heads(by_slice({"w": 0}, 1)), ValueError, "restrictions", "jnp.arange(heads)"),
    Case("a list of restrictions", heads([by_path("w"), by_path("w")]), TypeError, "restriction", "a list"),
    Case("one head too many", heads(by_slice({"w": 0}, jnp.arange(4))), ValueError, "restriction index 3", "0..2"),
    Case("a head from the end", heads(by_slice({"w": 0}, jnp.array([-1]))), ValueError, "restriction index -1", "0..2"),
    Case("an axis too many", lambda: restrict(posterior(), by_slice({"w": 1}, 0)), ValueError, "restriction axis 1", "(3,)"),
    Case("a stack for one", lambda: restrict(posterior(), by_slice({"w": 0}, jnp.arange(3))), ValueError, "restriction index", "sample_restrictions"),
    Case("a pattern for a restriction", lambda: restrict(posterior(), "w"), TypeError, "restriction", "by_path('block_0/*')"),
    Case("parameters for a posterior", lambda: restrict(CENTER, by_path("w")), TypeError, "posterior", "a dict"),
    Case("restricted twice", lambda: restrict(restrict(posterior(), by_path("w")), by_path("w")), ValueError, "posterior", "restricted already"),
    Case("a pair that does not fit", lambda: restrict(posterior(), Restriction(lambda t: t["w"][:2], lambda t, part: {"w": part})), ValueError, "restriction", "put back"),
    Case("patterns in a list", lambda: by_path(["w"]), TypeError, "by_path", "by_path('block_0/*', 'head/*')"),
    Case("an axis as text", lambda: by_slice({"w": "0"}, 1), TypeError, "axes of by_slice", "pattern -> axis"),
    Case("axes without patterns", lambda: by_slice([0], 1), TypeError, "axes of by_slice", "a dict"),
    Case("an index that is not whole", lambda: by_slice({"w": 0}, 1.0), TypeError, "index of by_slice", "whole number"),
    Case("a stack that is not whole", lambda: by_slice({"w": 0}, jnp.ones(2)), TypeError, "index of by_slice", "float32"),
    Case("two axes of one leaf", lambda: restrict(posterior(center={"w": jnp.ones((3, 3))}), by_slice({"w": 0, "*": 1}, 0)), ValueError, "restriction pattern", "sliced once"),
    Case("two parameters of one name", lambda: restrict(posterior(center={"a/b": jnp.ones(3), "a": {"b": jnp.ones(3)}}), by_path("a/b")), ValueError, "center", "'a/b'"),
]  # fmt: skip


def stacked(w, **options):
    """Sampling several checkpoints of `w`, as a call to be made."""
    options = {"step_size": 1e-3, "num_draws": 4, **options}
    return lambda: sample_checkpoints(KEY, posterior(), w if isinstance(w, list) else {"w": w}, sgld(8), **options)


CHECKPOINTS = [
    Case("a list of checkpoints", stacked([CENTER, CENTER]), ValueError, "centers", "jnp.stack"),
    Case("one checkpoint", stacked(jnp.ones(3)), ValueError, "centers leaf 'w'", "(checkpoints, 3)"),
    Case("checkpoints of another model", stacked(jnp.ones((2, 4))), ValueError, "centers leaf 'w'", "(2, 4)"),
    Case("checkpoints of whole numbers", stacked(jnp.ones((2, 3), int)), ValueError, "centers leaf 'w'", "int32"),
    Case("no checkpoint", stacked(jnp.ones((0, 3))), ValueError, "centers", "at least 1"),
    Case("a checkpoint that is not finite", stacked(jnp.full((2, 3), jnp.nan)), ValueError, "center leaf 'w'", "not finite"),
    Case("a step too few", stacked(jnp.ones((2, 3)), step_size=[1e-3]), ValueError, "step_size", "2 checkpoints"),
    Case("a step below zero", stacked(jnp.ones((2, 3)), step_size=[1e-3, -1.0]), ValueError, "step_size", "-1.0"),
    Case("nothing at once", stacked(jnp.ones((2, 3)), at_once=0), ValueError, "at_once", "at least 1"),
    Case("draws as text", stacked(jnp.ones((2, 3)), num_draws="4"), TypeError, "num_draws", "whole number"),
    Case("devices by name", stacked(jnp.ones((2, 3)), devices="cpu"), TypeError, "devices", "jax.devices()"),
    Case("checkpoints under jit", lambda: jax.jit(lambda w: stacked(w)())(jnp.ones((2, 3))), TypeError, "sample_checkpoints", "on the host"),
]  # fmt: skip


def without_jit(call):
    def disabled():
        with jax.disable_jit():
            return call()

    return disabled


def losses(key=KEY, nbeta=5.0):
    return draw(key=key, of=posterior(nbeta=nbeta)).loss


CALLS = [
    Case("sample under jit", lambda: jax.jit(losses)(KEY), TypeError, "sample", "init_chain and run"),
    Case("sample under jit, nothing traced", lambda: jax.jit(lambda: losses())(), TypeError, "sample", "on the host"),
    Case("sample under vmap over keys", lambda: jax.vmap(losses)(jax.random.split(KEY, 2)), TypeError, "sample", "on the host"),
    Case("sample under vmap over nbeta", lambda: jax.vmap(lambda b: losses(nbeta=b))(jnp.ones(2)), TypeError, "sample", "on the host"),
    Case("sample without jit", without_jit(losses), ValueError, "sample", "jax.disable_jit"),
    Case("a sweep under jit", lambda: jax.jit(lambda: grid()().mean)(), TypeError, "sweep", "on the host"),
    Case("a sweep without jit", without_jit(grid()), ValueError, "sweep", "jax.disable_jit"),
    Case("restrictions under jit", lambda: jax.jit(heads(by_slice({"w": 0}, np.arange(3))))(), TypeError, "sample_restrictions", "on the host"),
    Case("a step for an axis", grid(step_sizes=1e-3), TypeError, "step_sizes", "a list of numbers"),
    Case("an axis of text", grid(nbetas=["5"]), TypeError, "nbetas", "real number"),
    Case("an axis in a generator", grid(localizations=(x for x in [1.0])), TypeError, "localizations", "a generator"),
    Case("a nested axis", grid(step_sizes=np.ones((1, 1))), ValueError, "step_sizes", "shape (1, 1)"),
    Case("half a chain", grid(num_chains=2.5), TypeError, "num_chains", "whole number"),
]  # fmt: skip

CASES = [*PARAMS, *DATA_CASES, *LOSSES, *NUMBERS, *OPTIONS, *RESTRICTIONS, *CHECKPOINTS, *CALLS]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_one_sentence(case):
    with pytest.raises(case.error) as caught:
        case.call()
    message = str(caught.value)
    assert caught.type is case.error
    assert case.argument in message
    assert case.phrase in message
    assert len(message) <= 300, message
    assert "\n" not in message
    assert ". " not in message  # one sentence


def test_the_error_of_a_loss_is_its_own():
    def broken(params, batch):
        raise ZeroDivisionError("in my code")

    with pytest.raises(ZeroDivisionError, match="in my code"):
        draw(of=posterior(loss_fn=broken))


def from_leaves(of):
    """The same posterior whose center is a plain list of arrays: what `of` must agree with to the bit."""
    leaves, structure = jax.tree.flatten(of.center)
    return LocalPosterior(
        lambda leaves, batch: of.loss_fn(jax.tree.unflatten(structure, leaves), batch),
        jax.tree.map(jnp.asarray, of.data),
        [jnp.asarray(leaf) for leaf in leaves],
        float(of.nbeta),
        float(of.localization),
    )


def equinox_linear():
    arrays, static = eqx.partition(mlp(), eqx.is_inexact_array)

    def squared(arrays, batch):
        return (jax.vmap(eqx.combine(arrays, static))(batch["x"])[:, 0] - batch["y"]) ** 2

    return {"center": arrays, "loss_fn": squared}


def linen_normed():
    model = Normed()
    variables = model.init(KEY, INPUTS)
    fixed = {name: values for name, values in variables.items() if name != "params"}

    def squared(params, batch):
        return (model.apply({"params": params, **fixed}, batch["x"]) - batch["y"]) ** 2

    return {"center": variables["params"], "loss_fn": squared}


def nnx_normed():
    model = Net(nnx.Rngs(0), normed=True, dropout=True)
    model.eval()
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    return {"center": params, "loss_fn": lambda p, b: (nnx.merge(graph, p, rest)(b["x"]) - b["y"]) ** 2}


def nnx_pure():
    graph, params = nnx.split(Net(nnx.Rngs(0)))

    def squared(pure, batch):
        state = jax.tree.unflatten(jax.tree.structure(params), jax.tree.leaves(pure))
        return (nnx.merge(graph, state)(batch["x"]) - batch["y"]) ** 2

    return {"center": nnx.to_pure_dict(params), "loss_fn": squared}


def haiku_linear():
    center = {"mlp/~/linear_0": {"w": jnp.ones((3, 1)), "b": jnp.zeros(1)}}

    def squared(params, batch):
        layer = params["mlp/~/linear_0"]
        return ((batch["x"] @ layer["w"] + layer["b"][None])[:, 0] - batch["y"]) ** 2

    return {"center": center, "loss_fn": squared}


def scaled(params, batch):
    return (params["scale"] * (batch["x"] @ params["w"]) - batch["y"]) ** 2


def per_example_keys(params, batch):
    noise = jax.vmap(lambda key: jax.random.normal(key))(batch["key"])
    return (batch["x"] @ params["w"] + 0.1 * noise - batch["y"]) ** 2


SAME = {
    "numpy parameters": {"center": {"w": np.asarray(CENTER["w"])}},
    "numpy in float64": {
        "center": {"w": np.asarray(CENTER["w"], np.float64)},
        "data": {name: values.astype(np.float64) for name, values in DATA.items()},
    },
    "jax data": {"data": jax.tree.map(jnp.asarray, DATA)},
    "numpy scalars as settings": {"nbeta": np.float64(5.0), "localization": np.int64(1)},
    "arrays as settings": {"nbeta": jnp.asarray(5.0), "localization": np.asarray(1.0)},
    "None among the parameters": {"center": {**CENTER, "bias": None}},
    "a FrozenDict": {"center": FrozenDict(CENTER)},
    "a list of two arrays": {"data": list(DATA.values()), "loss_fn": lambda p, b: (b[0] @ p["w"] - b[1]) ** 2},
    "linen's params with their name": {"center": {"params": CENTER}, "loss_fn": lambda p, b: loss_fn(p["params"], b)},
}


@pytest.mark.parametrize("changes", SAME.values(), ids=SAME.keys())
def test_one_problem_in_other_clothes_gives_the_same_bits(changes):
    np.testing.assert_array_equal(draw(of=posterior(**changes)).loss, draw().loss)


MODELS = {
    "an equinox model in two parts": equinox_linear(),
    "linen parameters, statistics fixed": linen_normed(),
    "nnx parameters, the rest fixed": nnx_normed(),
}


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS.keys())
def test_a_model_is_sampled_as_the_list_of_its_arrays(changes):
    given = posterior(**changes)
    losses = draw(of=given, baseline=0.0).loss
    assert np.isfinite(losses).all()
    np.testing.assert_array_equal(losses, draw(of=from_leaves(given), baseline=0.0).loss)


OTHERS = {
    "a Python float among the parameters": (4, {"center": {**CENTER, "scale": 1.0}, "loss_fn": scaled}),
    "a numpy scalar among the parameters": (4, {"center": {**CENTER, "scale": np.float32(1.0)}, "loss_fn": scaled}),
    "one key per example": (3, {"data": {**DATA, "key": jax.random.split(KEY, 40)}, "loss_fn": per_example_keys}),
    "an nnx module": (4, {"center": Net(nnx.Rngs(0)), "loss_fn": lambda net, b: (net(b["x"]) - b["y"]) ** 2}),
    "nnx as a pure dict": (4, nnx_pure()),
    "haiku's dict of dicts": (4, haiku_linear()),
}


@pytest.mark.parametrize(("num_parameters", "changes"), OTHERS.values(), ids=OTHERS.keys())
def test_other_models_are_sampled(num_parameters, changes):
    samples = draw(of=posterior(**changes), baseline=0.0)
    assert samples.num_parameters == num_parameters
    assert samples.finite.all()
    assert len(np.unique(samples.loss)) == samples.loss.size


@pytest.mark.parametrize(
    "options",
    [
        {"num_chains": np.int32(2), "num_draws": np.int64(4), "num_burnin": np.uint8(0), "thinning": jnp.asarray(1)},
        {"step_size": np.float32(1e-3)},
        {"step_size": jnp.asarray(1e-3)},
        {"observables": {}, "devices": tuple(jax.devices()[:1]), "layout": "map"},
    ],
    ids=lambda options: ", ".join(options),
)
def test_numbers_of_numpy_and_jax_are_numbers(options):
    np.testing.assert_array_equal(draw(**options).loss, draw(devices=jax.devices()[:1], layout="map").loss)


def test_a_list_of_examples_stacked_as_advised():
    examples = [{"x": x, "y": y} for x, y in zip(*DATA.values(), strict=True)]
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *examples)
    np.testing.assert_array_equal(draw(of=posterior(data=stacked)).loss, draw().loss)


def test_tied_weights_are_one_parameter_when_tied_in_the_loss():
    table = jnp.eye(3)

    def untied(params, batch):
        return ((batch["x"] @ params["embedding"] @ params["unembedding"]).sum(axis=1) - batch["y"]) ** 2

    def tied(params, batch):
        return untied({**params, "unembedding": params["embedding"].T}, batch)

    twice = draw(of=posterior(loss_fn=untied, center={"embedding": table, "unembedding": table}))
    once = draw(of=posterior(loss_fn=tied, center={"embedding": table}))
    assert (twice.num_parameters, once.num_parameters) == (18, 9)
    moved = twice.chains.kernel_state.params
    assert (moved["embedding"] != moved["unembedding"]).any()  # one array at the start, two parameters to the sampler


def test_inside_a_transformation_init_chain_and_run_are_called_as_advised():
    def losses(key, nbeta):
        local = posterior(nbeta=nbeta)
        kernel = sgld(8)
        return run(init_chain(key, local, kernel), local, kernel, step_size=1e-3, num_draws=4)[1].loss

    keys = jax.vmap(lambda i: jax.random.fold_in(KEY, i))(jnp.arange(2))
    inside = jax.jit(jax.vmap(losses, in_axes=(0, None)))(keys, 5.0)
    np.testing.assert_allclose(inside, draw().loss, rtol=1e-5)


def test_one_part_is_sampled_as_advised_and_statistics_may_lie_in_the_fixed_rest():
    variables = Normed().init(KEY, INPUTS)

    def squared(variables, batch):
        return (Normed().apply(variables, batch["x"]) - batch["y"]) ** 2

    whole = posterior(center=variables, loss_fn=squared)
    part = draw(of=restrict(whole, by_path("params/*")))
    assert part.num_parameters == 3 + 1 + 2
    for everything in (whole, restrict(whole, by_path("*"))):
        with pytest.raises(ValueError, match="batch_stats"):
            draw(of=everything)


PLACES = """
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from slt_jax import LocalPosterior, sample, sgld

first, second = jax.devices()
x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
loss_fn = lambda params, batch: (batch @ params) ** 2

def losses(x, center, devices=None, num_chains=2):
    posterior = LocalPosterior(loss_fn, x, center, 5.0, 1.0)
    samples = sample(jax.random.key(0), posterior, sgld(8), step_size=1e-3, num_chains=num_chains, num_draws=4, devices=devices)
    return samples.loss, samples.chains.finite.devices()

expected, _ = losses(x, np.ones(3, np.float32))
mesh = jax.make_mesh((2,), ("data",), axis_types=(jax.sharding.AxisType.Auto,))
sharded = jax.device_put(x, NamedSharding(mesh, PartitionSpec("data")))
for data, center in [
    (jax.device_put(x, second), jnp.ones(3)),
    (jax.device_put(x, second), jax.device_put(jnp.ones(3), second)),
    (sharded, jnp.ones(3)),
    (sharded, jax.device_put(jnp.ones(3), NamedSharding(mesh, PartitionSpec()))),
]:
    for chains, devices in ((2, None), (1, None), (2, [second])):
        loss, places = losses(data, center, devices, chains)
        np.testing.assert_allclose(loss, expected[:chains], rtol=1e-5)
        assert devices is None or places == set(devices), (places, devices)
try:
    losses(jax.device_put(x, first), jax.device_put(jnp.ones(3), second))
except ValueError as error:
    print(error)
"""


def test_arrays_on_other_devices_or_sharded():
    flags = "--xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run([sys.executable, "-c", PLACES], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (sentence,) = done.stdout.splitlines()
    assert sentence.startswith("center lies on cpu:1 and data on cpu:0")
    assert "jax.device_put" in sentence
    assert len(sentence) <= 300


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        (
            {"statistics": {"a": lambda w: 1}},
            r"statistics\['a'\] is .*give what cross_moments or example_moments return",
        ),
        ({"statistics": [1]}, "statistics is .*give a dict of name -> statistic"),
        ({"should_stop": False}, "should_stop is .*give a function without arguments"),
        ({"inspection": "no"}, "inspection is .*give True, False, or what `inspect` returned"),
        ({"baseline": None}, "baseline is .*give 'paired', 'full' or a real number"),
    ],
)
def test_options_of_the_wrong_kind_get_one_sentence(option, sentence):
    with pytest.raises(TypeError, match=sentence):
        draw(**option)


def test_an_estimate_of_what_are_no_samples_gets_one_sentence():
    with pytest.raises(TypeError, match=r"samples is .*give the Samples that `sample` returned"):
        llc([1.0])
