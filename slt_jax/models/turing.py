"""Noisy Turing machines in JAX: a code as complex amplitudes, and the probability that it answers wrongly.

A code holds a distribution over what is written, over the next state and over the move for every pair (symbol, state). Its
parameters are amplitudes z with p_i = |z_i|²/|z|²: no walls at p = 0, no Jacobian, and the flat measure on z gives the uniform
prior on every simplex, so that λ and m are those of `theory.program`. (Real amplitudes would give the Jeffreys prior, and half
of λ; a softmax puts a deterministic machine at infinity.)

Probabilities of wrong outputs are summed, never got as one minus the right ones: near a machine they are far smaller than the
rounding error of one. `docs/programs.md` describes the semantics.
"""

from collections.abc import Callable
from functools import cache, partial
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from slt_jax import theory
from slt_jax.models.singular import KnownModel
from slt_jax.theory import LearningCoefficient, SynthesisProblem, TuringMachine
from slt_jax.theory.programs.exhaustion import all_tables, deterministic_outputs
from slt_jax.theory.programs.machine import MOVES
from slt_jax.theory.programs.semantics import semantics_named
from slt_jax.typing import Array, LossFn, Params

__all__ = ["Probabilities", "amplitudes", "loss_function", "output_probabilities", "probabilities", "turing_program"]

MOST_CONFIGURATIONS = 10**5
MOST_CODES = 10**5


class Probabilities(NamedTuple):
    """A code: for every (symbol, state) a distribution over symbols, over states and over the moves left, stay, right.

    Example:
        >>> from slt_jax.models.turing import amplitudes, probabilities
        >>> from slt_jax.theory import TuringMachine
        >>> flip = TuringMachine(2, 1, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
        >>> probabilities(amplitudes(flip)).write.tolist()  # symbol read, state, symbol written
        [[[0.0, 1.0]], [[1.0, 0.0]]]
    """

    write: Float[Array, "symbol state new_symbol"]
    state: Float[Array, "symbol state new_state"]
    move: Float[Array, "symbol state 3"]


def amplitudes(machine: TuringMachine) -> Params:
    """The deterministic machine as parameters: `{"write", "state", "move"}`, each `(symbol, state, value, 2)`.

    The last axis holds the real and the imaginary part of an amplitude: 1 for the right value, 0 for the others.

    Example:
        >>> from slt_jax.models.turing import amplitudes
        >>> from slt_jax.theory import TuringMachine
        >>> flip = TuringMachine(2, 1, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
        >>> {part: leaf.shape for part, leaf in amplitudes(flip).items()}
        {'write': (2, 1, 2, 2), 'state': (2, 1, 1, 2), 'move': (2, 1, 3, 2)}
    """
    shape = (machine.symbols, machine.states)
    rows = np.array([row[2:] for row in machine.delta]).reshape(*shape, 3)
    sizes = {"write": machine.symbols, "state": machine.states, "move": len(MOVES)}
    values = {"write": rows[..., 0], "state": rows[..., 1], "move": rows[..., 2] - MOVES[0]}
    return {
        part: jnp.stack([jnp.asarray(np.eye(size)[values[part]]), jnp.zeros((*shape, size))], axis=-1)
        for part, size in sizes.items()
    }


def probabilities(params: Params) -> Probabilities:
    """p_i = |z_i|²/|z|² on every simplex; `params` as of `amplitudes`.

    Example:
        >>> from slt_jax.models.turing import amplitudes, probabilities
        >>> from slt_jax.theory import TuringMachine
        >>> flip = TuringMachine(2, 1, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
        >>> probabilities(amplitudes(flip)).move.tolist()  # left, stay, right
        [[[0.0, 1.0, 0.0]], [[0.0, 1.0, 0.0]]]
    """
    weights = {part: jnp.sum(z**2, axis=-1) for part, z in params.items()}
    return Probabilities(**{part: w / jnp.sum(w, axis=-1, keepdims=True) for part, w in weights.items()})


