"""Noisy Turing machines in JAX against exact rational simulation, and their losses near and far from a machine."""

import json
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slt_jax import theory
from slt_jax.models import turing
from slt_jax.theory import SynthesisProblem, TuringMachine
from slt_jax.theory.programs import Code, output_weights
from slt_jax.theory.programs import Probabilities as Fractions
from slt_jax.theory.programs.machine import MOVES

VECTORS = json.loads((Path(__file__).parent / "data" / "programs.json").read_text())["vectors"]
SEMANTICS = ["naive", "gps", "markov", "quenched"]


def named(name):
    vector = next(vector for vector in VECTORS if vector["name"] == name)
    machine = TuringMachine(vector["symbols"], vector["states"], vector["delta"])
    return machine, SynthesisProblem(vector["inputs"], vector["accepted"], vector["steps"], vector["output"])


def random_counts(seed, symbols, states):
    """Whole numbers whose shares are the probabilities of a random code, small ones among them."""
    rng = np.random.default_rng(seed)
    shapes = {"write": symbols, "state": states, "move": 3}
    return {part: rng.choice([1, 3, 50, 400], (symbols, states, size)) for part, size in shapes.items()}


def exact_code(counts):
    parts = {}
    for part, table in counts.items():
        values = MOVES if part == "move" else range(table.shape[-1])
        parts[part] = {
            pair: {v: Fraction(int(c), int(table[pair].sum())) for v, c in zip(values, table[pair], strict=True)}
            for pair in np.ndindex(table.shape[:2])
        }
    return Code(**parts)


def params_of(counts, seed):
    """Amplitudes of any phase and any length per simplex with these probabilities."""
    rng = np.random.default_rng(seed)
    params = {}
    for part, table in counts.items():
        phase = rng.uniform(0, 2 * np.pi, table.shape)
        size = np.sqrt(table) * rng.uniform(0.3, 3, (*table.shape[:2], 1))
        params[part] = jnp.asarray(np.stack([size * np.cos(phase), size * np.sin(phase)], axis=-1))
    return params


PROBLEMS = [
    (2, 2, SynthesisProblem([[0, 1], [1, 1, 0, 1], [1]], [[0], [1], [1]], 4)),
    (2, 2, SynthesisProblem([[0, 1], [1, 1, 0]], [[0], [1]], 3, ("square", -1))),
    (3, 1, SynthesisProblem([[2, 1], [1, 1, 2]], [[0], [1, 2]], 3, ("square", 2))),
    (2, 3, SynthesisProblem([[1]], [[1]], 1)),
]


@pytest.mark.parametrize("semantics", SEMANTICS)
@pytest.mark.parametrize("case", range(len(PROBLEMS)))
@pytest.mark.parametrize("seed", [0, 1])
def test_simulation_is_the_exact_one(case, semantics, seed):
    symbols, states, problem = PROBLEMS[case]
    if semantics == "quenched" and symbols * states * 3 > 12:
        pytest.skip("too many deterministic codes")
    counts = random_counts(seed, symbols, states)
    code = exact_code(counts)
    with jax.enable_x64(True):
        params = params_of(counts, seed)
        found = turing.output_probabilities(turing.probabilities(params), problem, semantics)
        losses = turing.loss_function(problem, semantics)(params, jnp.arange(len(problem.inputs)))
        squares = turing.loss_function(problem, semantics, "squared_error")(params, jnp.arange(len(problem.inputs)))
        assert found.dtype == jnp.float64
    for row, loss, square, word, accepted in zip(found, losses, squares, problem.inputs, problem.accepted, strict=True):
        exact = output_weights(Fractions(), code, problem, word, semantics)
        np.testing.assert_allclose(row, [float(exact[y]) for y in range(len(row))], rtol=1e-12, atol=0)
        wrong = [p for y, p in exact.items() if y not in accepted]
        assert float(loss) == pytest.approx(-float(np.log(float(1 - sum(wrong)))), rel=1e-12)
        assert float(square) == pytest.approx(float(sum(wrong) ** 2 + sum(p * p for p in wrong)), rel=1e-12)


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_tiny_failures_keep_their_digits_in_float32(semantics):
    """One minus the probability of the right output would be 0 or 6e-8 where the failure is 1e-10."""
    machine, problem = named("bit-t3-28/3")
    params = turing.amplitudes(machine)
    error = theory.program(machine, problem, semantics).linear_syndromes[0]
    value = error.value + 1 if error.part == "move" else error.value
    place = (error.symbol, error.state, value)
    params = {**params, error.part: params[error.part].at[*place, 1].set(1e-5)}
    losses = turing.loss_function(problem, semantics)(params, jnp.arange(2))
    assert losses.dtype == jnp.float32
    counts = {part: np.asarray(z[..., 0], int) * 10**10 for part, z in turing.amplitudes(machine).items()}
    counts[error.part][place] = 1
    for loss, word, accepted in zip(losses, problem.inputs, problem.accepted, strict=True):
        outputs = output_weights(Fractions(), exact_code(counts), problem, word, semantics)
        failure = sum(weight for output, weight in outputs.items() if output not in accepted)
        assert float(loss) == pytest.approx(float(failure), rel=1e-5)
    assert 0.9e-10 < float(jnp.max(losses)) < 4.1e-10


