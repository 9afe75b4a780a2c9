"""The computing half of `digits`: train, sample with everything, and with NUTS on the same posterior."""

import time
from dataclasses import asdict, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray
from jax.flatten_util import ravel_pytree

from configs.digits import Digits
from experiments.digits.network import Perceptron, Split, accuracy, cross_entropy, load_digits, train
from experiments.known_models.nuts import nuts_llc
from experiments.known_models.samplers import Compared, samplers, slug, stored_neighbourhood
from experiments.registry import UserError
from experiments.run_folder import RunFolder
from slt_jax.estimators.llc import llc
from slt_jax.posterior import LocalPosterior, default_nbeta
from slt_jax.progress import progress_bar
from slt_jax.sampling.driver import sample
from slt_jax.sampling.sampler import Sampler
from slt_jax.typing import Params

__all__ = ["NUTS", "run"]

NUTS = "NUTS"
TRAIN_KEY, PILOT_KEY, TUNE_KEY, CHAINS_KEY, NUTS_KEY = range(5)


def run(config: Digits, folder: RunFolder) -> list[str]:
    """Compute whatever is not in `folder` yet; returns one sentence for every sampler with a diverged chain."""
    split = load_digits(config.network.num_examples, config.seed)
    params, training = _trained(config, folder, split)
    nbeta = config.sampling.nbeta or default_nbeta(config.network.num_examples)
    posterior = LocalPosterior(cross_entropy, split.train, params, nbeta, config.sampling.localization)
    chosen = chosen_samplers(config)
    rows = {}
    with progress_bar("digits", len(chosen) + 1) as update:
        nuts = folder.piece("nuts", lambda: _nuts(config, posterior))
        update(1, f"NUTS: LLC {float(nuts['mean']):.2f}")
        for number, sampler in enumerate(chosen):
            rows[sampler.name] = _estimate(config, folder, posterior, sampler, number)
            update(number + 2, f"{sampler.name}: LLC {float(rows[sampler.name]['mean']):.2f}")
            # After every sampler, so that a report can be had before the end.
            folder.write_results(_dataset(config, training, rows, nuts))
    return [name for name, row in rows.items() if row["diverged"].any()]


def chosen_samplers(config: Digits) -> list[Compared]:
    """Those of the configuration; by default all with full gradients, then those meant for minibatches with minibatches.

    Adam's step is a tenth of RMSProp's, so it takes ten times as many; a third of that step shows its lag bias shrink.
    """
    size = config.sampling.batch_size
    full = [s._replace(patience=10) if s.name == "Adam-SGLD" else s for s in samplers(None)]
    gentle = [
        Compared(f"{s.name}, a third of the step", _shorter(s.sampler, 3), patience=30)
        for s in full
        if s.name == "Adam-SGLD"
    ]
    noisy = [s for s in samplers(size) if s.name in ("SGLD, Leimkuhler-Matthews", "SGNHT", "metric SGLD")]
    every = [*full, *gentle, *(s._replace(name=f"{s.name}, batch {size}") for s in noisy)]
    known = {sampler.name: sampler for sampler in every}
    unknown = [name for name in config.sampling.samplers if name not in known]
    if unknown:
        raise UserError(f"there is no sampler '{unknown[0]}'; there are: {', '.join(known)}")
    return [known[name] for name in config.sampling.samplers or known]


def _shorter(sampler: Sampler, times: float) -> Sampler:
    assert sampler.step_fraction is not None
    return replace(sampler, step_fraction=sampler.step_fraction / times)


def _key(config: Digits, *numbers: int) -> jax.Array:
    key = jax.random.key(config.seed)
    for number in numbers:
        key = jax.random.fold_in(key, number)
    return key


def _trained(config: Digits, folder: RunFolder, split: Split) -> tuple[Params, dict[str, np.ndarray]]:
    """The trained parameters, and how training went."""

    def compute() -> dict[str, Any]:
        params, losses = train(_key(config, TRAIN_KEY), split.train, config.network)
        final, gradient = jax.value_and_grad(lambda p: jnp.mean(cross_entropy(p, split.train)))(params)
        return {
            "params": ravel_pytree(params)[0], "losses": losses, "loss": final,
            "gradient_norm": jnp.linalg.norm(ravel_pytree(gradient)[0]),
            "train_accuracy": accuracy(params, split.train), "test_accuracy": accuracy(params, split.test),
        }  # fmt: skip

    stored = folder.piece("training", compute)
    like = Perceptron(config.network.hidden_units).init(_key(config, TRAIN_KEY), split.train["image"][:1])
    return ravel_pytree(like)[1](jnp.asarray(stored["params"])), stored