def output_probabilities(
    code: Probabilities, problem: SynthesisProblem, semantics: str
) -> Float[Array, "input output"]:
    """The probability of every output on every input of `problem`.

    Args:
        code: distributions of any floating-point type.
        problem: what is run.
        semantics: `"naive"`, `"gps"`, `"markov"` or `"quenched"`; the last sums over all deterministic codes.

    Raises:
        ValueError: for unknown semantics, a problem that does not fit the code's size, or one with too many configurations or
            deterministic codes to sum over.

    Example:
        >>> from slt_jax.models.turing import amplitudes, output_probabilities, probabilities
        >>> from slt_jax.theory import SynthesisProblem, TuringMachine
        >>> flip = TuringMachine(2, 1, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
        >>> problem = SynthesisProblem([[0], [1]], [[1], [0]], steps=1, output=("square", 0))
        >>> output_probabilities(probabilities(amplitudes(flip)), problem, "markov").tolist()
        [[0.0, 1.0], [1.0, 0.0]]
    """
    semantics_named(semantics)
    problem.check(*code.write.shape[:2])
    return _SIMULATORS[semantics](code, problem)


@cache
def loss_function(problem: SynthesisProblem, semantics: str, potential: str = "nll") -> LossFn:
    """`(params, batch) -> losses` for a batch of indices of inputs, `(batch,)`; equal arguments give the same function.

    The loss of an input is -log(1 - f) for the potential `"nll"`, f being the probability of an output that is not accepted, and
    f² + Σ p_y² over those outputs for `"squared_error"`.

    Raises:
        ValueError: for an unknown name, here; as `output_probabilities`, when it is called.

    Example:
        >>> import jax.numpy as jnp
        >>> from slt_jax.models.turing import amplitudes, loss_function
        >>> from slt_jax.theory import SynthesisProblem, TuringMachine
        >>> flip = TuringMachine(2, 1, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
        >>> problem = SynthesisProblem([[0], [1]], [[1], [0]], steps=1, output=("square", 0))
        >>> abs(loss_function(problem, "markov")(amplitudes(flip), jnp.arange(2))).tolist()
        [0.0, 0.0]
    """
    semantics_named(semantics)
    if potential not in _POTENTIALS:
        raise ValueError(f"potential must be one of {', '.join(_POTENTIALS)}, got {potential!r}")
    return partial(_losses, problem, semantics, _POTENTIALS[potential])


def turing_program(
    machine: TuringMachine, problem: SynthesisProblem, semantics: str = "markov", potential: str = "nll"
) -> KnownModel:
    """The noisy codes around `machine`, with its exact (λ, m); the data are the indices of the inputs.

    Raises:
        ValueError: as `theory.program`.

    Example:
        >>> from slt_jax.models.turing import turing_program
        >>> from slt_jax.theory import SynthesisProblem, TuringMachine
        >>> flip = TuringMachine(2, 1, [[0, 0, 1, 0, 0], [1, 0, 0, 0, 0]])
        >>> problem = SynthesisProblem([[0], [1]], [[1], [0]], steps=1, output=("square", 0))
        >>> turing_program(flip, problem).coefficient.learning_coefficient
        Fraction(4, 1)
    """
    found = theory.program(machine, problem, semantics, potential)
    coefficient = LearningCoefficient(found.learning_coefficient, found.multiplicity)
    data = jnp.arange(len(problem.inputs))
    name = f"program of {found.used_tuples} tuples, {problem.steps} steps, {semantics}"
    return KnownModel(name, loss_function(problem, semantics, potential), data, amplitudes(machine), coefficient)


def _losses(
    problem: SynthesisProblem, semantics: str, potential: Callable, params: Params, batch: Int[Array, " batch"]
) -> Float[Array, " batch"]:
    code = probabilities(params)
    outputs = output_probabilities(code, problem, semantics)
    right = np.zeros(outputs.shape, bool)
    for row, accepted in zip(right, problem.accepted, strict=True):
        row[list(accepted)] = True
    return potential(outputs, jnp.asarray(right))[batch]