@pytest.mark.parametrize("semantics", SEMANTICS)
def test_loss_and_gradient_at_and_far_from_the_machine(semantics):
    machine, problem = named("and-t4-short")
    model = turing.turing_program(machine, problem, semantics)
    assert model.coefficient.learning_coefficient == theory.program(machine, problem, semantics).learning_coefficient

    def mean(params):
        return jnp.mean(model.loss_fn(params, model.data))

    loss, gradient = jax.jit(jax.value_and_grad(mean))(model.center)
    assert float(loss) == 0
    assert all(float(jnp.max(jnp.abs(g))) == 0 for g in jax.tree.leaves(gradient))
    far = jax.tree.map(lambda z: jax.random.normal(jax.random.key(z.size), z.shape), model.center)
    loss, gradient = jax.jit(jax.value_and_grad(mean))(far)
    direction = jax.tree.map(lambda z: jax.random.normal(jax.random.key(z.size + 1), z.shape), far)
    ahead, behind = (mean(jax.tree.map(lambda z, v, h=h: z + h * v, far, direction)) for h in (1e-3, -1e-3))
    slope = sum(jnp.sum(g * v) for g, v in zip(jax.tree.leaves(gradient), jax.tree.leaves(direction), strict=True))
    assert float(ahead - behind) / 2e-3 == pytest.approx(float(slope), rel=2e-2)


def test_losses_belong_to_the_inputs_of_the_batch():
    _, problem = named("and-t4-short")
    params = params_of(random_counts(0, 2, 2), 0)
    loss_fn = turing.loss_function(problem, "markov")
    whole = loss_fn(params, jnp.arange(4))
    assert len(set(whole.tolist())) == 4
    np.testing.assert_array_equal(loss_fn(params, jnp.array([3, 1, 3])), whole[jnp.array([3, 1, 3])])


def test_flat_amplitudes_give_the_uniform_prior():
    """Gaussian amplitudes, hence any rotation-invariant law: a probability out of k is Beta(1, k-1)."""
    z = jax.random.normal(jax.random.key(0), (20_000, 1, 3, 2))
    p = turing.probabilities({"write": z, "state": z, "move": z}).move[:, 0, 0]
    for level in (0.1, 0.5, 0.9):
        assert float(jnp.mean(p < level)) == pytest.approx(1 - (1 - level) ** 2, abs=0.015)


def test_bad_input_gets_one_sentence():
    machine, problem = named("and-t4-short")
    with pytest.raises(ValueError, match="semantics must be one of"):
        turing.loss_function(problem, "annealed")
    with pytest.raises(ValueError, match="potential must be one of"):
        turing.loss_function(problem, "markov", "mse")
    code = turing.probabilities(turing.amplitudes(machine))
    with pytest.raises(ValueError, match="configurations, above the 100,000"):
        turing.output_probabilities(code, SynthesisProblem([[0]], [[0]], 12), "markov")
    with pytest.raises(ValueError, match="the symbol 2"):
        turing.output_probabilities(code, SynthesisProblem([[2]], [[0]], 1), "naive")
    wide = turing.probabilities(turing.amplitudes(named("detectA-n1-t1")[0]))
    with pytest.raises(ValueError, match="34,012,224 machines"):
        turing.output_probabilities(wide, named("detectA-n1-t1")[1], "quenched")
