"""How chains are laid out on devices: sharded across them, and batched or taken in turn on each.

On an accelerator chains are a batch axis (`vmap`): its matrix units want large products. On a CPU a chain's working set
should stay in cache, so each device runs its chains one after another (`lax.map`) and the devices are cores
(`--xla_force_host_platform_device_count`); measured by `benchmarks/throughput.py`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

__all__ = ["Layout", "chain_mesh", "default_layout", "map_chains", "replicate"]

Layout: TypeAlias = Literal["vmap", "map"]


def default_layout() -> Layout:
    """`"map"` on CPU, `"vmap"` on accelerators."""
    return "map" if jax.default_backend() == "cpu" else "vmap"


def chain_mesh(num_chains: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh `chain` over as many devices as divide `num_chains` evenly."""
    devices = list(jax.devices() if devices is None else devices)
    count = max(size for size in range(1, len(devices) + 1) if num_chains % size == 0)
    return jax.make_mesh((count,), ("chain",), devices=devices[:count], axis_types=(AxisType.Auto,))


def map_chains(function: Callable, mesh: Mesh, layout: Layout) -> Callable:
    """`(per_chain, shared) -> out`: apply `function(per_chain_i, shared)` to every chain; per-chain leaves and outputs
    have a leading chain axis, shared leaves are replicated."""

    def on_device(per_chain: Any, shared: Any) -> Any:
        one = partial(_call, function, shared)
        return jax.vmap(one)(per_chain) if layout == "vmap" else jax.lax.map(one, per_chain)

    if mesh.size == 1:
        return on_device
    chains, everywhere = PartitionSpec("chain"), PartitionSpec()
    # check_vma=False: no collective is used, and the chains' loop carries start from replicated constants.
    return jax.shard_map(on_device, mesh=mesh, in_specs=(chains, everywhere), out_specs=chains, check_vma=False)


def replicate(tree: Any, mesh: Mesh) -> Any:
    """`tree` with a copy of every array on each device of `mesh`, made once instead of at each call of a program."""
    return jax.device_put(tree, mesh.devices.item() if mesh.size == 1 else NamedSharding(mesh, PartitionSpec()))


def _call(function: Callable, shared: Any, per_chain: Any) -> Any:
    return function(per_chain, shared)