def _negative_log_likelihood(outputs: Float[Array, "input output"], right: Array) -> Float[Array, " input"]:
    success = jnp.sum(jnp.where(right, outputs, 0), axis=1)
    failure = jnp.sum(jnp.where(right, 0, outputs), axis=1)
    # Each formula where its argument is known to many digits; the other branch gets a harmless one.
    rare = failure < 0.5
    return jnp.where(rare, -jnp.log1p(-jnp.where(rare, failure, 0)), -jnp.log(jnp.where(rare, 1, success)))


def _squared_error(outputs: Float[Array, "input output"], right: Array) -> Float[Array, " input"]:
    wrong = jnp.where(right, 0, outputs)
    return jnp.sum(wrong, axis=1) ** 2 + jnp.sum(wrong**2, axis=1)


_POTENTIALS: dict[str, Callable] = {"nll": _negative_log_likelihood, "squared_error": _squared_error}


def _window(problem: SynthesisProblem, radius: int) -> np.ndarray:
    """The squares within `radius` of the head at the start, `(input, square)`."""
    rows = [[word[u] if 0 <= u < len(word) else 0 for u in range(-radius, radius + 1)] for word in problem.inputs]
    return np.array(rows, np.int64)


def _independent(weights: Callable, code: Probabilities, problem: SynthesisProblem) -> Float[Array, "input output"]:
    """State `(input, state)` and squares `(input, square, symbol)`, independent after each step."""
    symbols, states, _ = code.write.shape
    dtype = code.write.dtype
    radius = problem.radius(problem.steps)
    tape = jnp.asarray(np.eye(symbols)[_window(problem, radius)], dtype)
    state = jnp.asarray(np.eye(states)[np.zeros(len(problem.inputs), int)], dtype)
    for remaining in reversed(range(problem.steps)):
        met, idle = weights(tape[:, radius], state)
        move = jnp.einsum("xaq,aqd->xd", met, code.move)
        move = move + idle[:, None] * jnp.asarray([0, 1, 0], dtype)[None, :]
        written = jnp.einsum("xaq,aqb->xb", met, code.write) + idle[:, None] * tape[:, radius]
        state = jnp.einsum("xaq,aqr->xr", met, code.state) + idle[:, None] * state
        after = tape.at[:, radius].set(written)
        new = problem.radius(remaining)
        if new >= 0:
            seen = [after[:, radius + d - new : radius + d + new + 1] for d in MOVES]
            tape = jnp.einsum("xd,dxub->xub", move, jnp.stack(seen))
        radius = new
    return state if problem.square is None else tape[:, radius + problem.square]


def _naive_weights(symbol: Array, state: Array) -> tuple[Array, Array]:
    return symbol[:, :, None] * state[:, None, :], jnp.zeros_like(symbol[:, 0])


def _gps_weights(symbol: Array, state: Array) -> tuple[Array, Array]:
    """The last match in the order (symbol, state) is obeyed; 1 - λ_j is the sum of the other matches."""
    met = (symbol[:, :, None] * state[:, None, :]).reshape(len(symbol), symbol.shape[1] * state.shape[1])
    count = met.shape[1]
    others = met @ jnp.asarray(1 - np.eye(count), met.dtype)
    obeyed: list[Array] = []
    later = jnp.ones_like(met[:, 0])
    for j in reversed(range(count)):
        obeyed.insert(0, met[:, j] * later)
        later = later * others[:, j]
    return jnp.stack(obeyed, axis=1).reshape(len(symbol), symbol.shape[1], state.shape[1]), later


