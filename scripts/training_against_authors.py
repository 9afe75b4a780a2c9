"""Loss, ICL score and zero prediction of a paper-scale run beside the authors' seeds 0 and 1.

python scripts/training_against_authors.py RUN_FOLDER --seed 1
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(Path.home() / ".cache" / "slt_jax" / "compiled"))

import jax
import jax.numpy as jnp
import numpy as np

from experiments.lrt_stages.authors import authors_curves
from experiments.lrt_stages.measure import EVALUATION, MODEL, SHARED_SEED, initial_params
from slt_jax.analysis.regression_metrics import behaviour, icl_score
from slt_jax.data.in_context_regression import sample_sequences
from slt_jax.training.checkpoints import CheckpointStore


def main() -> None:
    """Evaluate the stored checkpoints and print one row each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--sequences", type=int, default=16384)
    arguments = parser.parse_args()
    store = CheckpointStore(arguments.run / "checkpoints" / f"seed_{arguments.seed}")
    key = jax.random.fold_in(jax.random.key(SHARED_SEED), EVALUATION)
    batch, like = sample_sequences(key, arguments.sequences), initial_params(arguments.seed)
    curves = [authors_curves(seed) for seed in (0, 1)]
    print("   step    loss  theirs (seeds 0, 1)  difference    ICL  theirs         zero prediction  distance to ridge")
    for step in store.steps():
        found = behaviour(MODEL, jax.tree.map(jnp.asarray, store.params(step, like)), batch)
        loss, score = float(found["loss"]), float(icl_score(found["loss_token"]))
        at = np.log1p(step)
        losses = [float(np.interp(at, np.log1p(one.step), one.loss)) for one in curves]
        scores = [float(np.interp(at, np.log1p(one.step), one.icl_score)) for one in curves]
        print(
            f"{step:>7,}  {loss:6.3f}        {losses[0]:6.3f} {losses[1]:6.3f}     {loss / np.mean(losses) - 1:+7.1%}  "
            f"{score:5.2f}  {scores[0]:5.2f} {scores[1]:5.2f}  {float(found['zero_prediction']):16.4f}  "
            f"{float(found['distance_to_ridge']):16.3f}"
        )


if __name__ == "__main__":
    main()
