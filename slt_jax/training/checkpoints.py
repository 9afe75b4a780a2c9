"""Checkpoints on disk, through orbax: parameters at chosen steps for good, the full train state of the last two."""

import json
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from slt_jax.files import only_writer, reason, replace_file
from slt_jax.identity import check_same, close, record, unordered
from slt_jax.trees import path_string
from slt_jax.typing import Params

__all__ = ["CheckpointStore"]


# What orbax and the formats under it raise on a damaged checkpoint.
READER_ERRORS = (ValueError, KeyError, OSError, TypeError, AttributeError, IndexError)


class CheckpointStore:
    """Parameters by step, and the newest full train state for exact resume. Each save appears whole or not at all.

    Args:
        directory: made if missing; holds `params/`, `train_state/`, and the record of what its training follows from.

    Raises:
        ValueError: if what is there cannot be opened.

    Example:
        >>> import tempfile, numpy as np
        >>> from slt_jax.training.checkpoints import CheckpointStore
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     store = CheckpointStore(folder)
        ...     store.save_params(10, {"w": np.ones(2, np.float32)})
        ...     store.wait()
        ...     print(store.steps(), store.params(10, like={"w": np.zeros(2, np.float32)})["w"].tolist())
        [10] [1.0, 1.0]
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory).absolute()
        self._params = self._manager("params", ocp.CheckpointManagerOptions())
        self._states = self._manager("train_state", ocp.CheckpointManagerOptions(max_to_keep=2))

    def _manager(self, name: str, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
        try:
            return ocp.CheckpointManager(
                self.directory / name, item_handlers=ocp.StandardCheckpointHandler(), options=options
            )
        except READER_ERRORS as error:
            raise ValueError(
                f"the checkpoints in {self.directory / name} cannot be opened ({reason(error)}); {self._again}"
            ) from error

    @property
    def _again(self) -> str:
        return f"delete the folder {self.directory} to train again"

    def claim(self, identity: Mapping[str, str], first_numbers: Callable[[], list[float]]) -> None:
        """Record what the training in this store follows from; refuse the store of another training.

        Args:
            identity: name -> digest of everything that the checkpoints follow from.
            first_numbers: makes a few numbers of the training, kept to know it by under another version of jax.

        Checkpoints without a record, from before there was one, are taken for this training's, with a warning.

        Raises:
            ValueError: if the record is another's or cannot be read.
        """
        path = self.directory / "identity.json"
        if path.exists():
            try:
                stored = json.loads(path.read_text())
                before = {"identity": dict(stored["identity"]), "jax": str(stored["jax"])}
                numbers = np.asarray(stored["first_numbers"], np.float64)
            except (ValueError, OSError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{path} cannot be read ({reason(error)}), so nothing says which training these checkpoints are of; "
                    f"{self._again}"
                ) from error
            remedy = "give another store, or delete that folder"
            what = f"the store of checkpoints {self.directory}"
            return check_same(
                what, before, identity, same_numbers=lambda: close(numbers, np.asarray(first_numbers())), remedy=remedy
            )
        if self.steps() or self._states.all_steps():
            warnings.warn(
                f"the checkpoints in {self.directory} do not say which training they are of; they are taken for this one's, "
                "and say so from now on: delete that folder if they are of another",
                stacklevel=3,
            )
        replace_file(path, json.dumps({**record(identity), "first_numbers": first_numbers()}, indent=1).encode())

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Hold the store for this call alone, until all that was saved is on disk: two processes that save into one store wreck it.

        Raises:
            ValueError: if another call holds it, or nothing can be written there.
        """
        lock = self.directory / "writer.lock"
        with only_writer(lock, f"the store of checkpoints {self.directory}", "give another store"):
            try:
                yield
            finally:
                self.wait()

    def save(self, step: int, params: Params, state: Any) -> None:
        """Keep `params` for good and `state` until two newer ones exist; returns before the disk is done."""
        _save(self._params, step, params)
        _save(self._states, step, state)

    def save_params(self, step: int, params: Params) -> None:
        """Keep `params` for good; `step` may be older than what is stored."""
        _save(self._params, step, params)

    def save_state(self, step: int, state: Any) -> None:
        """Keep `state` until two newer ones exist."""
        _save(self._states, step, state)

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
            ValueError: if there is no such checkpoint, it cannot be read, or `like` has other leaves, shapes or types.
        """
        if step not in self._params.all_steps():
            raise ValueError(f"no checkpoint at step {step} in {self.directory}; stored steps are {self.steps()}")
        return _restore(self._params, step, like, remedy=self._again)

    def restore_state(self, like: Any) -> Any | None:
        """The newest full train state in the structure of `like`, or `None` if there is none.

        Raises:
            ValueError: if it is there and cannot be read, or `like` has other leaves, shapes or types.
        """
        step = self._states.latest_step()
        if step is None:
            return None
        state = _restore(self._states, step, like, remedy="delete that folder to go on from the state before it")
        return jax.tree.map(jax.numpy.asarray, state)


def _save(manager: ocp.CheckpointManager, step: int, tree: Any) -> None:
    if step in manager.all_steps():
        return
    tree = jax.tree.map(np.asarray, tree)  # now: the training loop donates its buffers while orbax still writes
    manager.save(step, args=ocp.args.StandardSave(tree), custom_metadata={"digest": unordered(tree)}, force=True)


def _restore(manager: ocp.CheckpointManager, step: int, like: Any, remedy: str) -> Any:
    path = Path(manager.directory) / str(step)
    try:
        found, digest = _read(manager, step, like)
    except READER_ERRORS as error:
        other = _other_leaves(manager, step, like)
        if other:
            raise ValueError(f"checkpoint {path} {other}; give the structure it was saved in") from error
        raise ValueError(f"checkpoint {path} cannot be read ({type(error).__name__}); {remedy}") from error
    if digest not in (None, unordered(found)):
        raise ValueError(f"checkpoint {path} cannot be read (its numbers are not those that were saved); {remedy}")
    for (leaf_path, given), stored in zip(
        jax.tree_util.tree_leaves_with_path(like), jax.tree.leaves(found), strict=True
    ):
        if (given.shape, given.dtype) != (stored.shape, stored.dtype):
            raise ValueError(
                f"checkpoint {path} has {stored.dtype}{list(stored.shape)} at '{path_string(leaf_path)}', and like "
                f"{given.dtype}{list(given.shape)}; give the shapes and types that were saved"
            )
    return found


def _read(manager: ocp.CheckpointManager, step: int, like: Any) -> tuple[Any, str | None]:
    """The arrays as they lie on the disk, in the structure of `like`, and the digest they were saved with, if with one."""
    # A numpy target restores onto whatever devices there are; one with shardings would pin the old ones. No shape or type is
    # asked for: orbax would cast to the one and pass over the other.
    target = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
    options = jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), like)
    digest = (manager.metadata(step).custom_metadata or {}).get("digest")
    with ocp.Checkpointer(ocp.PyTreeCheckpointHandler()) as reader:
        found = reader.restore(
            Path(manager.directory) / str(step) / "default", args=ocp.args.PyTreeRestore(target, restore_args=options)
        )
    return found, digest


def _other_leaves(manager: ocp.CheckpointManager, step: int, like: Any) -> str | None:
    """How the leaves of a checkpoint are not those of `like`; `None` if they are, or if nothing can be read."""
    try:
        stored = _leaf_names(manager.item_metadata(step).tree)
    except READER_ERRORS:
        return None
    given = _leaf_names(like)
    if stored == given:
        return None
    return f"has other leaves than like: {sorted(stored - given) or 'none'} there alone, {sorted(given - stored) or 'none'} in like alone"


def _leaf_names(tree: Any) -> set[str]:
    return {path_string(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)}
