"""The exhibit `self-repair`: its tiny configurations run and are shown; matching and regressions are right on results that are made up."""

import json
from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray

from configs.self_repair import CONFIGS, tiny, tiny_trained
from experiments.self_repair import EXPERIMENT, trained
from experiments.self_repair.page import distances
from experiments.self_repair.toys import shown
from experiments.self_repair.trained_page import fits, matched, rows_of
from slt_lab.errors import UserError
from slt_lab.folder import RunFolder
from slt_lab.settings import check_config
from slt_lab.subjects.language_settings import Regime


def run(config, name, path):
    folder = RunFolder.open("self-repair", name, config, path)
    assert EXPERIMENT.compute(config, folder) == []
    return folder


def test_the_toys_run_and_are_shown(tmp_path):
    folder = run(tiny(), "tiny", tmp_path / "run")
    summary = json.loads((folder.path / "summary.json").read_text())
    assert summary["of"] == len(shown(2))
    assert (folder.path / "figures" / "story.png").stat().st_size > 20_000
    assert "Falls, stays, rises" in (folder.path / "report.html").read_text()


@pytest.mark.slow
def test_trained_models_run_and_are_shown(tmp_path):
    folder = run(tiny_trained(), "tiny-trained", tmp_path / "run")
    summary = json.loads((folder.path / "summary.json").read_text())
    assert len(summary["rows"]["llc"]) == 4
    assert np.isfinite(summary["rows"]["R(1)"]).any()


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_is_accepted(name):
    config = CONFIGS[name]()
    check_config(config)
    EXPERIMENT.check(config)


def test_what_is_refused():
    with pytest.raises(UserError, match="must be even"):
        EXPERIMENT.check(replace(tiny(), dimension=3))
    with pytest.raises(UserError, match="none twice"):
        EXPERIMENT.check(replace(tiny(), sampling=tiny().sampling * 2))
    config = tiny_trained()
    with pytest.raises(UserError, match="the end of training, 8"):
        EXPERIMENT.check(replace(config, checkpoint_steps=(4,)))
    with pytest.raises(UserError, match="give at least one, and none twice"):
        EXPERIMENT.check(replace(config, regimes=(Regime("a"), Regime("a"))))
    with pytest.raises(UserError, match=r"outside \[0, 1\)"):
        EXPERIMENT.check(replace(config, regimes=(Regime("a", head_dropout=1.0),)))


def test_models_of_a_seed_begin_alike_and_differ_in_identity(tmp_path):
    config = tiny_trained()
    subjects = trained.subjects(config, RunFolder.open("self-repair", "tiny-trained", config, tmp_path / "run"))
    assert list(subjects) == ["plain 0", "plain 1", "dropout 0.3 0", "dropout 0.3 1"]
    assert len({repr(one.identity) for one in subjects.values()}) == 4
    one, other = subjects["plain 0"].init(), subjects["dropout 0.3 0"].init()
    assert all(bool((one[name] == other[name]).all()) for name in ("embedding", "positions"))


def made_up(rng, models=40, slope=-30.0):
    """Results in which the LLC is 100 + slope·R(0.1) + 50·loss exactly, and losses fall straight over three checkpoints."""
    names = [f"{regime} {seed}" for regime in ("plain", "dropout") for seed in range(models // 2)]
    repair, end = rng.uniform(0, 0.5, models), rng.uniform(1.40, 1.45, models)
    loss = np.stack([end + 0.2, end + 0.1, end], axis=1)
    everywhere = np.broadcast_to(repair[:, None], (models, 3))
    held = np.zeros((models, 3, 3, 2, 2))
    held[:, :, 1, 1, 0] = everywhere
    held[:, :, 1, 0, 0] = rng.uniform(size=(models, 1))
    return xarray.Dataset(
        {
            "llc": (("model", "setting", "checkpoint"), (100 + slope * everywhere + 50 * loss)[:, None]),
            "evaluation_loss": (("model", "checkpoint"), loss),
            "weight_norm": (("model", "checkpoint"), rng.uniform(size=(models, 3))),
            "hessian_trace": (("model", "checkpoint"), rng.uniform(size=(models, 3))),
            "repair": (("model", "checkpoint", "norms", "strength", "replacement"), held),
            "redundancy": (("model", "checkpoint", "replacement"), rng.uniform(size=(models, 3, 2))),
        },
        {
            "model": names, "setting": ["one"], "checkpoint": [1, 2, 3], "norms": ["free", "last held", "all held"],
            "strength": [1.0, 0.1], "replacement": ["resample", "mean"],
        },
    )  # fmt: skip


def test_regressions_find_what_was_put_in():
    found = fits(rows_of(made_up(np.random.default_rng(0))))
    for name in ("loss", "loss and norm", "with the trace", "within regimes, loss"):
        assert found["R(0.1)", name][0].value == pytest.approx(-30.0)
        assert found["R(0.1)", name][1] == pytest.approx(1 / 2001)


def test_matching_is_at_the_loss_named():
    results = made_up(np.random.default_rng(1))
    rows = matched(results, 1.5)
    np.testing.assert_allclose(rows["loss"], 1.5)
    np.testing.assert_allclose(rows["llc"], 100 - 30 * rows["R(0.1)"] + 75)
    assert np.isnan(matched(results, 1.2)["llc"]).all()  # nobody gets there
    assert np.isnan(matched(results, 1.9)["llc"]).all()  # all were there before the first checkpoint


def test_distances_are_in_joint_standard_errors():
    at = {"llc": 5.0, "exact_llc": 4.0, "llc_std_error": 0.3, "exact_llc_std_error": 0.4}
    results = xarray.Dataset(
        {name: (("model", "setting", "checkpoint"), np.full((1, 1, 1), one)) for name, one in at.items()}
    )
    assert float(distances(results).item()) == pytest.approx(2.0)


def teardown_function():
    plt.close("all")
