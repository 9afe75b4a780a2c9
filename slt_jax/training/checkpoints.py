"""Checkpoints on disk, through orbax: parameters at chosen steps for good, the full train state of the last two."""

from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from slt_jax.typing import Params

__all__ = ["CheckpointStore"]


class CheckpointStore:
    """Parameters by step, and the newest full train state for exact resume. Each save appears whole or not at all.

    Args:
        directory: made if missing; holds `params/` and `train_state/`.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).absolute()
        self._params = ocp.CheckpointManager(self.directory / "params", options=ocp.CheckpointManagerOptions())
        self._states = ocp.CheckpointManager(
            self.directory / "train_state", options=ocp.CheckpointManagerOptions(max_to_keep=2)
        )

    def save(self, step: int, params: Params, state: Any) -> None:
        """Keep `params` for good and `state` until two newer ones exist; returns before the disk is done."""
        # To numpy first: the training loop donates its buffers while orbax still writes.
        if step not in self._params.all_steps():
            self._params.save(step, args=ocp.args.StandardSave(jax.tree.map(np.asarray, params)))
        if step not in self._states.all_steps():
            self._states.save(step, args=ocp.args.StandardSave(jax.tree.map(np.asarray, state)))

    def wait(self) -> None:
        """Return when everything saved so far is on disk."""
        self._params.wait_until_finished()
        self._states.wait_until_finished()

    def steps(self) -> list[int]:
        """Steps whose parameters are stored, ascending."""
        return sorted(self._params.all_steps())

    def params(self, step: int, like: Params) -> Params:
        """Parameters at `step`, in the structure of `like` (arrays or shapes), as numpy arrays.

        Raises:
            ValueError: if there is no such checkpoint or it cannot be read.
        """
        if step not in self._params.all_steps():
            raise ValueError(f"no checkpoint at step {step} in {self.directory}; stored steps are {self.steps()}")
        return self._restore(self._params, step, like)

    def restore_state(self, like: Any) -> Any | None:
        """The newest full train state in the structure of `like`, or `None` if there is none.

        Raises:
            ValueError: if it is there and cannot be read.
        """
        step = self._states.latest_step()
        return None if step is None else jax.tree.map(jax.numpy.asarray, self._restore(self._states, step, like))

    def _restore(self, manager: ocp.CheckpointManager, step: int, like: Any) -> Any:
        # A numpy target restores onto whatever devices there are; one with shardings would pin the old ones.
        target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
        try:
            return manager.restore(step, args=ocp.args.StandardRestore(target))
        except (ValueError, KeyError, OSError, TypeError, AttributeError) as error:
            path = Path(manager.directory) / str(step)
            raise ValueError(
                f"checkpoint {path} cannot be read ({type(error).__name__}); delete that folder to compute it again"
            ) from error
