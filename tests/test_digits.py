"""The digits experiment: its network, its data, and a tiny run from training to page."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.digits import CONFIGS, Network, Nuts, Sampling
from experiments.digits import EXPERIMENT
from experiments.digits.network import Perceptron, accuracy, cross_entropy, load_digits, train
from slt_jax.trees import num_parameters
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder


def test_split_keeps_every_image_once():
    split = load_digits(600, seed=0)
    assert split.train["image"].shape == (600, 64)
    assert split.test["image"].shape == (1197, 64)
    everything = jnp.concatenate([split.train["image"], split.test["image"]])
    assert float(everything.min()) == -1.0
    assert float(everything.max()) == 1.0
    other = load_digits(600, seed=1)
    assert not np.array_equal(split.train["label"], other.train["label"])
    with pytest.raises(ValueError, match="num_examples = 1797; there are 1797 images"):
        load_digits(1797, seed=0)


def test_loss_is_the_negative_log_likelihood():
    params = Perceptron(3).init(jax.random.key(0), jnp.zeros((1, 64)))
    assert num_parameters(params) == 64 * 3 + 3 + 3 * 10 + 10
    batch = jax.tree.map(lambda leaf: leaf[:5], load_digits(600, seed=0).train)
    logits = np.asarray(Perceptron(3).apply(params, batch["image"]), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(cross_entropy(params, batch), -log_p[np.arange(5), batch["label"]], rtol=1e-5)


def test_training_learns():
    split = load_digits(200, seed=0)
    params, losses = train(jax.random.key(0), split.train, Network(hidden_units=6, num_examples=200, num_steps=300))
    assert losses.shape == (300,)
    assert float(losses[0]) > 2.0
    assert float(losses[-1]) < 0.2
    assert accuracy(params, split.test) > 0.7  # 0.1 by chance


@pytest.mark.slow  # half a minute of compilation
def test_tiny_run_from_training_to_page(tmp_path):
    config = CONFIGS["tiny"]()
    folder = RunFolder.open("digits", "tiny", config, tmp_path / "run")
    assert EXPERIMENT.compute(config, folder) == []
    EXPERIMENT.report(config, folder)
    summary = json.loads((folder.path / "summary.json").read_text())
    assert list(summary["samplers"]) == ["SGLD, Euler", "SGNHT, batch 10", "NUTS"]
    assert summary["num_parameters"] == 64 * 2 + 2 + 2 * 10 + 10
    assert summary["samplers"]["SGLD, Euler"]["gradients"] == 2 * 60
    assert summary["samplers"]["SGNHT, batch 10"]["gradients"] == pytest.approx(2 * 60 * 10 / 50)
    for row in summary["samplers"].values():
        assert np.isfinite(row["mean"])
        assert row["std_error"] > 0
    results = folder.read_results()
    assert results.llc_trace.dims == ("sampled", "chain", "draw")
    assert results.llc_diverged.dtype == bool
    assert all(variable.attrs["long_name"] and variable.attrs["units"] for variable in results.data_vars.values())
    page = (folder.path / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 2
    assert 'src="http' not in page


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sampling": Sampling(samplers=("SGLD",))}, "there is no sampler 'SGLD'; there are: SGLD, Euler"),
        ({"sampling": Sampling(localization=0.0)}, "sampling.localization = 0"),
        ({"sampling": Sampling(num_draws=2)}, "sampling.num_draws = 2; a standard error needs at least 4"),
        ({"network": Network(num_examples=1797)}, "there are 1797 images"),
        ({"network": Network(num_examples=1)}, "n = 1 examples"),
        ({"nuts": Nuts(num_warmup=2)}, "nuts.num_warmup = 2; it must be at least 5"),
        ({"nuts": Nuts(num_draws=2)}, "nuts.num_draws = 2"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_written(changes, message):
    with pytest.raises((UserError, ValueError), match=message):
        EXPERIMENT.check(dataclasses.replace(CONFIGS["demo"](), **changes))


@pytest.mark.parametrize("name", CONFIGS)
def test_named_configs_pass_the_check(name):
    EXPERIMENT.check(CONFIGS[name]())


def test_a_training_that_blows_up_is_called_diverged(tmp_path, capsys):
    from experiments.catalogue import CATALOGUE
    from slt_lab.cli import main

    command = ["digits", "--config", "tiny", "--network.learning-rate", "1e30", "--folder", str(tmp_path / "run")]
    assert main(command, CATALOGUE) == 3
    assert "diverged: the training loss went from" in capsys.readouterr().err
