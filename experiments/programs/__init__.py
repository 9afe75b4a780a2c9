"""Programs as singularities: λ of noisy Turing machines exactly, samplers beside it, and whether short is simple."""

from configs.programs import CONFIGS
from experiments.programs.measure import check, run
from experiments.programs.page import page
from slt_lab.experiment import Experiment

__all__ = ["EXPERIMENT"]

EXPERIMENT = Experiment(
    name="programs",
    summary="exact learning coefficients of noisy Turing machines, samplers beside them, and whether short is simple",
    paper="Clift, Murfet & Wallbridge 2021, Geometry of program synthesis",
    configs=CONFIGS,
    check=check,
    run=run,
    page=page,
)
