"""Susceptibilities of every attention head to every kind of token (Baker et al. 2025, arXiv 2504.18274)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from slt_jax.estimators.block_estimates import CovarianceEstimate
from slt_jax.estimators.covariances import influence
from slt_jax.models.language_model import LanguageModel, head_axes, token_losses
from slt_jax.posterior import LocalPosterior
from slt_jax.restrictions import Restriction, by_layer_and_slice
from slt_jax.sampling.driver import sample_restrictions
from slt_jax.sampling.statistics import Moments, cross_moments
from slt_jax.typing import Array, Params
from slt_lab.errors import UserError
from slt_lab.measure import Variable
from slt_lab.settings import Sampling
from slt_lab.streams import stream
from slt_lab.subjects.language_model import LanguageSubject
from slt_lab.work import sampling_options

__all__ = ["Susceptibilities", "all_heads", "check_susceptibilities", "loss_moments"]


def check_susceptibilities(sampling: Sampling) -> None:
    """Refuse settings without a step size: all heads share one.

    Raises:
        UserError: naming the flag.
    """
    if sampling.step_size is None:
        raise UserError("heads.step_size is missing; all heads share one, and none is found for them")


def all_heads(model: LanguageModel) -> Restriction:
    """Every head of every layer, layer by layer, as one stack."""
    layers, heads = np.divmod(np.arange(model.num_layers * model.num_heads), model.num_heads)
    return by_layer_and_slice(head_axes(), model.num_layers, jnp.asarray(layers), jnp.asarray(heads))


def loss_moments(model: LanguageModel, tokens: Array, classes: Array, num_classes: int) -> Moments:
    """Moments of the loss L with l_k - L, of every class of tokens k and then of every single token.

    Args:
        model: whose losses.
        tokens: sequences, `(count, context)`.
        classes: kind of every token after the first, `(count, context - 1)`.
        num_classes: how many kinds there are; one that does not occur has the value NaN.
    """
    return cross_moments(Partial(_MeanLoss(model), tokens), Partial(_LessMean(model, num_classes), tokens, classes))


@dataclass(frozen=True)
class _MeanLoss:
    """`(tokens, params) -> L`, per token. Hashable: equal models compile once."""

    model: LanguageModel

    def __call__(self, tokens: Array, params: Params) -> Array:
        return jnp.mean(token_losses(self.model, params, tokens))


@dataclass(frozen=True)
class _LessMean:
    """`(tokens, classes, params) -> l_k - L` of every class, then of every token, `(classes + tokens,)`."""

    model: LanguageModel
    num_classes: int

    def __call__(self, tokens: Array, classes: Array, params: Params) -> Array:
        losses = jnp.ravel(token_losses(self.model, params, tokens))
        member = jax.nn.one_hot(jnp.ravel(classes), self.num_classes, dtype=losses.dtype)
        each = (losses @ member) / jnp.sum(member, axis=0)
        return jnp.concatenate([each, losses]) - jnp.mean(losses)


@dataclass(frozen=True)
class Susceptibilities:
    """χ = -Cov(L, l_k - L) over the weights of a head alone, for every head and every class of tokens.

    It is how the expected loss of a head's posterior answers to more weight on tokens of class k: negative is expression, the
    head serves these tokens more than others; positive is suppression. All heads of all layers are sampled in one program,
    and chains share their noise over checkpoints, so that differences are sharper.

    Attributes:
        sampling: posterior and sampler of each head.
        thinning: steps per draw.
        num_sequences: evaluation sequences whose tokens the losses are of.
    """

    sampling: Sampling
    thinning: int
    num_sequences: int
    name: str = "susceptibilities"
    axis: str = "checkpoint"

    def steps(self, subject: LanguageSubject) -> Sequence[int]:
        return subject.sampled_steps(self.sampling.checkpoint_steps)

    def take(self, subject: LanguageSubject, params: Params) -> Mapping[str, Any]:
        settings, model, task = self.sampling, subject.model, subject.task
        check_susceptibilities(settings)
        assert settings.step_size is not None
        posterior = LocalPosterior(
            subject.loss_fn, task.posterior_data("", settings.num_examples), params, settings.nbeta, settings.localization
        )  # fmt: skip
        count = self.num_sequences
        moments = loss_moments(model, task.evaluation(count), task.token_classes(count), len(task.classes))
        # The look at w* would cost more than the chains, and no covariance says anything of it.
        samples = sample_restrictions(
            stream("language/susceptibility chains"), posterior, all_heads(model), settings.sampler().kernel,
            step_size=settings.step_size, num_chains=settings.num_chains, num_draws=settings.num_draws,
            num_burnin=settings.num_burnin, thinning=self.thinning, statistics={"losses": moments}, inspection=False,
            layout=None if settings.layout == "auto" else settings.layout, **sampling_options(),
        )  # fmt: skip
        found = [_of_head(influence(one, "losses"), len(task.classes)) for one in samples]
        shape = (model.num_layers, model.num_heads)
        return {
            name: np.stack([one[name] for one in found]).reshape(*shape, *found[0][name].shape) for name in found[0]
        }

    def variables(self, subject: LanguageSubject) -> Mapping[str, Variable]:
        del subject
        classes, tokens, squared = ("layer", "head", "token_class"), ("layer", "head", "token"), "squared nats"
        return {
            "susceptibility": Variable(classes, "-Cov(L, l - L) of a head and a class of tokens", squared),
            "susceptibility_std_error": Variable(classes, "standard error of the susceptibility", squared),
            "susceptibility_ess": Variable(classes, "effective draws of the products", "draws"),
            "susceptibility_between": Variable(("layer", "head"), "share of the covariance that lies between chains"),
            "susceptibility_diverged": Variable(("layer", "head", "susceptibility_chain"), "whether a chain diverged"),
            "susceptibility_status": Variable(("layer", "head"), "what the estimate says of itself: ok, or what is the matter"),
            "token_susceptibility": Variable(tokens, "-Cov(L, l - L) of a head and a single token", squared),
            "token_susceptibility_std_error": Variable(tokens, "standard error of the same", squared),
            "token_susceptibility_status": Variable(("layer", "head"), "what the estimate says of itself: ok, or what is the matter"),
        }  # fmt: skip

    def coords(self, subject: LanguageSubject) -> Mapping[str, Sequence]:
        return {"token_class": subject.task.classes}


def _of_head(found: CovarianceEstimate, num_classes: int) -> dict[str, np.ndarray]:
    """The estimate of one head, named as in `Susceptibilities.variables`."""
    classes, tokens = found.of_examples(slice(None, num_classes)), found.of_examples(slice(num_classes, None))
    return {
        "susceptibility": classes.value,
        "susceptibility_std_error": classes.std_error,
        "susceptibility_ess": classes.ess,
        "susceptibility_between": np.asarray(classes.between_share),
        "susceptibility_diverged": classes.diverged,
        "susceptibility_status": np.asarray(classes.status),
        "token_susceptibility": tokens.value.astype(np.float32),
        "token_susceptibility_std_error": tokens.std_error.astype(np.float32),
        "token_susceptibility_status": np.asarray(tokens.status),
    }
