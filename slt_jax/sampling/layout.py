"""How chains are laid out on devices: sharded across them, and batched or taken in turn on each.

On an accelerator chains are a batch axis (`vmap`): its matrix units want large products. On a CPU a chain's working set
should stay in cache, so each device runs its chains one after another (`lax.map`) and the devices are cores
(`--xla_force_host_platform_device_count`); measured by `benchmarks/throughput.py`.

Every device has equally many chains. Where their number does not divide, copies of the last chain fill up, and what they record
is thrown away (`Rows`).

The devices may be those of several processes (`jax.distributed`), which then make the same calls with the same arguments. What
follows from a clock, a disk or a signal is agreed between them, and every process gets all that is recorded.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from slt_jax.backend import on_cpu
from slt_jax.trees import leading_axis

__all__ = ["Layout", "Rows", "advance_chains", "chain_mesh", "default_layout", "map_chains", "replicate"]

Layout: TypeAlias = Literal["vmap", "map"]


def default_layout() -> Layout:
    """`"map"` on CPU, `"vmap"` on accelerators."""
    return "map" if on_cpu() else "vmap"


def chain_mesh(num_chains: int, devices: Sequence[jax.Device] | None = None) -> Mesh:
    """A one-axis mesh `chain` over all devices, or as many of them as there are chains; over all if they are those of several
    processes, each of which must have its part."""
    devices = list(jax.devices() if devices is None else devices)
    if len({device.process_index for device in devices}) == 1:
        devices = devices[:num_chains]
    return jax.make_mesh((len(devices),), ("chain",), devices=devices, axis_types=(AxisType.Auto,))


class Rows(NamedTuple):
    """The chain axis of arrays: `num_chains` rows, filled up to equally many on each device of `mesh`.

    Attributes:
        mesh: from `chain_mesh`.
        num_chains: how many there are, those that fill up left out.
    """

    mesh: Mesh
    num_chains: int

    @property
    def total(self) -> int:
        """Number of rows on the devices."""
        return -(-self.num_chains // self.mesh.size) * self.mesh.size

    def spread(self, tree: Any) -> Any:
        """`tree`, whose leaves have `num_chains` rows, filled up with copies of the last row and cut over the devices."""
        if self.mesh.size == 1:
            return tree
        if self.total > self.num_chains:
            rows = np.minimum(np.arange(self.total), self.num_chains - 1)
            tree = jax.tree.map(lambda leaf: jnp.take(jnp.asarray(leaf), rows, axis=0), tree)
        return _place(tree, NamedSharding(self.mesh, PartitionSpec("chain")))

    @property
    def keeper(self) -> bool:
        """Whether this process reads and writes files, and shows progress."""
        return not self.mesh.is_multi_process or jax.process_index() == 0

    def agree(self, values: Any) -> Any:
        """A pytree of numbers as process 0 has it. Every process must call it."""
        if not self.mesh.is_multi_process:
            return values
        return multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, values))

    def any_of(self, flag: bool) -> bool:
        """Whether `flag` is true in some process. Every process must call it."""
        if not self.mesh.is_multi_process:
            return flag
        return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))

    def to_host(self, tree: Any) -> Any:
        """The `num_chains` rows of a `tree` of numbers, as numpy arrays. Every process must call it."""
        if self.mesh.is_multi_process:
            tree = multihost_utils.process_allgather(tree, tiled=True)
        return jax.tree.map(lambda leaf: np.asarray(leaf)[: self.num_chains], tree)

    def gather(self, tree: Any) -> Any:
        """The `num_chains` rows of a `tree` that lies on the devices; on one device, if some of its rows fill up or are another
        process's. Every process must call it."""
        if self.mesh.is_multi_process:
            return jax.tree.map(self._to_this_process, tree)
        if self.total == self.num_chains:
            return tree
        # Cutting rows off where they are spread would be a program with a collective for every leaf; see `select_chains`.
        tree = jax.device_put(tree, self.mesh.devices.flat[0])
        return jax.tree.map(lambda leaf: leaf[: self.num_chains], tree)

    def _to_this_process(self, leaf: jax.Array) -> jax.Array:
        if is_key(leaf):
            return jax.random.wrap_key_data(
                jnp.asarray(self.to_host(jax.random.key_data(leaf))), impl=jax.random.key_impl(leaf)
            )
        return jnp.asarray(self.to_host(leaf))


