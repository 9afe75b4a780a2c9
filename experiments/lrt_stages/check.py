"""What an `lrt-stages` configuration may not hold: numbers that are each in range and contradict each other."""

import itertools
import math
from collections.abc import Iterator

from configs.lrt_stages import LRTStages
from slt_lab.errors import UserError

__all__ = ["check"]


def check(config: LRTStages) -> None:
    """Refuse a configuration that contradicts itself.

    Raises:
        UserError: on the first contradiction.
    """
    for sentence in itertools.chain(_training(config), _sampling(config), _geometry(config), _ranks(config)):
        raise UserError(sentence)


def _training(config: LRTStages) -> Iterator[str]:
    training, model = config.training, config.model
    if not config.seeds:
        yield "seeds is empty; name at least one training seed"
    if model.width % model.num_heads:
        yield f"model.num_heads = {model.num_heads}; it must divide model.width = {model.width}"
    if training.num_steps > training.schedule_steps:
        yield (
            f"training.num_steps = {training.num_steps:,} is after the end of the schedule, where the learning rate is 0 "
            f"(training.schedule_steps = {training.schedule_steps:,}); raise that too"
        )
    for seed in config.refined.seeds:
        if seed not in config.seeds:
            yield f"refined.seeds names {seed}, which is not among seeds; name seeds that are trained"


def _sampling(config: LRTStages) -> Iterator[str]:
    sampling, num_steps = config.sampling, config.training.num_steps
    given = sampling.checkpoint_steps
    if given and min(given) > num_steps:
        yield (
            f"sampling.checkpoint_steps begin at {min(given):,}, after the last training step ({num_steps:,}); name earlier ones"
        )
    if sampling.method != "sgld" and sampling.metric_damping < sampling.localization:
        yield (
            f"sampling.metric_damping = {sampling.metric_damping:g}; it must be at least sampling.localization = "
            f"{sampling.localization:g}, which bounds the curvature of every direction from below"
        )
    if sampling.method == "underdamped" and sampling.persistence >= 1:
        yield f"sampling.persistence = {sampling.persistence:g}; it must be less than 1"


def _geometry(config: LRTStages) -> Iterator[str]:
    geometry, sampling = config.geometry, config.sampling
    if not geometry.num_probes:
        return
    if geometry.num_probes == 1:
        yield "geometry.num_probes = 1; the standard error needs at least 2 (0 leaves the geometry out)"
    if min(geometry.num_examples, sampling.num_examples) == 1:
        yield "geometry.num_examples = 1; the standard error of the Fisher trace needs at least 2, of sampling.num_examples"
    if geometry.rank and not sampling.localization:
        yield (
            "sampling.localization = 0; the effective dimension needs it positive (geometry.rank = 0 leaves that out)"
        )


def _ranks(config: LRTStages) -> Iterator[str]:
    """A Hessian has no more eigenvectors than there are parameters."""
    asked = {}
    if config.sampling.method != "sgld":
        asked["sampling.metric_rank"] = config.sampling.metric_rank
    if config.geometry.num_probes:
        asked["geometry.num_eigenvalues"] = config.geometry.num_eigenvalues
        asked["geometry.rank"] = config.geometry.rank
    count = _num_parameters(config) if any(asked.values()) else 0
    for name, rank in asked.items():
        if rank > count:
            yield f"{name} = {rank:,}; the model has {count:,} parameters"


def _num_parameters(config: LRTStages) -> int:
    import jax

    from experiments.lrt_stages.subject import model_of
    from slt_lab.subjects.regression_transformer import initial_params

    shapes = jax.eval_shape(lambda: initial_params(model_of(config), 0))
    return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))
