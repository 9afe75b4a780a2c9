"""How many cores there are to compute on; imports nothing, for it is asked before JAX is loaded."""

import os

__all__ = ["usable_cores"]


def usable_cores() -> int:
    """The cores this process may use (`taskset`, SLURM), not all of the machine's, where the system says so."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
