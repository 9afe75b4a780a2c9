"""Deep linear networks: the model, the study's generator, and the padded form in which many are one program."""

import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.catalogue import CATALOGUE
from slt_jax import theory
from slt_jax.data.linear import block_moments, random_deep_linear, teacher_data
from slt_jax.models.deep_linear import DeepLinear, mean_squared_error, pack, packed_squared_error, params_of
from slt_jax.posterior import LocalPosterior, Restriction, restrict
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder


def product_of(matrices):
    product = np.eye(matrices[0].shape[1])
    for matrix in matrices:
        product = matrix.astype(np.float64) @ product
    return product


@pytest.mark.parametrize("seed", range(12))
def test_generated_ranks_are_those_of_the_matrices(seed):
    network = random_deep_linear(seed, num_layers=(2, 5), widths=(5, 50))
    assert 2 <= len(network.matrices) <= 5
    assert all(5 <= width <= 50 for width in network.widths)
    upper = np.triu(np.ones_like(network.ranks))
    np.testing.assert_array_equal(theory.rank_pattern(network.matrices) * upper, network.ranks)


def test_half_of_the_matrices_lose_rank_and_entries_are_xavier():
    networks = [random_deep_linear(seed, num_layers=(2, 5), widths=(5, 50)) for seed in range(300)]
    full, variances = [], []
    for network in networks:
        for s, matrix in enumerate(network.matrices):
            fan_out, fan_in = matrix.shape
            full.append(network.ranks[s, s + 1] == min(matrix.shape))
            if full[-1]:
                variances.append(matrix.var() * (fan_in + fan_out) / 2)
    assert np.mean(full) == pytest.approx(0.5, abs=0.05)
    assert np.mean(variances) == pytest.approx(1.0, abs=0.02)


@pytest.mark.parametrize("batch", [3, 300], ids=["few examples", "many examples"])
def test_model_multiplies_in_either_order(batch):
    widths = (4, 7, 5, 6)
    model = DeepLinear(widths)
    x = jax.random.normal(jax.random.key(1), (batch, 4))
    params = model.init(jax.random.key(0), x)["params"]
    matrices = [np.asarray(params[f"layer_{s}"]) for s in (1, 2, 3)]
    np.testing.assert_allclose(model.apply({"params": params}, x), x @ product_of(matrices).T, rtol=2e-4, atol=1e-5)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, params_of(matrices), params))


def test_loss_at_the_teacher_is_zero_and_data_are_in_the_box():
    network = random_deep_linear(3, num_layers=(2, 5), widths=(5, 50))
    data = teacher_data(jax.random.key(0), jnp.asarray(product_of(network.matrices), jnp.float32), 500)
    assert float(jnp.abs(data["x"]).max()) <= 10.0
    losses = mean_squared_error(params_of(network.matrices), data)
    assert losses.shape == (500,)
    assert float(losses.max()) < 1e-8


def packed(network, slots=4096):
    params, restriction = pack(network.matrices, num_layers=5, width=50, slots=slots)
    return params, restriction


def test_packed_network_has_the_loss_and_gradient_of_the_network():
    network = random_deep_linear(3, num_layers=(2, 5), widths=(5, 50))
    moved = [matrix + 0.01 * np.random.default_rng(0).standard_normal(matrix.shape) for matrix in network.matrices]
    moved = tuple(matrix.astype(np.float32) for matrix in moved)
    x = jax.random.uniform(jax.random.key(0), (500, 50), minval=-10.0, maxval=10.0)
    params, (take, put) = packed(network)
    moved_params, _ = packed(random_like(network, moved))
    part = take(moved_params)
    batch = {"moments": (x.T @ x / 500)[None]}
    loss, gradient = jax.value_and_grad(lambda p: packed_squared_error(put(params, p), batch)[0])(part)
    inputs = x[:, : network.widths[0]]
    data = {"x": inputs, "y": inputs @ jnp.asarray(product_of(network.matrices), jnp.float32).T}
    exact, exact_gradient = jax.value_and_grad(lambda p: jnp.mean(mean_squared_error(p, data)))(params_of(moved))
    assert float(loss) == pytest.approx(float(exact), rel=1e-4)
    flat = np.concatenate([np.asarray(exact_gradient[f"layer_{s}"]).ravel() for s in range(1, len(moved) + 1)])
    np.testing.assert_allclose(gradient[: len(flat)], flat, rtol=1e-2, atol=1e-4 * np.abs(flat).max())
    np.testing.assert_array_equal(gradient[len(flat) :], 0.0)


def random_like(network, matrices):
    return type(network)(matrices, network.widths, network.ranks)


def test_packed_restriction_puts_back_what_it_takes():
    params, restriction = packed(random_deep_linear(5, num_layers=(2, 5), widths=(5, 50)))
    take, put = restriction
    assert jax.tree.all(jax.tree.map(np.array_equal, put(params, take(params)), params))
    whole = LocalPosterior(packed_squared_error, {"moments": jnp.eye(50)[None]}, params, 1.0, 1.0)
    posterior = restrict(whole, Restriction(*restriction))
    assert posterior.center.shape == (4096,)
    assert float(posterior.losses(posterior.center, posterior.data)[0]) < 1e-10


