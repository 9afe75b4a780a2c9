"""The sweep against the exact finite-step value at every point of its grid, and its compile count."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax.estimators.sweep import sweep
from slt_jax.posterior import LocalPosterior
from slt_jax.sampling import driver
from slt_jax.sampling.sgld import sgld
from slt_jax.theory import quadratic_sgld_llc

CURVATURES = [1.0, 0.5, 0.1]


def quadratic(params, batch):
    return jnp.broadcast_to(0.5 * jnp.sum(jnp.array(CURVATURES) * params**2), batch.shape)


def posterior():
    return LocalPosterior(quadratic, jnp.zeros(2), jnp.zeros(3), 100.0, 10.0)


def test_every_point_of_the_grid_is_exact_and_all_are_one_program():
    before = driver._advance._cache_size()
    grid = {"step_sizes": [1e-3, 1e-2], "nbetas": [100.0, 300.0], "localizations": [5.0, 50.0]}
    result = sweep(
        jax.random.key(0), posterior(), sgld(None), **grid, num_chains=16, num_draws=4000, num_burnin=800, layout="vmap"
    )
    assert driver._advance._cache_size() == before + 1
    assert result.mean.shape == (2, 2, 2)
    for index in np.ndindex(result.mean.shape):
        step_size, nbeta, localization = (axis[i] for axis, i in zip(grid.values(), index, strict=True))
        exact = quadratic_sgld_llc(CURVATURES, nbeta, localization, step_size)
        assert abs(result.mean[index] - exact) < 4 * result.std_error[index]
        assert result.std_error[index] < 0.05 * exact


def test_the_posteriors_own_settings_are_the_default_axes_and_unstable_points_are_nan():
    result = sweep(jax.random.key(0), posterior(), sgld(None), step_sizes=[1e-3, 1.0], num_draws=300)
    assert result.mean.shape == (2, 1, 1)
    assert result.nbetas == [100.0]
    assert result.localizations == [10.0]
    assert np.isfinite(result.mean[0, 0, 0])
    assert np.isnan(result.mean[1, 0, 0])
    assert "smaller step_size" in result.estimates[1, 0, 0].status


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ({"step_sizes": []}, "step_sizes has shape"),
        ({"step_sizes": [1e-3, -1.0]}, "step_sizes = "),
        ({"step_sizes": [1e-3], "nbetas": [0.0]}, "nbetas = "),
        ({"step_sizes": [1e-3], "localizations": [-1.0]}, "localizations = "),
        ({"step_sizes": [1e-3], "num_chains": 0}, "num_chains = 0"),
    ],
)
def test_bad_axes_are_refused(axes, message):
    with pytest.raises(ValueError, match=message):
        sweep(jax.random.key(0), posterior(), sgld(None), num_draws=4, **axes)
