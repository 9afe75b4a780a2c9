"""One contract for every measure: settings that print, values that are described, the same bits twice."""

import ast
import copy
import pathlib
from dataclasses import FrozenInstanceError

import jax
import numpy as np
import pytest

import slt_lab.measures
from configs.transient_ridge import tiny as ridge_tiny
from experiments.lrt_stages.behaviour import Behaviour
from experiments.lrt_stages.subject import components
from experiments.transient_ridge.subject import Path
from experiments.transient_ridge.subject import subjects as ridge_subjects
from slt_jax.models.regression_transformer import RegressionTransformer
from slt_lab.folder import RunFolder
from slt_lab.measures.ablation import Ablation
from slt_lab.measures.geometry import EffectiveDimension, Geometry
from slt_lab.measures.knowledge import Knowledge
from slt_lab.measures.language_llc import HeadLLC, SourceLLC
from slt_lab.measures.llc import LLC
from slt_lab.measures.refined import RefinedLLC
from slt_lab.measures.shifts import Forgetting, HeadMovement, HeadRecovery
from slt_lab.measures.susceptibilities import Susceptibilities
from slt_lab.pieces import digest
from slt_lab.settings import Sampling
from slt_lab.subjects.language_model import language_subject
from slt_lab.subjects.language_settings import LanguageSettings, Model, Shift, Training, Triggers
from slt_lab.subjects.regression_transformer import regression_subject

SMALL = Sampling(
    num_examples=32, nbeta=10.0, localization=10.0, step_size=1e-4, batch_size=8, num_draws=8, num_burnin=4, checkpoint_steps=(4,)
)  # fmt: skip
MODEL = RegressionTransformer(task_dim=2, num_examples=3, width=8, num_heads=2, num_layers=1, hidden=8)
TRACES = Geometry(32, 16, 2, 1, "regression/geometry", (4,))


def regression(tmp_path):
    return regression_subject(
        1, MODEL, num_steps=4, schedule_steps=4, peak_learning_rate=1e-3, batch_size=8, save_at=(0, 4)
    )


def language(tmp_path):
    settings = LanguageSettings(
        data=Triggers(context=8, vocab_size=8, num_triggers=2), model=Model(embed_dim=8, num_heads=2),
        training=Training(num_steps=4, batch_size=8, checkpoint_every=2), num_evaluation_sequences=8, num_probe_sequences=8,
    )  # fmt: skip
    return language_subject(settings, RunFolder.open("none", "tiny", settings, tmp_path / "run"))


def ridge(tmp_path):
    return ridge_subjects(ridge_tiny(), None)[2]


MEASURES = {
    "LLC": (LLC(SMALL), regression),
    "RefinedLLC": (RefinedLLC(components(MODEL)[:2], SMALL, "regression/refined chains"), regression),
    "Geometry": (TRACES, regression),
    "EffectiveDimension": (EffectiveDimension(TRACES, 10.0, 10.0, 4, 16, (4,)), regression),
    "Behaviour": (Behaviour(16), regression),
    "Knowledge": (Knowledge(8, 8), language),
    "Ablation": (Ablation(8), language),
    "Forgetting": (Forgetting(Shift(num_steps=2), 8), language),
    "HeadMovement": (HeadMovement(Shift(num_steps=2), 8), language),
    "HeadRecovery": (HeadRecovery(Shift(language=0), 0.5, 8, (0, 1)), language),
    "HeadLLC": (HeadLLC(SMALL), language),
    "SourceLLC": (SourceLLC(SMALL), language),
    "Susceptibilities": (Susceptibilities(SMALL, 2, 8), language),
    "Path": (Path(ridge_tiny()), ridge),
}


@pytest.mark.parametrize("name", MEASURES)
def test_the_contract_of_a_measure(name, tmp_path):
    measure, make = MEASURES[name]
    subject = make(tmp_path)
    params = subject.init()
    assert measure.axis in ("step", "checkpoint")
    steps = list(measure.steps(subject))
    assert steps == sorted(set(steps))
    assert steps
    assert steps[-1] <= subject.num_steps
    assert digest(measure) == digest(copy.copy(measure))
    with pytest.raises(FrozenInstanceError):
        measure.axis = "other"

    found, again = (jax.tree.map(np.asarray, dict(measure.take(subject, params))) for _ in range(2))
    described = measure.variables(subject)
    assert set(found) == set(described)
    coords = measure.coords(subject)
    sizes = {dim: len(labels) for dim, labels in coords.items()}
    for variable, one in described.items():
        value = found[variable]
        np.testing.assert_array_equal(value, again[variable])
        assert one.long_name, variable
        assert one.units, variable
        assert value.ndim == len(one.dims), variable
        for dim, size in zip(one.dims, value.shape, strict=True):
            assert sizes.setdefault(dim, size) == size, (variable, dim)
        kind = {"diverged": np.bool_, "status": np.str_}.get(variable.rpartition("_")[2], np.number)
        assert np.issubdtype(value.dtype, kind), variable


def test_every_measure_of_the_workshop_is_held_to_the_contract():
    named = {type(measure).__name__ for measure, _ in MEASURES.values()}
    for file in pathlib.Path(slt_lab.measures.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef) and any(getattr(part, "name", "") == "take" for part in node.body):
                assert node.name in named, f"{node.name} in {file}"