def test_block_moments_are_means_of_outer_products():
    moments = block_moments(jax.random.key(0), 6, 4000, 500)
    assert moments.shape == (8, 6, 6)
    np.testing.assert_allclose(moments.mean(0), 100 / 3 * np.eye(6), atol=2.5)
    values = np.linalg.eigvalsh(np.asarray(moments))
    assert values.min() > 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: random_deep_linear(0, num_layers=(2, 5), widths=(0, 5)), "widths = (0, 5)"),
        (lambda: random_deep_linear(0, num_layers=(3, 2), widths=(1, 5)), "num_layers = (3, 2)"),
        (lambda: teacher_data(jax.random.key(0), jnp.eye(2), 0), "num_examples = 0"),
        (lambda: block_moments(jax.random.key(0), 2, 100, 30), "does not divide"),
        (lambda: DeepLinear((3, 0, 2)).init(jax.random.key(0), jnp.ones((1, 3))), "widths = (3, 0, 2)"),
        (lambda: packed(random_deep_linear(3, num_layers=(2, 5), widths=(5, 50)), slots=8), "does not fit"),
    ],
)  # fmt: skip
def test_impossible_networks_are_refused_in_one_sentence(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


class TestAccuracy:
    """The numbers of the table, on estimates made by hand."""

    def test_relative_errors_and_order(self):
        from experiments.deep_linear_networks.accuracy import accuracy

        truth = np.array([10.0, 20.0, 40.0, 40.0])
        numbers = accuracy(np.array([11.0, 10.0, 40.0, np.nan]), truth)
        assert numbers["median_abs_relative_error"] == pytest.approx(0.1)
        assert numbers["median_relative_error"] == pytest.approx(0.0)
        assert numbers["nan_share"] == 0.25
        assert numbers["networks"] == 4
        # pairs with unequal truth: 5, of which two hold the NaN and one is swapped
        assert numbers["order_preservation"] == pytest.approx(2 / 5)

    def test_perfect_estimates(self):
        from experiments.deep_linear_networks.accuracy import accuracy

        truth = np.arange(1.0, 8.0)
        numbers = accuracy(truth, truth)
        assert numbers["p90_abs_relative_error"] == 0
        assert numbers["order_preservation"] == 1
        assert sum(1 for _ in itertools.combinations(truth, 2)) == 21

    def test_siding_with_the_local_value(self):
        from experiments.deep_linear_networks.accuracy import sides_with_local

        local, aoyagi = np.array([10.0, 10.0, 10.0, 10.0]), np.array([8.0, 8.0, 9.5, 8.0])
        counts = sides_with_local(np.array([9.5, 8.2, 10.0, np.nan]), local, aoyagi, 0.1)
        assert counts == {"networks": 3, "nearer_to_local": 1}


def test_tiny_run_writes_every_key_of_the_summary(tmp_path, capsys):
    import json

    from experiments.__main__ import main
    from experiments.deep_linear_networks.page import KEYS

    folder = tmp_path / "run"
    command = ["deep-linear-networks", "--config", "tiny", "--folder", str(folder), "--seeds", "1000:1003"]
    assert main(command, CATALOGUE) == 0
    assert capsys.readouterr().out.strip().endswith(str(folder))
    summary = json.loads((folder / "summary.json").read_text())
    assert set(summary["1K"]) == {"study", "best"}
    for numbers in summary["1K"].values():
        assert set(KEYS) <= numbers.keys()
    assert (folder / "networks.csv").read_text().count("\n") == 7
    assert {path.name for path in (folder / "figures").iterdir()} >= {"1K-truth.png", "1K-gradients.png"}
    assert (folder / "report.html").exists()
    pieces = {path: path.stat().st_mtime_ns for path in (folder / "pieces").rglob("*.npz")}
    assert main(command, CATALOGUE) == 0
    assert main(["report", str(folder)], CATALOGUE) == 0
    assert {path: path.stat().st_mtime_ns for path in (folder / "pieces").rglob("*.npz")} == pieces
    results = RunFolder.existing(folder).read_results()
    assert results.llc.dims == ("class", "setting", "seed")
    assert results.llc_diverged.dtype == results.certified.dtype == results.measured.dtype == bool
    assert all(variable.attrs["long_name"] and variable.attrs["units"] for variable in results.data_vars.values())


@pytest.mark.parametrize("seeds", ["5,x", "7:3", "a:b"])
def test_unusable_seeds_are_one_sentence_and_nothing_is_written(seeds, tmp_path, capsys):
    from experiments.__main__ import main

    folder = tmp_path / "run"
    command = ["deep-linear-networks", "--config", "tiny", "--folder", str(folder), "--seeds", seeds]
    assert main(command, CATALOGUE) == 2
    assert f"error: seeds = '{seeds}'; give first:last" in capsys.readouterr().err
    assert not folder.exists()


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        ("settings", {"batch_size": 250}, "settings.0.batch_size = 250; it must be a multiple of 500"),
        ("settings", {"classes": ("2K",)}, r"settings.0.classes names \['2K'\]; there are: 1K"),
        ("settings", {"second_nbeta_factor": 2.0}, "a second chain needs the metric"),
        ("settings", {"metric": True}, "with a metric it must be calibrated"),
        ("settings", {"metric": True, "step": "calibrated", "kernel": "adam"}, "brings its own preconditioner"),
        ("settings", {"kept_share": 1.5}, "settings.0.kept_share = 1.5; it must be at most 1"),
        ("settings", {"num_steps": 10}, "needs at least 20 steps"),
        ("settings", {"num_networks": 0}, "settings.0.num_networks = 0"),
        ("settings", {"name": "best"}, r"settings names \['best'\] twice"),
        ("classes", {"widths": (5, 2)}, "classes.0.widths = 5 2; give a range"),
        ("classes", {"num_examples": 10_100}, "classes.0.num_examples = 10100; it must be a multiple of 500"),
        ("classes", {"num_networks": 0}, "class 1K has no networks"),
    ],
)
def test_what_contradicts_itself_is_refused(kind, changes, message):
    from dataclasses import replace

    from configs.deep_linear_networks import tiny
    from experiments.deep_linear_networks import EXPERIMENT

    first, *rest = getattr(tiny(), kind)
    with pytest.raises(UserError, match=message):
        EXPERIMENT.check(replace(tiny(), **{kind: (replace(first, **changes), *rest)}))


