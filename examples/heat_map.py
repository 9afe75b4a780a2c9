"""How an LLC depends on step size and localisation: a grid in one program, and a picture.

python examples/heat_map.py [PICTURE]
"""

import sys

import jax
import matplotlib.pyplot as plt

import slt_jax
from slt_jax.models.singular import reduced_rank
from slt_jax.plotting import plot_heat_map

model = reduced_rank(4, 2, 4, rank=2)
posterior = slt_jax.LocalPosterior(model.loss_fn, model.data, model.center, nbeta=1000.0, localization=1.0)
kernel = slt_jax.sgld(None, integrator="leimkuhler_matthews")
step_size = slt_jax.calibrate(jax.random.key(0), posterior, kernel=kernel).step_size
swept = slt_jax.sweep(
    jax.random.key(1),
    posterior,
    kernel,
    step_sizes=[step_size / 4, step_size, 16 * step_size],
    localizations=[1.0, 100.0, 10_000.0],
    num_draws=1000,
    num_burnin=1000,
)
print("exact:", float(model.coefficient.learning_coefficient))
for estimate in swept.estimates[:, 0, 0]:
    print(f"step size {estimate.step_size:.2g}: {estimate}")
figure, ax = plt.subplots(layout="constrained")
labels = {"row_label": "step size", "column_label": "localisation", "value_label": "LLC"}
plot_heat_map(ax, swept.mean[:, 0, :], swept.step_sizes, swept.localizations, **labels)
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "heat_map.png")