def _markov(code: Probabilities, problem: SynthesisProblem) -> Float[Array, "input output"]:
    """Backwards from the outputs: the law of the output for every configuration with so many steps left."""
    symbols, states, _ = code.write.shape
    rows = _whole_rows(code)
    value = jnp.asarray(_final_outputs(problem, symbols, states), code.write.dtype)
    for remaining in range(1, problem.steps + 1):
        if remaining < problem.steps:
            state, tape = _configurations(problem, symbols, states, remaining)
        else:
            state, tape = np.zeros(len(problem.inputs), int), _window(problem, problem.radius(remaining))
        pairs = tape[:, tape.shape[1] // 2] * states + state
        after = _successors(tape, symbols, states, problem.radius(remaining - 1))
        value = jnp.einsum("ck,cko->co", rows[pairs], value[after])
    return value


def _whole_rows(code: Probabilities) -> Float[Array, "pair row"]:
    """Probabilities of all rows (new symbol, new state, move) of every pair."""
    rows = jnp.einsum("aqb,aqr,aqd->aqbrd", *code)
    return rows.reshape(rows.shape[0] * rows.shape[1], rows.shape[2] * rows.shape[3] * rows.shape[4])


def _number(state: np.ndarray, tape: np.ndarray, symbols: int) -> np.ndarray:
    """Configurations as numbers: the state, then the squares, in base |Σ|."""
    number = state.astype(np.int64)
    for square in tape.T:
        number = number * symbols + square
    return number


def _configurations(
    problem: SynthesisProblem, symbols: int, states: int, remaining: int
) -> tuple[np.ndarray, np.ndarray]:
    """States `(configuration,)` and squares `(configuration, square)` in the order of their numbers."""
    squares = 2 * problem.radius(remaining) + 1 if problem.radius(remaining) >= 0 else 0
    if states * symbols**squares > MOST_CONFIGURATIONS:
        raise ValueError(
            f"steps must be fewer: markov semantics would follow {states * symbols**squares:,} configurations, above the "
            f"{MOST_CONFIGURATIONS:,} that are summed over"
        )
    digits = np.indices((states, *(symbols,) * squares)).reshape(squares + 1, states * symbols**squares)
    return digits[0], digits[1:].T


def _successors(tape: np.ndarray, symbols: int, states: int, radius: int) -> np.ndarray:
    """The numbers of the configurations after each row, `(configuration, row)`, with the squares within `radius`."""
    middle, after = tape.shape[1] // 2, []
    for b in range(symbols):
        for r in range(states):
            for d in MOVES:
                new = tape.copy()
                new[:, middle] = b
                seen = new[:, middle + d - radius : middle + d + radius + 1] if radius >= 0 else new[:, :0]
                after.append(_number(np.full(len(tape), r), seen, symbols))
    return np.stack(after, axis=1)


def _final_outputs(problem: SynthesisProblem, symbols: int, states: int) -> np.ndarray:
    """One where a final configuration shows an output, `(configuration, output)`."""
    state, tape = _configurations(problem, symbols, states, 0)
    if problem.square is None:
        return np.eye(states)[state]
    return np.eye(symbols)[tape[:, tape.shape[1] // 2 + problem.square]]


def _quenched(code: Probabilities, problem: SynthesisProblem) -> Float[Array, "input output"]:
    """The sum over all deterministic codes."""
    symbols, states, _ = code.write.shape
    rows = _whole_rows(code)
    law = jnp.ones((1,), rows.dtype)
    answers = [deterministic_outputs(tables, problem) for tables in all_tables(symbols, states, MOST_CODES)]
    for row in rows:
        law = (law[:, None] * row[None, :]).reshape(law.shape[0] * row.shape[0])
    outputs = np.eye(states if problem.square is None else symbols)[np.concatenate(answers)]
    return jnp.einsum("c,cxo->xo", law, jnp.asarray(outputs, rows.dtype))


_SIMULATORS: dict[str, Callable] = {
    "naive": partial(_independent, _naive_weights),
    "gps": partial(_independent, _gps_weights),
    "markov": _markov,
    "quenched": _quenched,
}
