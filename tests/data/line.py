"""The smallest experiment: a line through points, trained for each seed; its LLC, and how long its weights are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from slt_lab import Experiment, Page, Picture, Sampling, Section, Subject, Table, Variable
from slt_lab.measures.llc import LLC

SLOPES = jnp.array([1.0, -2.0, 0.5])


@dataclass(frozen=True)
class Line:
    seeds: tuple[int, ...] = (0, 1)
    num_steps: int = 40
    learning_rate: float = 0.05
    sampling: Sampling = field(
        default_factory=lambda: Sampling(
            num_examples=64, nbeta=15.0, localization=1.0, step_size=1e-3, batch_size=16, num_draws=40, num_burnin=20
        )
    )


def tiny() -> Line:
    """Seconds."""
    return Line()


def points(count: int, key: jax.Array) -> dict[str, jax.Array]:
    where, noise = jax.random.split(key)
    x = jax.random.normal(where, (count, 3))
    return {"x": x, "y": x @ SLOPES + 0.1 * jax.random.normal(noise, (count,))}


def loss(params: jax.Array, batch: dict[str, jax.Array]) -> jax.Array:
    return (batch["x"] @ params - batch["y"]) ** 2


def batches(key: jax.Array, step: jax.Array, data: Any) -> dict[str, jax.Array]:
    del step, data
    return points(8, key)


def subjects(config: Line, folder: Any) -> dict[int, Subject]:
    del folder
    return {
        seed: Subject(
            name=f"seed_{seed}",
            identity=(seed, config.num_steps, config.learning_rate),
            loss_fn=loss,
            init=partial(jnp.full, (3,), float(seed)),
            posterior_data=partial(points, key=jax.random.key(1)),
            chains_key=jax.random.key(2),
            num_steps=config.num_steps,
            batches=batches,
            optimizer=optax.sgd(config.learning_rate),
            training_key=jax.random.key(seed),
            save_at=(0, config.num_steps // 2, config.num_steps),
        )
        for seed in config.seeds
    }


@dataclass(frozen=True)
class Length:
    name: str = "length"
    axis: str = "step"

    def steps(self, subject: Subject) -> Sequence[int]:
        return subject.save_at

    def take(self, subject: Subject, params: jax.Array) -> Mapping[str, Any]:
        return {"length": jnp.linalg.norm(params)}

    def variables(self, subject: Subject) -> Mapping[str, Variable]:
        return {"length": Variable((), "Euclidean norm of the weights")}

    def coords(self, subject: Subject) -> Mapping[str, Sequence]:
        return {}


def page(results: Any, config: Line) -> Page:
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots()
    ax.plot(results.step, results.length.T)
    rows = [[str(seed), f"{float(results.llc.sel(seed=seed)[-1]):.3f}"] for seed in results.seed.values]
    return Page(
        "line", "A line.", [Section("LLC", table=Table(["seed", "LLC"], rows), figures=[Picture("length", figure, "Length.")])],
        summary={"llc": results.llc.values.tolist(), "length": results.length.values.tolist()},
    )  # fmt: skip


EXPERIMENT = Experiment(
    name="line", summary="a line through points", configs={"tiny": tiny}, axis="seed", subjects=subjects,
    measures=lambda config: [Length(), LLC(config.sampling)], page=page,
)  # fmt: skip
