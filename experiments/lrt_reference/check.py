"""What an `lrt-reference` configuration may not hold."""

from configs.lrt_reference import LRTReference
from slt_lab.nuts import FEWEST_DRAWS, FEWEST_WARMUP
from slt_lab.settings import require

__all__ = ["check"]


def check(config: LRTReference) -> None:
    """Refuse a configuration that contradicts itself.

    Raises:
        UserError: on the first contradiction.
    """
    adjusted, posterior, level = config.adjusted, config.sampling, config.level
    require(bool(config.seeds), "seeds is empty; name at least one training seed")
    require(bool(posterior.checkpoint_steps), "sampling.checkpoint_steps is empty; name at least one checkpoint")
    require(
        max(posterior.checkpoint_steps, default=0) <= config.training.num_steps,
        f"sampling.checkpoint_steps go beyond training.num_steps = {config.training.num_steps:,}; name earlier ones",
    )
    for name in ("num_examples", "nbeta", "localization", "checkpoint_steps"):
        ours, theirs = getattr(posterior, name), getattr(level, name)
        require(
            ours == theirs,
            f"level.{name} = {theirs} and sampling.{name} = {ours}; both sample one posterior, so give both one value",
        )
    wanted = adjusted.num_examples + adjusted.num_other_examples
    require(
        wanted <= posterior.num_examples,
        f"adjusted.num_examples + adjusted.num_other_examples = {wanted:,}; the empirical loss has sampling.num_examples = "
        f"{posterior.num_examples:,}",
    )
    least = {"num_warmup": FEWEST_WARMUP, "num_draws": FEWEST_DRAWS}
    for name, fewest in least.items():
        value = getattr(adjusted, name)
        require(value >= fewest, f"adjusted.{name} = {value}; it must be at least {fewest}")
