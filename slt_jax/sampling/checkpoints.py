"""Many checkpoints of one model in one compiled program: the width of a program is checkpoints x chains.

On an accelerator that is what fills it; on a CPU it saves the host's work between checkpoints. How many checkpoints go together
is a matter of memory alone: no number depends on it.
"""

import math
import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slt_jax.arguments import check_count, check_number, describe
from slt_jax.backend import full_precision
from slt_jax.posterior import LocalPosterior, at_center, check_posterior
from slt_jax.progress import never
from slt_jax.sampling.base import Kernel
from slt_jax.sampling.chains import init_chain
from slt_jax.sampling.checks import check_centers, check_kernel, check_on_host, check_options
from slt_jax.sampling.driver import LONGEST_CHUNK, sample_chains
from slt_jax.sampling.layout import default_layout
from slt_jax.sampling.samples import ChainSettings, OwnCenter, Samples, select_chains
from slt_jax.typing import Params, PRNGKey

__all__ = ["sample_checkpoints"]

MEMORY_SHARE = 0.6
"""Of a device's free memory that chains may take; programs need some for themselves."""
COPIES = 4
"""Of a chain's state during a step: before, after, gradient and noise."""


@full_precision()
def sample_checkpoints(
    key: PRNGKey,
    posterior: LocalPosterior,
    centers: Params,
    kernel: Kernel,
    *,
    step_size: float | Sequence[float] | np.ndarray | jax.Array,
    num_chains: int = 4,
    at_once: int | None = None,
    **options: Any,
) -> list[Samples]:
    """Chains around many checkpoints of one model, in one compiled program.

    Every checkpoint gets the numbers that `sample` with the same key gives it alone, but for rounding: chain i of each uses
    `fold_in(key, i)`. Equal noise at all checkpoints makes their differences sharper than each estimate.

    Args:
        key: typed PRNG key.
        posterior: loss, data, nβ, γ and restriction, if any; its own center only says what a center looks like.
        centers: the checkpoints, one tree like the (whole) center whose leaves have a leading axis `checkpoint`:
            `jax.tree.map(lambda *leaves: jnp.stack(leaves), *checkpoints)`.
        kernel: as in `sample`.
        step_size: in the kernel's own meaning; one number, or one for each checkpoint.
        num_chains: chains per checkpoint.
        at_once: checkpoints sampled together; by default all, or as many as the memory of the devices holds. Programs of one
            call are equally wide, so that one compilation serves all.
        options: as in `sample`: `num_draws`, `num_burnin`, `thinning`, `metric` (the same for all), `observables`, ... A
            `state_path` becomes one file for each lot of checkpoints, `state.0-39.npz` say, if there are several.

    Returns:
        One `Samples` per checkpoint.

    Raises:
        TypeError, ValueError: as `sample`; also if `centers` is not a stack of trees like the center, or `step_size` has another
            length.

    Example:
        >>> import jax, jax.numpy as jnp, slt_jax
        >>> x = jax.random.normal(jax.random.key(0), (100, 2))
        >>> def loss_fn(w, batch):
        ...     return (batch["x"] @ w - batch["y"]) ** 2
        >>> w = jnp.array([1.0, -1.0])
        >>> posterior = slt_jax.LocalPosterior(loss_fn, {"x": x, "y": x @ w}, w, 20.0, 1.0)
        >>> centers = jnp.stack([w, w + 0.1, w - 0.1])
        >>> several = slt_jax.sample_checkpoints(
        ...     jax.random.key(1), posterior, centers, slt_jax.sgld(10), step_size=1e-3, num_draws=50
        ... )
        >>> [samples.loss.shape for samples in several]
        [(4, 50), (4, 50), (4, 50)]
    """
    check_on_host("sample_checkpoints", key, posterior, centers, step_size)
    check_posterior(posterior)
    check_kernel(kernel)
    count = check_centers(centers, posterior)
    num_chains = check_count("num_chains", num_chains)
    steps = _step_sizes(step_size, count)
    posterior = at_center(posterior, jax.tree.map(lambda leaf: leaf[0], centers))
    _check_options(posterior, options)
    most = _fitting(posterior, kernel, num_chains, options) if at_once is None else check_count("at_once", at_once)
    width = -(-count // -(-count // min(most, count)))
    state_path = options.pop("state_path", None)
    found: list[Samples] = []
    for first in range(0, count, width):
        # The last lot is as wide as the others: it is filled up with its last checkpoint, whose copies are thrown away.
        numbers = np.minimum(np.arange(first, first + width), count - 1)
        settings = _settings(posterior, centers, steps, numbers, num_chains)
        path = state_path if width >= count or state_path is None else _part(Path(state_path), first, int(numbers[-1]))
        samples = sample_chains(key, posterior, kernel, settings, state_path=path, **options)
        samples = select_chains(samples, slice(0, None))  # on one device, once for all checkpoints
        wanted = range(min(width, count - first))
        found += [select_chains(samples, slice(i * num_chains, (i + 1) * num_chains)) for i in wanted]
    return found


def _check_options(posterior: LocalPosterior, options: dict[str, Any]) -> None:
    """Refuse options of `sample` before memory is counted by them."""
    check_count("num_draws", options.get("num_draws", 1))
    check_count("num_burnin", options.get("num_burnin", 0), least=0)
    given = {"baseline": "paired", "should_stop": never, **options}
    names = ("observables", "statistics", "baseline", "layout", "devices", "state_path", "should_stop", "inspection")
    check_options(posterior, **{name: given.get(name) for name in names})


def _settings(
    posterior: LocalPosterior, centers: Params, steps: np.ndarray, numbers: np.ndarray, num_chains: int
) -> ChainSettings:
    """Those of `num_chains` chains at each of the checkpoints `numbers`."""
    which = np.repeat(numbers, num_chains)
    spread = partial(jnp.full, (len(which),), dtype=jnp.float32)
    return ChainSettings(
        step_size=jnp.asarray(steps[which], jnp.float32),
        nbeta=spread(float(posterior.nbeta)),
        localization=spread(float(posterior.localization)),
        center=OwnCenter(jnp.asarray(which), jax.tree.map(lambda leaf: jnp.asarray(leaf)[which], centers)),
        stream=jnp.asarray(np.tile(np.arange(num_chains), len(numbers))),
    )


def _step_sizes(step_size: Any, count: int) -> np.ndarray:
    """`step_size` of every checkpoint, `(count,)`."""
    if not isinstance(step_size, list | tuple | np.ndarray | jax.Array) or np.ndim(step_size) == 0:
        check_number("step_size", step_size, above=True)
        return np.full(count, float(step_size))
    if np.shape(step_size) != (count,):
        raise ValueError(
            f"step_size is {describe(step_size)} for {count} checkpoints; give one number, or one for each checkpoint"
        )
    for value in step_size:
        check_number("step_size", value, above=True)
    return np.asarray(step_size, np.float64)


def _part(path: Path, first: int, last: int) -> Path:
    """The state file of one lot of checkpoints."""
    return path.with_name(f"{path.stem}.{first}-{last}{path.suffix}")


def _fitting(posterior: LocalPosterior, kernel: Kernel, num_chains: int, options: dict[str, Any]) -> int:
    """How many checkpoints the memory of the devices holds, at least one."""
    devices = options.get("devices") or jax.devices()
    free = sum(_free_bytes(device) for device in devices) if devices[0].platform != "cpu" else _free_bytes(devices[0])
    together = (options.get("layout") or default_layout()) == "vmap"
    each = _chain_bytes(posterior, kernel, options) + (_step_bytes(posterior, kernel) if together else 0)
    return max(1, int(MEMORY_SHARE * free / (num_chains * each)))


def _free_bytes(device: jax.Device) -> int:
    """Memory that nothing holds yet: of an accelerator, or of the machine."""
    stats = device.memory_stats() if device.platform != "cpu" else None
    if stats and "bytes_limit" in stats:
        return stats["bytes_limit"] - stats.get("bytes_in_use", 0)
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _chain_bytes(posterior: LocalPosterior, kernel: Kernel, options: dict[str, Any]) -> int:
    """What a chain holds: center and losses there, state, statistics, and the trace of a chunk."""
    key = jax.random.key(0)
    chain = jax.eval_shape(lambda: init_chain(key, posterior, kernel, options.get("statistics")))
    whole = posterior.center if posterior.whole is None else posterior.whole
    seen = jax.eval_shape(lambda: [one(whole) for one in (options.get("observables") or {}).values()])
    draws = min(LONGEST_CHUNK, max(options.get("num_draws", 1000), options.get("num_burnin") or 0))
    losses = 4 * posterior.n
    return _bytes(whole) + losses + COPIES * _bytes(chain) + draws * (_bytes(seen) + 3 * 4)


def _step_bytes(posterior: LocalPosterior, kernel: Kernel) -> int:
    """What the compiler wants beside it for one step of one chain: activations above all."""

    leaves, structure = jax.tree.flatten(posterior)

    def step(leaves: list[Any], key: PRNGKey) -> Any:
        local = jax.tree.unflatten(structure, leaves)
        return kernel.step(key, kernel.init(key, local), local, 1e-3)

    analysis = jax.jit(step).lower(leaves, jax.random.key(0)).compile().memory_analysis()
    return 0 if analysis is None else int(analysis.temp_size_in_bytes)


def _bytes(tree: Any) -> int:
    return sum(math.prod(leaf.shape) * _itemsize(leaf) for leaf in jax.tree.leaves(tree))


def _itemsize(leaf: Any) -> int:
    return 8 if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) else leaf.dtype.itemsize
