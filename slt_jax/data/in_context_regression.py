"""In-context linear regression: sequences of (x, y) pairs that share one task vector, and the two predictors that bound
what can be learned from them.

    t ~ N(0, I_D),  x_k ~ N(0, I_D),  y_k = t·x_k + N(0, σ²)            (Garg et al. 2022; arXiv 2402.02364, section 3)
"""

import jax
import jax.numpy as jnp
from jaxtyping import Float

from slt_jax.typing import Array, Batch, PRNGKey

__all__ = ["dmmse_predictions", "ridge_predictions", "sample_sequences", "sample_tasks"]


def sample_tasks(key: PRNGKey, num_tasks: int, *, task_dim: int = 4) -> Float[Array, "task dim"]:
    """Task vectors t ~ N(0, I_D), nested: for one key the first tasks of a larger set are the smaller set.

    Args:
        key: typed PRNG key.
        num_tasks: M.
        task_dim: D.

    Raises:
        ValueError: if `num_tasks` is below 1.

    Example:
        >>> import jax
        >>> from slt_jax.data.in_context_regression import sample_tasks
        >>> few, many = sample_tasks(jax.random.key(0), 2), sample_tasks(jax.random.key(0), 5)
        >>> many.shape, bool((many[:2] == few).all())
        ((5, 4), True)
    """
    if num_tasks < 1:
        raise ValueError(f"num_tasks = {num_tasks}; at least one task is needed")
    keys = jax.vmap(lambda index: jax.random.fold_in(key, index))(jnp.arange(num_tasks))
    return jax.vmap(lambda one: jax.random.normal(one, (task_dim,)))(keys)


def sample_sequences(
    key: PRNGKey,
    num_sequences: int,
    *,
    task_dim: int = 4,
    num_examples: int = 8,
    noise_variance: float = 0.125,
    tasks: Float[Array, "task dim"] | None = None,
    input_scale: float = 1.0,
    task_scale: float = 1.0,
) -> Batch:
    """Fresh sequences `{"x": (batch, K, D), "y": (batch, K)}`.

    Args:
        key: typed PRNG key.
        num_sequences: batch size.
        task_dim: D.
        num_examples: K.
        noise_variance: σ².
        tasks: draw each sequence's task uniformly from these rows instead of from N(0, I).
        input_scale, task_scale: multiply x and t, for out-of-distribution inputs and tasks.

    Example:
        >>> import jax
        >>> from slt_jax.data.in_context_regression import sample_sequences
        >>> batch = sample_sequences(jax.random.key(0), 3)
        >>> batch["x"].shape, batch["y"].shape
        ((3, 8, 4), (3, 8))
    """
    task_key, input_key, noise_key = jax.random.split(key, 3)
    if tasks is None:
        task = jax.random.normal(task_key, (num_sequences, task_dim))
    else:
        task = tasks[jax.random.randint(task_key, (num_sequences,), 0, tasks.shape[0])]
    x = input_scale * jax.random.normal(input_key, (num_sequences, num_examples, task_dim))
    noise = noise_variance**0.5 * jax.random.normal(noise_key, (num_sequences, num_examples))
    return {"x": x, "y": jnp.einsum("bkd,bd->bk", x, task_scale * task) + noise}


def ridge_predictions(batch: Batch, noise_variance: float = 0.125) -> Float[Array, "batch example"]:
    """The Bayes-optimal prediction of each y_k from the pairs before it: ridge regression with penalty σ².

    The posterior mean of t under t ~ N(0, I) is (XᵀX + σ²I)⁻¹ Xᵀy over the first k - 1 pairs. It is updated pair by pair
    (the Kalman filter of a constant state), so that nothing has to be solved: two batched LAPACK solves in one program block
    each other for good where XLA's thread pool has only two threads (jaxlib 0.10, `ParallelBatchMap`).

    Example:
        >>> import jax
        >>> from slt_jax.data.in_context_regression import ridge_predictions, sample_sequences
        >>> predictions = ridge_predictions(sample_sequences(jax.random.key(0), 3))
        >>> predictions.shape, predictions[:, 0].tolist()  # nothing is known before the first pair
        ((3, 8), [0.0, 0.0, 0.0])
    """

    def one(x: Array, y: Array) -> Array:
        dim = x.shape[-1]

        def pair(belief: tuple[Array, Array], new: tuple[Array, Array]) -> tuple[tuple[Array, Array], Array]:
            mean, covariance = belief
            x, y = new
            predicted = x @ mean
            spread = covariance @ x
            gain = spread / (x @ spread + noise_variance)
            return (mean + gain * (y - predicted), covariance - jnp.outer(gain, spread)), predicted

        return jax.lax.scan(pair, (jnp.zeros(dim), jnp.eye(dim)), (x, y))[1]

    return jax.vmap(one)(batch["x"], batch["y"])


def dmmse_predictions(
    batch: Batch, tasks: Float[Array, "task dim"], noise_variance: float = 0.125
) -> Float[Array, "batch example"]:
    """The Bayes-optimal prediction of each y_k from the pairs before it when the task is one of `tasks`, all as likely.

    The posterior mean of t over the M tasks, weights ∝ exp(-Σ_{j<k} (y_j - t·x_j)²/(2σ²)); the discrete minimum mean squared
    error predictor of Raventós et al. 2023 (arXiv 2306.15063, eq. 3).

    Args:
        batch: sequences.
        tasks: shape `(M, D)`.
        noise_variance: σ².

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from slt_jax.data.in_context_regression import dmmse_predictions, sample_sequences, sample_tasks
        >>> task = sample_tasks(jax.random.key(0), 1)
        >>> batch = sample_sequences(jax.random.key(1), 3, tasks=task, noise_variance=0.0)
        >>> bool(jnp.allclose(dmmse_predictions(batch, task), batch["y"], atol=1e-4))  # with one task nothing is to be learned
        True
    """
    answers = jnp.einsum("bki,mi->bmk", batch["x"], tasks)
    squared_errors = (batch["y"][:, None, :] - answers) ** 2
    before = jnp.cumsum(squared_errors, axis=-1) - squared_errors
    weights = jax.nn.softmax(-before / (2 * noise_variance), axis=1)
    return jnp.sum(weights * answers, axis=1)
