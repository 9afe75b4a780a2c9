"""What the finished parts of a run are called."""

from itertools import product

from configs.programs import Programs
from experiments.programs.machines import CASES, Case

__all__ = [
    "PADDED_CASE", "atlas_piece", "atlases", "estimate_piece", "extra_states", "ladder_piece", "padded_case", "padded_piece",
    "sampled_extras",
]  # fmt: skip

PADDED_CASE = "bit, least λ"
"""The machine whose padded versions are also tempered and sampled."""


def atlases(config: Programs) -> list[tuple[str, int, str]]:
    """Problem, number of steps and semantics of each."""
    settings = config.atlas
    return [
        (problem, settings.bit_steps if problem == "bit" else settings.steps, semantics)
        for problem, semantics in product(settings.problems, settings.semantics)
    ]


def atlas_piece(problem: str, semantics: str) -> str:
    """Of one atlas."""
    return f"atlas/{problem}/{semantics}"


def extra_states(config: Programs) -> int:
    """Idle states at most."""
    return config.max_states - CASES[PADDED_CASE].machine.states


def sampled_extras(config: Programs) -> range:
    """Numbers of idle states whose machines are also tempered and sampled."""
    return range(min(config.max_states, config.max_sampled_states) - CASES[PADDED_CASE].machine.states + 1)


def ladder_piece(case: Case) -> str:
    """Of the ladder of a sampled case."""
    return f"ladder/{slug(case.name)}"


def slug(name: str) -> str:
    """A name as a file name."""
    return name.lower().replace(",", "").replace(" ", "-").replace("/", "over").replace("=", "is")


def estimate_piece(case: Case, nbeta: float, sampler: str) -> str:
    """Of one estimate."""
    return f"estimates/{slug(case.name)}/{nbeta:g}/{sampler.lower()}"


def padded_piece(extra: int, prior: str) -> str:
    """Of the ladder of a padded machine under a prior."""
    return f"padded/{extra}/{prior}"


def padded_case(extra: int) -> Case:
    """The padded machine that is sampled."""
    case = CASES[PADDED_CASE]
    if not extra:
        return case  # under its own name, so that it is not measured twice
    return case._replace(name=f"{case.name}, padded by {extra}", machine=case.machine.padded(extra))