def _estimate(
    config: Digits, folder: RunFolder, posterior: LocalPosterior, sampler: Compared, number: int
) -> dict[str, np.ndarray]:
    def compute() -> dict[str, Any]:
        sampling = config.sampling
        started = time.perf_counter()
        found = stored_neighbourhood(
            folder, "pilot", _key(config, PILOT_KEY), posterior, batch_size=None, num_chains=sampling.num_chains,
            num_steps=sampling.pilot_steps,
        )  # fmt: skip
        tuned = sampler.sampler.tune(_key(config, TUNE_KEY, number), posterior, neighbourhood=found)
        samples = sample(
            _key(config, CHAINS_KEY, number), posterior, tuned, num_chains=sampling.num_chains, num_burnin=sampler.patience * sampling.num_burnin,
            num_draws=sampling.num_draws, thinning=sampler.patience * sampling.thinning,
        )  # fmt: skip
        nbeta = samples.nbeta[:, None]
        return {
            **asdict(llc(samples)),
            "seconds": time.perf_counter() - started,
            "rank": 0 if tuned.metric is None else tuned.metric.scales.size,
            "trace": (nbeta * samples.excess).astype(np.float32),
            "burnin_trace": (nbeta * samples.burnin_excess).astype(np.float32)[:, :: sampler.patience],
            "patience": sampler.patience,
        }

    return folder.piece(f"estimates/{slug(sampler)}", compute)


def _nuts(config: Digits, posterior: LocalPosterior) -> dict[str, Any]:
    nuts = config.nuts
    started = time.perf_counter()
    estimate = nuts_llc(
        _key(config, NUTS_KEY), posterior, num_chains=nuts.num_chains, num_warmup=nuts.num_warmup,
        num_draws=nuts.num_draws,
    )  # fmt: skip
    return {**estimate._asdict(), "seconds": time.perf_counter() - started}


def _dataset(
    config: Digits, training: dict[str, np.ndarray], rows: dict[str, dict[str, np.ndarray]], nuts: dict[str, np.ndarray]
) -> xarray.Dataset:
    """Estimates with dim sampler, NUTS last; traces apart, since NUTS has its own number of draws."""
    names = [*rows, NUTS]
    both = ("mean", "std_error", "rhat", "ess", "seconds")
    variables: dict[str, Any] = {
        name: ("sampler", np.array([float(row[name]) for row in [*rows.values(), nuts]])) for name in both
    }
    for name in ("drift", "drift_std_error", "step_size", "rank", "acceptance"):
        values = [*(float(row[name]) for row in rows.values()), np.nan]
        variables[name] = ("sampler", np.array(values))
    steps = config.sampling.num_burnin + config.sampling.num_draws * config.sampling.thinning
    share = [config.sampling.batch_size / config.network.num_examples if "batch" in name else 1.0 for name in rows]
    patience = [int(row["patience"]) for row in rows.values()]
    full_gradients = [
        config.sampling.num_chains * steps * times * part for times, part in zip(patience, share, strict=True)
    ]
    variables["gradients"] = ("sampler", np.array([*full_gradients, float(nuts["gradients"])]))
    variables["trace"] = (("sampled", "chain", "draw"), np.stack([row["trace"] for row in rows.values()]))
    burnin = np.stack([row["burnin_trace"] for row in rows.values()])
    variables["burnin_trace"] = (("sampled", "chain", "burnin_step"), burnin)
    variables["nuts_trace"] = (("nuts_chain", "nuts_draw"), nuts["trace"])
    for name in ("loss", "gradient_norm", "train_accuracy", "test_accuracy"):
        variables[name] = float(training[name])
    variables["nuts_divergences"] = float(nuts["divergences"])
    variables["training_loss"] = ("training_step", training["losses"])
    variables["num_parameters"] = training["params"].size
    variables["nbeta"] = config.sampling.nbeta or default_nbeta(config.network.num_examples)
    # As objects: zarr stores those as strings of any length, which its format specifies.
    coordinates = {"sampler": np.array(names, object), "sampled": np.array(list(rows), object)}
    return xarray.Dataset(variables, coords=coordinates)
