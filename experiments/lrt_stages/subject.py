"""What `lrt-stages` trains and asks: a transformer for each seed, its behaviour, LLC, geometry and refined LLCs."""

from configs.lrt_stages import LRTStages, Refined, Sampling, Training
from experiments.lrt_stages.behaviour import Behaviour
from slt_jax.models.regression_transformer import RegressionTransformer
from slt_jax.training.loop import checkpoint_steps
from slt_lab import settings
from slt_lab.folder import RunFolder
from slt_lab.measure import Measure
from slt_lab.measures.geometry import EffectiveDimension, Geometry
from slt_lab.measures.llc import LLC
from slt_lab.measures.refined import Leaves, RefinedLLC, Slices
from slt_lab.settings import up_to
from slt_lab.subjects.regression_transformer import RegressionSubject, regression_subject

__all__ = ["components", "measures", "model_of", "saved_steps", "subjects"]


def subjects(config: LRTStages, folder: RunFolder) -> dict[int, RegressionSubject]:
    """One training for each seed."""
    del folder
    training = config.training
    return {
        seed: regression_subject(
            seed, model_of(config), num_steps=training.num_steps, schedule_steps=training.schedule_steps,
            peak_learning_rate=training.peak_learning_rate, batch_size=training.batch_size, save_at=saved_steps(training),
        )
        for seed in config.seeds
    }  # fmt: skip


def measures(config: LRTStages) -> list[Measure]:
    """Behaviour at every kept step; at the sampled ones the LLC and, as far as they are asked for, geometry and refined LLCs."""
    sampling, geometry, refined = config.sampling, config.geometry, config.refined
    asked = (*sampling.checkpoint_steps, *geometry.rank_steps, *refined.checkpoint_steps)
    found: list[Measure] = [LLC(sampling), Behaviour(config.num_evaluation_sequences, asked)]
    if geometry.num_probes:
        found += _geometry(config)
    if refined.checkpoint_steps:
        only = tuple(f"seed_{seed}" for seed in refined.seeds)
        parts = components(model_of(config))
        found.append(RefinedLLC(parts, _refined_sampling(sampling, refined), "regression/refined chains", only))
    return found


def model_of(config: LRTStages) -> RegressionTransformer:
    """The transformer of `config`: the paper's, but for its size."""
    shape = config.model
    return RegressionTransformer(
        width=shape.width, num_heads=shape.num_heads, num_layers=shape.num_layers, hidden=shape.hidden
    )


def saved_steps(training: Training) -> list[int]:
    """The steps whose parameters are kept; of those given one by one, the ones up to the end of training."""
    if training.checkpoint_steps:
        return up_to(training.num_steps, (*training.checkpoint_steps, training.num_steps))
    spread = checkpoint_steps(training.num_steps, training.num_log_checkpoints, training.num_linear_checkpoints)
    return sorted({0, *spread})


def _geometry(config: LRTStages) -> list[Measure]:
    sampling, geometry = config.sampling, config.geometry
    traces = Geometry(
        sampling.num_examples, geometry.num_examples, geometry.num_probes, geometry.num_eigenvalues, "regression/geometry",
        sampling.checkpoint_steps,
    )  # fmt: skip
    if not geometry.rank:
        return [traces]
    dimension = EffectiveDimension(
        traces, sampling.nbeta, sampling.localization, geometry.rank, geometry.rank_examples, geometry.rank_steps
    )
    return [traces, dimension]


def _refined_sampling(sampling: Sampling, refined: Refined) -> settings.Sampling:
    """SGLD for the posterior of `sampling`."""
    return settings.Sampling(
        num_examples=sampling.num_examples, nbeta=sampling.nbeta, localization=sampling.localization,
        step_size=refined.step_size, batch_size=refined.batch_size, num_chains=refined.num_chains, num_draws=refined.num_draws,
        num_burnin=refined.num_burnin, checkpoint_steps=refined.checkpoint_steps, layout=sampling.layout,
    )  # fmt: skip


def components(model: RegressionTransformer) -> tuple[Leaves | Slices, ...]:
    """Every head, MLP, LayerNorm, the embeddings and the unembedding: each parameter once."""
    layers = range(model.num_layers)
    heads = tuple(_heads(model, layer) for layer in layers)
    blocks = [
        Leaves(f"{name} {layer}", (f"block_{layer}/{name.replace(' ', '_')}/*",))
        for layer in layers
        for name in ("mlp", "attention norm", "mlp norm")
    ]
    return (
        *heads, *blocks, Leaves("final norm", ("final_norm/*",)), Leaves("token embedding", ("token_embedding",)),
        Leaves("position embedding", ("position_embedding",)), Leaves("unembedding", ("unembedding/*",)),
    )  # fmt: skip


def _heads(model: RegressionTransformer, layer: int) -> Slices:
    block = f"block_{layer}/attention"
    names = tuple(f"head {layer}.{head}" for head in range(model.num_heads))
    return Slices(f"heads {layer}", names, ((f"{block}/qkv", 2), (f"{block}/out", 0)))
