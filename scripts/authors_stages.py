"""What stage detection finds on the authors' own LLC curves (seeds 0 and 1), printed beside the paper's stages.

python scripts/authors_stages.py [--flatness 0.5]
"""

import argparse

from experiments.lrt_stages.authors import authors_curves
from experiments.lrt_stages.stages import PAPER_STAGES
from slt_jax.analysis.stages import detect_stages


def main() -> None:
    """Detect and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--flatness", type=float, default=0.5)
    flatness = parser.parse_args().flatness
    print("paper, seed 1:")
    for name, end, loss, llc in PAPER_STAGES:
        print(f"  {name} ends {end:>6}: change of loss {loss:>6}, of LLC {llc}")
    for seed in (0, 1):
        curves = authors_curves(seed)
        # Their error bars are over chains that share their noise over checkpoints: the scatter along the curve says more.
        found = detect_stages(curves.step, curves.llc, None, curves.step, curves.loss, flatness=flatness)
        print(f"found, seed {seed}, flatness {flatness:g}:")
        for stage, boundary in zip(found.stages, (*found.boundaries, None), strict=True):
            end = "end of training" if boundary is None else (
                f"{boundary.kind}, 95% in {boundary.low:,.0f}-{boundary.high:,.0f}, in {boundary.support:.0%} of draws"
            )  # fmt: skip
            print(
                f"  ends {stage.end:>7,.0f} ({end}): change of loss {stage.loss_change:+.3f}, of LLC {stage.llc_change:+.1f} "
                f"± {stage.llc_change_std_error:.1f}; {stage.type}"
            )
        for boundary in found.candidates:
            print(f"  not kept: {boundary.kind} at {boundary.step:,.0f}, in {boundary.support:.0%} of draws")


if __name__ == "__main__":
    main()
