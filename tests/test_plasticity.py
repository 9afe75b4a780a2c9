"""The exhibit `plasticity`: its tiny configuration runs and is shown; e is found where it was put in, and is 0 where it was not."""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.plasticity import CONFIGS, tiny
from experiments.plasticity import EXPERIMENT
from experiments.plasticity.measures import HeadSize, head_norms
from experiments.plasticity.rows import fits, matched_pairs, pseudo_peaks
from slt_jax.models.language_model import LanguageModel, init
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.settings import check_config


@pytest.mark.slow
def test_it_runs_and_is_shown(tmp_path):
    config = tiny()
    folder = RunFolder.open("plasticity", "tiny", config, tmp_path / "run")
    assert EXPERIMENT.compute(config, folder) == []
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary["heads"] == 6
    assert (folder.path / "figures" / "movement_sgd.png").exists()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_accepted(name):
    config = CONFIGS[name]()
    check_config(config)
    EXPERIMENT.check(config)


def test_what_is_refused():
    with pytest.raises(UserError, match="the end of training, 8"):
        EXPERIMENT.check(replace(tiny(), checkpoint_steps=(2, 4, 6)))
    with pytest.raises(UserError, match="the first of them 0"):
        EXPERIMENT.check(replace(tiny(), looks=(1, 2)))
    with pytest.raises(UserError, match="none twice"):
        EXPERIMENT.check(replace(tiny(), shifts=tiny().shifts * 2))


def test_norms_of_heads_by_hand(tmp_path):
    model = LanguageModel(vocab_size=8, context=8, embed_dim=8, num_heads=2, num_layers=2)
    params = init(jax.random.key(0), model)
    attention = params["block_1"]["attention"]
    expected = np.sqrt(
        float(
            jnp.sum(attention["qkv"][:, :, 1] ** 2)
            + jnp.sum(attention["qkv_bias"][:, 1] ** 2)
            + jnp.sum(attention["out"][1] ** 2)
        )
    )
    assert float(head_norms(model, params)[1, 1]) == pytest.approx(expected, rel=1e-5)
    config = tiny()
    subject = EXPERIMENT.subjects(config, RunFolder.open("plasticity", "tiny", config, tmp_path / "run"))[0]
    found = HeadSize(1, 16).take(subject, subject.init())
    assert np.asarray(found["head_gradient"]).shape == (1, 2)
    assert (np.asarray(found["head_gradient"]) > 0).all()


def made_up(rng, effect, models=24, places=6, checkpoints=10):
    """Movement 0.7·level + 0.2·gradient + effects of checkpoint and place + `effect` past the peak + noise, which models share in part."""
    model, place, checkpoint = np.indices((models, places, checkpoints)).reshape(3, -1)
    peak = np.where(rng.uniform(size=(models, places)) < 0.5, rng.integers(3, 8, (models, places)), checkpoints)
    past = (checkpoint > peak[model, place]).astype(float)
    level, gradient, norm = rng.standard_normal((3, len(model))) - 0.5 * past
    noise = 0.3 * rng.standard_normal(len(model)) + 0.2 * rng.standard_normal(models)[model]
    movement = 0.7 * level + 0.2 * gradient + 0.1 * checkpoint - 0.3 * place + effect * past + noise
    return {
        "movement": movement, "level": level, "gradient": gradient, "norm": norm, "past": past, "model": model, "place": place,
        "checkpoint": checkpoint,
    }  # fmt: skip


@pytest.mark.parametrize("effect", [0.0, -0.5])
def test_e_is_what_was_put_in(effect):
    rng, covered = np.random.default_rng(0), 0
    for _ in range(100):
        one = fits(made_up(rng, effect))["and gradient"]
        covered += one.low <= effect <= one.high
    assert covered >= 88  # 95 expected, 4 standard deviations below
    confounded = fits(made_up(rng, effect))["checkpoint and head"]
    assert confounded.value == pytest.approx(effect - 0.5 * 0.9, abs=0.15)  # level and gradient fall with the peak


def test_pseudo_peaks_are_about_nothing():
    rng = np.random.default_rng(1)
    null = pseudo_peaks(rng, made_up(rng, -0.5), count=60)["and gradient"]
    assert abs(np.median(null)) < 0.1
    assert fits(made_up(rng, -0.5))["and gradient"].value < np.quantile(null, 0.025)


def test_matched_pairs_by_hand():
    rows = {
        "model": np.zeros(4, int), "checkpoint": np.zeros(4, int), "past": np.array([1.0, 0.0, 0.0, 0.0]),
        "level": np.array([1.0, 5.0, 1.2, np.nan]), "movement": np.array([2.0, 9.0, 2.5, 0.0]),
    }  # fmt: skip
    found = matched_pairs(rows)
    assert found["pairs"] == 1
    assert found["difference"].tolist() == [-0.5]
