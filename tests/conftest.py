"""Strict numerics for every test: silent rank promotion is an error, as are warnings (see pyproject.toml)."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "agg")

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True, scope="module")
def _compiled_programs_go_with_their_module():
    """Every compiled program holds memory maps, of which a Linux process may have 65,530: the whole suite needs more."""
    yield
    jax.clear_caches()