def test_named_configs_pass_the_check_and_come_back_from_their_record():
    import json
    from dataclasses import asdict
    from pathlib import Path

    from experiments.deep_linear_networks import EXPERIMENT
    from slt_lab.cli import restore_config

    for name, make in EXPERIMENT.configs.items():
        EXPERIMENT.check(make())
        stored = RunFolder(Path(), EXPERIMENT.name, name, json.loads(json.dumps(asdict(make()))))
        assert restore_config(EXPERIMENT, stored) == make()


def test_large_classes_have_teachers_and_truths():
    from configs.deep_linear_networks import gpu
    from experiments.deep_linear_networks.estimate import kernel_of
    from experiments.deep_linear_networks.networks import seeds_of, teacher, truth

    config = gpu()
    assert [size_class.name for size_class in config.classes] == ["100K", "1M", "10M"]
    assert {type(kernel_of(setting)).__name__ for setting in config.settings} == {"SGLD", "Underdamped"}
    smallest = config.classes[0]
    assert seeds_of(config, smallest) == range(smallest.num_networks)
    for seed in range(2):
        known = truth(teacher(smallest, seed))
        assert known["half_hessian_rank"] <= known["lower"] <= known["upper"]


def test_gpu_config_runs_through_on_tiny_networks(tmp_path):
    """All of config `gpu` but the sizes: its groups, its settings, its table."""
    from dataclasses import replace

    from configs.deep_linear_networks import gpu
    from experiments.deep_linear_networks import measure
    from experiments.deep_linear_networks.page import summary

    small = {"widths": (2, 6), "num_layers": (2, 3), "num_examples": 10_000, "num_networks": 2, "study_steps": 200}
    config = gpu()
    config = replace(
        config,
        classes=tuple(replace(size_class, **small) for size_class in config.classes),
        settings=tuple(replace(setting, num_steps=setting.num_steps and 200) for setting in config.settings),
    )
    folder = RunFolder.open("deep-linear-networks", "gpu", config, tmp_path / "run")
    results, diverged = measure.run(config, folder)
    assert diverged == []
    numbers = summary(results)
    assert set(numbers) == {"100K", "1M", "10M"}
    for at_class in numbers.values():
        assert set(at_class) == {"study", "best"}
        assert all(np.isfinite(row["all"]["median_abs_relative_error"]) for row in at_class.values())


def test_an_unstable_step_is_a_nan_and_a_sentence(tmp_path, capsys):
    from dataclasses import replace

    from configs.deep_linear_networks import STUDY, tiny
    from experiments.deep_linear_networks import measure

    config = tiny()
    size_class = replace(config.classes[0], study_step_size=1e-2)
    config = replace(config, classes=(size_class,), settings=(STUDY,))
    folder = RunFolder.open("deep-linear-networks", "tiny", config, tmp_path / "run")
    results, (sentence,) = measure.run(config, folder)
    assert results.llc_diverged.all()
    assert results.llc.isnull().all()
    assert "3 of 3 chains ran away" in sentence
    assert "smaller step" in sentence


def test_the_larger_of_two_chains_counts_unless_it_blew_up():
    from experiments.deep_linear_networks import estimate

    def row(llc, excursion=False, diverged=False):
        return {"llc": np.asarray(llc), "excursion": np.asarray(excursion), "llc_diverged": np.asarray(diverged)}

    low, high, jumped, lost = row(9.0), row(10.0), row(70.0, excursion=True), row(np.nan, diverged=True)
    assert estimate._larger(low, high) is high
    assert estimate._larger(high, low) is high
    assert estimate._larger(low, jumped) is low
    assert estimate._larger(lost, jumped) is jumped
    assert estimate._larger(lost, low) is low