def map_chains(function: Callable, mesh: Mesh, layout: Layout) -> Callable:
    """`(per_chain, shared) -> out`: apply `function(per_chain_i, shared)` to every chain; per-chain leaves and outputs
    have a leading chain axis, shared leaves are replicated."""

    def on_device(per_chain: Any, shared: Any) -> Any:
        one = partial(_call, function, shared)
        return jax.vmap(one)(per_chain) if layout == "vmap" else jax.lax.map(one, per_chain)

    return _on_devices(on_device, mesh, (True, False))


def advance_chains(function: Callable, mesh: Mesh, layout: Layout) -> Callable:
    """`(chains, per_chain, shared) -> (chains, out)`: as `map_chains` of a `function(chain, per_chain_i, shared)` that returns the
    moved chain beside `out`.

    Chains that are taken in turn are moved where they stand: `lax.map` would keep all of them twice, before and after.
    """

    def in_turn(chains: Any, per_chain: Any, shared: Any) -> tuple[Any, Any]:
        def at(i: Any, tree: Any) -> Any:
            return jax.tree.map(lambda leaf: jax.lax.dynamic_index_in_dim(leaf, i, keepdims=False), tree)

        def put(i: Any, tree: Any, one: Any) -> Any:
            return jax.tree.map(lambda leaf, new: jax.lax.dynamic_update_index_in_dim(leaf, new, i, 0), tree, one)

        def move(i: Any, moved: tuple[Any, Any]) -> tuple[Any, Any]:
            chains, outs = moved
            chain, out = function(at(i, chains), at(i, per_chain), shared)
            return put(i, chains, chain), put(i, outs, out)

        out = jax.eval_shape(function, at(0, chains), at(0, per_chain), shared)[1]
        outs = jax.tree.map(lambda leaf: jnp.zeros((leading_axis(chains), *leaf.shape), leaf.dtype), out)
        return jax.lax.fori_loop(0, leading_axis(chains), move, (chains, outs))

    def on_device(chains: Any, per_chain: Any, shared: Any) -> tuple[Any, Any]:
        if layout == "vmap":
            return jax.vmap(function, in_axes=(0, 0, None))(chains, per_chain, shared)
        if leading_axis(chains) == 1:  # nothing is kept twice
            return jax.lax.map(lambda one: function(*one, shared), (chains, per_chain))
        return in_turn(chains, per_chain, shared)

    return _on_devices(on_device, mesh, (True, True, False))


def replicate(tree: Any, mesh: Mesh) -> Any:
    """`tree` with a copy of every array on each device of `mesh`, made once instead of at each call of a program."""
    if mesh.size == 1:
        return jax.device_put(tree, mesh.devices.item())
    return _place(tree, NamedSharding(mesh, PartitionSpec()))


def is_key(leaf: Any) -> bool:
    """Whether `leaf` is an array of typed PRNG keys."""
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _place(tree: Any, sharding: NamedSharding) -> Any:
    """`device_put`; to devices of several processes from the copy that each has, which must be the same."""
    if not sharding.mesh.is_multi_process:
        return jax.device_put(tree, sharding)

    def place(leaf: Any) -> Any:
        if is_key(leaf):
            return jax.random.wrap_key_data(place(jax.random.key_data(leaf)), impl=jax.random.key_impl(leaf))
        value = np.asarray(jnp.asarray(leaf))
        return jax.make_array_from_callback(value.shape, sharding, value.__getitem__)

    return jax.tree.map(place, tree)


def _call(function: Callable, shared: Any, per_chain: Any) -> Any:
    return function(per_chain, shared)


def _on_devices(on_device: Callable, mesh: Mesh, has_chains: tuple[bool, ...]) -> Callable:
    """`on_device` on every device of `mesh`, with its chains of the arguments that have a chain axis."""
    if mesh.size == 1:
        return on_device
    chains, everywhere = PartitionSpec("chain"), PartitionSpec()
    specs = tuple(chains if has_chain else everywhere for has_chain in has_chains)
    # check_vma=False: no collective is used, and the chains' loop carries start from replicated constants.
    return jax.shard_map(on_device, mesh=mesh, in_specs=specs, out_specs=chains, check_vma=False)
