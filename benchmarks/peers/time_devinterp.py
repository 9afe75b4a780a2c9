"""Answers requests for milliseconds per chain-step of devinterp; started by benchmarks/throughput.py."""

import time
import warnings
from importlib.metadata import version

import torch
from devinterp.optim.sgmcmc import SGMCMC
from devinterp.slt.llc import LLCEstimator
from devinterp.slt.sampler import sample
from devinterp.utils import evaluate_mse
from torch_models import problem, serve

warnings.simplefilter("ignore")

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def measure(model, batch, n, chains, steps, nbeta, localization, step_size, clock):
    """Seconds of one `sample` per chain and step, times 1000, as a user runs it: defaults, SGLD, the LLC recorded."""
    network, data = problem(model, n, fused_attention=True)
    loader = torch.utils.data.DataLoader(data, batch_size=batch, shuffle=True)
    settings = {"lr": step_size, "nbeta": nbeta, "localization": localization}
    estimator = LLCEstimator(chains, steps, init_loss=1.0, nbeta=nbeta)

    def run(draws):
        begin = CLOCKS[clock]()
        sample(
            network,
            loader,
            [estimator],
            evaluate_mse,
            SGMCMC.sgld,
            settings,
            num_draws=draws,
            num_chains=chains,
            init_loss=1.0,
            verbose=False,
        )
        return CLOCKS[clock]() - begin

    return run(steps) / (chains * steps) * 1e3


serve(measure, {"devinterp": version("devinterp"), "torch": torch.__version__, "threads": torch.get_num_threads()})
