"""What a checkpoint answers and how it is built: behaviour, structure and outputs, at every step that is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from slt_jax.analysis import regression_metrics as metrics
from slt_jax.models.regression_transformer import RegressionTransformer, predictions
from slt_jax.typing import Array, Batch, Params
from slt_lab.measure import Variable
from slt_lab.settings import up_to
from slt_lab.streams import stream
from slt_lab.subjects.regression_transformer import RegressionSubject, sequences

__all__ = ["Behaviour"]

SCALES = (3.0, 5.0, 10.0)  # how much larger inputs and tasks are out of distribution, as in the paper
NUM_OUTPUT_SEQUENCES = 1024  # of the fixed batch of essential dynamics

SQUARED = "squared units"
DESCRIBED = {
    "loss": Variable((), "mean squared error", SQUARED),
    "loss_token": Variable(("example",), "mean squared error of each prediction in its sequence", SQUARED),
    "icl_score": Variable((), "loss at the last example minus loss at the first", SQUARED),
    "zero_prediction": Variable((), "mean squared prediction", SQUARED),
    "task_prior": Variable((), "mean squared distance to the prediction of the mean task", SQUARED),
    "distance_to_ridge": Variable((), "mean squared distance to ridge regression", SQUARED),
    "ood_input_icl": Variable(("scale",), "ICL score on inputs g times as large, divided by g", SQUARED),
    "ood_task_icl": Variable(("scale",), "ICL score on tasks g times as large, divided by g", SQUARED),
    "token_spectrum": Variable(("token_mode",), "share of each mode of the token embedding"),
    "position_spectrum": Variable(("position_mode",), "share of each mode of the position embedding"),
    "effective_unembedding": Variable(("width",), "final LayerNorm weights times the row of the prediction"),
    "attention_entropy": Variable(("layer", "head"), "attention entropy, 1 for uniform attention"),
    "attention_variability": Variable(("layer", "head"), "total variation of attention over sequences"),
    "attention_distance": Variable(("layer", "head"), "mean distance attended to", "tokens"),
    "weight_norm": Variable((), "Euclidean norm of all parameters"),
    "outputs": Variable(("output",), "predictions on fixed sequences", "units of y"),
}
NORMS = {
    "collapse": "share of the weights below 0.1 in LayerNorm",
    "norm_mean": "mean modulus of the weights of LayerNorm",
}
"""Of every LayerNorm: variables are called `collapse.NORM` and `norm_mean.NORM`."""


class Sequences(NamedTuple):
    """Those a checkpoint is evaluated on: ordinary ones, and for each scale larger inputs and larger tasks."""

    ordinary: Batch
    inputs: list[Batch]
    tasks: list[Batch]


@dataclass(frozen=True)
class Behaviour:
    """Every metric of the paper, on sequences that are the same for every seed.

    Attributes:
        num_sequences: ordinary ones; of each of the six larger kinds there are a quarter as many.
        asked: steps that other measures ask for, beside those that are kept in any case.
    """

    num_sequences: int
    asked: tuple[int, ...] = field(default=(), repr=False)
    name: str = "behaviour"
    axis: str = "step"

    def steps(self, subject: RegressionSubject) -> Sequence[int]:
        return sorted({*subject.save_at, *up_to(subject.num_steps, self.asked)})

    def take(self, subject: RegressionSubject, params: Params) -> Mapping[str, Any]:
        return _row(subject.model, params, _evaluation(subject.model, self.num_sequences))

    def variables(self, subject: RegressionSubject) -> Mapping[str, Variable]:
        evaluated = partial(_row, subject.model, batches=_evaluation(subject.model, self.num_sequences))
        names = jax.eval_shape(evaluated, jax.eval_shape(subject.init))
        return {name: DESCRIBED.get(name) or _of_norm(name) for name in names}

    def coords(self, subject: RegressionSubject) -> Mapping[str, Sequence]:
        del subject
        return {"scale": SCALES}


def _of_norm(name: str) -> Variable:
    kind, _, norm = name.partition(".")
    return Variable((), f"{NORMS[kind]} {norm}")


@lru_cache(maxsize=1)  # the same at every checkpoint
def _evaluation(model: RegressionTransformer, num_sequences: int) -> Sequences:
    draw = partial(sequences, model, stream("regression/evaluation"))
    fewer = max(1, num_sequences // 4)
    return Sequences(
        draw(num_sequences),
        [draw(fewer, input_scale=scale) for scale in SCALES],
        [draw(fewer, task_scale=scale) for scale in SCALES],
    )


def _row(model: RegressionTransformer, params: Params, batches: Sequences) -> dict[str, Array]:
    row: dict[str, Array] = dict(metrics.behaviour(model, params, batches.ordinary))
    row["icl_score"] = metrics.icl_score(row["loss_token"])
    for name, larger in (("ood_input_icl", batches.inputs), ("ood_task_icl", batches.tasks)):
        scores = [
            metrics.out_of_distribution(model, params, batch, scale)["icl_score"]
            for batch, scale in zip(larger, SCALES, strict=True)
        ]
        row[name] = jnp.stack(scores)
    row |= {f"collapse.{name.replace('/', '.')}": share for name, share in metrics.norm_collapse(params).items()}
    row |= {f"norm_mean.{name.replace('/', '.')}": mean for name, mean in metrics.norm_means(params).items()}
    row |= {f"{name}_spectrum": shares for name, shares in metrics.embedding_spectra(params).items()}
    row["effective_unembedding"] = metrics.effective_unembedding(params)
    first = jax.tree.map(lambda leaf: leaf[:NUM_OUTPUT_SEQUENCES], batches.ordinary)
    row |= {f"attention_{name}": value for name, value in metrics.attention(model, params, first).items()}
    row["weight_norm"] = metrics.weight_norm(params)
    row["outputs"] = jnp.ravel(predictions(model, params, first)).astype(jnp.float32)
    return row
