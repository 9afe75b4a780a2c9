"""Answers requests for milliseconds per chain-step of canonical-interp; started by benchmarks/throughput.py."""

import itertools
import logging
import statistics
import time
from importlib.metadata import version

import torch
from canonical_interp.slt import LLCEstimator
from torch.nn import functional as F
from torch_models import problem, serve

logging.disable(logging.WARNING)

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


class TimedLoader:
    """A data loader that notes when each batch is asked for: a step is the time between two requests."""

    pin_memory, num_workers, persistent_workers = False, 0, False

    def __init__(self, loader, clock):
        self.loader, self.clock, self.times = loader, clock, []

    def __len__(self):
        return len(self.loader)

    def __iter__(self):
        for batch in self.loader:
            self.times.append(self.clock())
            yield batch


def measure(model, batch, n, chains, steps, nbeta, localization, step_size, clock):
    """Median milliseconds of a step of all chains (vmap and torch.compile, its defaults), divided by their number.

    The median leaves out compilation, which every call of `estimate_llc` pays again.
    """
    network, data = problem(model, n, fused_attention=False)
    # As many batches as steps: itertools.cycle keeps those of its first pass and would not ask again.
    data = torch.utils.data.Subset(data, [i % n for i in range(batch * (steps + 3))])
    loader = TimedLoader(torch.utils.data.DataLoader(data, batch_size=batch), CLOCKS[clock])
    estimator = LLCEstimator(steps, chains, 0, 1, learning_rate=step_size, localization=localization, nbeta=nbeta)
    estimator.estimate_llc(network, loader, F.mse_loss, show_progress=False)
    times = loader.times[len(loader) :]
    gaps = [after - before for before, after in itertools.pairwise(times)]
    return statistics.median(gaps[1:]) / chains * 1e3


serve(
    measure, {"canonical": version("canonical-interp"), "torch": torch.__version__, "threads": torch.get_num_threads()}
)
