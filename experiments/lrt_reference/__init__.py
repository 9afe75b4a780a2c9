"""`lrt-reference`: what the fall of the LLC in LR4 consists of: the posterior, or chains that do not mix (arXiv 2402.02364)."""

from configs.lrt_reference import CONFIGS, LRTReference
from experiments.lrt_reference.check import check
from experiments.lrt_reference.measure import STARTS, AdjustedChain, LevelLLC
from experiments.lrt_reference.page import page
from slt_jax.models.regression_transformer import RegressionTransformer
from slt_lab.experiment import Experiment
from slt_lab.folder import RunFolder
from slt_lab.measure import Along, Measure
from slt_lab.measures.llc import LLC
from slt_lab.subjects.regression_transformer import RegressionSubject, regression_subject

__all__ = ["EXPERIMENT"]


def subjects(config: LRTReference, folder: RunFolder) -> dict[int, RegressionSubject]:
    """The trainings of `lrt-stages`; its checkpoints are taken over from a run folder beside this one."""
    del folder
    shape, training = config.model, config.training
    model = RegressionTransformer(
        width=shape.width, num_heads=shape.num_heads, num_layers=shape.num_layers, hidden=shape.hidden
    )
    return {
        seed: regression_subject(
            seed, model, num_steps=training.num_steps, schedule_steps=training.schedule_steps,
            peak_learning_rate=training.peak_learning_rate, batch_size=training.batch_size,
            save_at=config.sampling.checkpoint_steps,
        )
        for seed in config.seeds
    }  # fmt: skip


def measures(config: LRTReference) -> list[Measure | Along]:
    """SGLD and underdamped chains of the whole posterior, and every adjusted chain apart: each is a finished part of its own."""
    chains = {
        f"{start} {number}": AdjustedChain(config.sampling, config.adjusted, start, number)
        for start in STARTS
        for number in range(config.adjusted.num_chains)
    }
    return [LLC(config.sampling), LevelLLC(config.level), Along("adjusted_chain", chains)]


EXPERIMENT = Experiment(
    name="lrt-reference",
    summary="what the LLC's fall in LR4 consists of: adjusted chains beside SGLD and underdamped ones",
    paper="arXiv 2402.02364, stage LR4",
    configs=CONFIGS,
    subjects=subjects,
    measures=measures,
    axis="seed",
    page=page,
    check=check,
)
