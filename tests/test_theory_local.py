"""The local learning coefficient of linear networks: the table, brute force and exact p-adic volumes."""

import json
import runpy
from fractions import Fraction
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest

from slt_jax import theory

TABLE = json.loads((Path(__file__).parent / "data" / "local_linear_networks.json").read_text())["networks"]


def pairs(count):
    return [(i, j) for i in range(count) for j in range(i + 1, count)]


def constant_ranks(widths, rank):
    return dict.fromkeys(pairs(len(widths)), rank)


def minimal_ranks(widths, layer_ranks):
    """Generic matrices of given ranks: a product has the least rank among its factors."""
    return {(i, j): min(layer_ranks[i:j]) for i, j in pairs(len(widths))}


def ranks_of(widths, intervals):
    return {
        (i, j): sum(count for (a, b), count in intervals.items() if a <= i and j <= b) for i, j in pairs(len(widths))
    }


def decompositions(widths):
    """Every point of the parameter space up to a change of basis, as a multiset of intervals of layers."""
    alive = [layer for layer, width in enumerate(widths) if width]
    if not alive:
        yield {}
        return
    first = alive[0]
    for last in range(first, len(widths)):
        if widths[last] == 0:
            return
        rest = tuple(width - (first <= layer <= last) for layer, width in enumerate(widths))
        for intervals in decompositions(rest):
            if not any(a == first and b < last for a, b in intervals):
                yield {**intervals, (first, last): intervals.get((first, last), 0) + 1}


SMALL = [
    (widths, intervals)
    for layers, sizes in [(1, (1, 2, 3)), (2, (1, 2, 3)), (3, (1, 2, 3)), (4, (1, 2))]
    for widths in product(sizes, repeat=layers + 1)
    for intervals in decompositions(widths)
]


@pytest.mark.parametrize("network", TABLE, ids=lambda network: "-".join(map(str, network["widths"])))
def test_reference_table(network):
    ranks = {tuple(map(int, pair.split(","))): rank for pair, rank in network["ranks"].items()}
    local = theory.deep_linear_network_local(network["widths"], ranks)
    assert local.half_hessian_rank == Fraction(network["half_hessian_rank"])
    assert local.half_codimension == local.upper == Fraction(network["half_codimension"])
    assert local.global_coefficient == (
        Fraction(network["global_learning_coefficient"]),
        network["global_multiplicity"],
    )
    assert local.lower == max(local.global_coefficient.learning_coefficient, local.half_hessian_rank)
    assert local.certified == network["certified"]


def test_deepest_points_have_aoyagis_value_and_multiplicity():
    rng = np.random.default_rng(0)
    for trial in range(300):
        widths = rng.integers(1, 40, size=rng.integers(2, 9)).tolist()
        rank = 0 if trial < 200 else int(rng.integers(0, min(widths) + 1))
        local = theory.deep_linear_network_local(widths, constant_ranks(widths, rank))
        assert local.certified
        assert (local.upper, local.multiplicity_bound) == theory.deep_linear_network(widths, rank)


@pytest.mark.parametrize(
    ("widths", "intervals", "bounds"),
    [
        ((2, 1, 1, 2), {(0, 0): 2, (1, 2): 1, (3, 3): 2}, (Fraction(1, 2), 1)),  # ‖u‖²‖v‖² in R² x R²
        ((3, 1, 1, 3), {(0, 0): 3, (1, 2): 1, (3, 3): 3}, (Fraction(1, 2), Fraction(3, 2))),
        ((1, 1, 2, 2), {(0, 1): 1, (2, 2): 1, (2, 3): 1, (3, 3): 1}, (Fraction(1, 2), 1)),  # v₁² + v₂²s²
    ],
)
def test_cases_solved_by_hand(widths, intervals, bounds):
    local = theory.deep_linear_network_local(widths, ranks_of(widths, intervals))
    assert (local.lower, local.upper) == bounds
    assert local.learning_coefficient == bounds[1]
    assert local.multiplicity_bound == 2
    assert not local.certified


def linked(first, second):
    return first[0] + 1 <= second[0] <= first[1] + 1 <= second[1]


def least_codimension_by_merging(intervals, depth):
    """The least Σ m_ab m_cd over linked pairs, over all patterns that allowed merges can reach."""
    start = frozenset((interval, n) for interval, n in intervals.items() if interval != (0, depth))
    seen, queue, best = {start}, [start], None
    while queue:
        pattern = dict(queue.pop())
        links = [(p, q) for p in pattern for q in pattern if linked(p, q)]
        codimension = sum(pattern[p] * pattern[q] for p, q in links)
        best = codimension if best is None else min(best, codimension)
        for (a, b), (c, d) in links:
            if (a, d) == (0, depth):
                continue
            merged = dict(pattern)
            for interval, change in [((a, b), -1), ((c, d), -1), ((a, d), 1), ((c, b), 1)]:
                if interval[0] <= interval[1]:
                    merged[interval] = merged.get(interval, 0) + change
            frozen = frozenset((interval, n) for interval, n in merged.items() if n)
            if frozen not in seen:
                seen.add(frozen)
                queue.append(frozen)
    return best


def test_the_greedy_minimum_is_the_exhaustive_one_for_every_small_point():
    for widths, intervals in SMALL:
        ranks = ranks_of(widths, intervals)
        rank = ranks[0, len(widths) - 1]
        merged = least_codimension_by_merging(intervals, len(widths) - 1)
        expected = Fraction(rank * (widths[0] + widths[-1] - rank) + merged, 2)
        assert theory.deep_linear_network_local(widths, ranks).upper == expected, (widths, intervals)


def pieces(widths, ranks):
    """Every x whose piece {rank(W_i...W_1) = x_i} of the fibre reaches w*, with its codimension."""
    depth = len(widths) - 1
    for middle in product(*[range(width + 1) for width in widths[1:-1]]):
        x = (widths[0], *middle, ranks[0, depth])
        drops = [x[i] - x[i + 1] for i in range(depth)]
        if min(drops) >= 0 and all(x[i] - x[j] <= widths[i] - ranks[i, j] for i, j in ranks):
            yield x, sum(drop * (widths[i + 1] - x[i + 1]) for i, drop in enumerate(drops))


def test_multiplicity_bound_is_the_longest_chain_of_cheapest_pieces():
    for widths, intervals in SMALL[::7]:
        ranks = ranks_of(widths, intervals)
        codimensions = dict(pieces(widths, ranks))
        cheapest = sorted(x for x, c in codimensions.items() if c == min(codimensions.values()))
        length = {}
        for x in cheapest:
            below = [length[y] for y in length if all(a <= b for a, b in zip(y, x, strict=True))]
            length[x] = 1 + max(below, default=0)
        bound = theory.deep_linear_network_local(widths, ranks).multiplicity_bound
        assert bound == max(length.values()), (widths, intervals)


def test_hessian_rank_is_the_rank_of_the_jacobian():
    for widths, intervals in SMALL[::11]:
        ranks = ranks_of(widths, intervals)
        matrices = theory.normal_form(widths, ranks)
        columns = []
        for s, matrix in enumerate(matrices):
            for entry in np.ndindex(*matrix.shape):
                direction = np.zeros_like(matrix)
                direction[entry] = 1.0
                derivative = np.eye(widths[0])
                for factor in [*matrices[:s], direction, *matrices[s + 1 :]]:
                    derivative = factor @ derivative
                columns.append(derivative.ravel())
        hessian_rank = np.linalg.matrix_rank(np.array(columns))
        local = theory.deep_linear_network_local(widths, ranks)
        assert local.half_hessian_rank == Fraction(int(hessian_rank), 2)
        assert local.lower <= local.upper


def test_transposing_the_network_changes_nothing():
    rng = np.random.default_rng(1)
    for _ in range(100):
        widths = rng.integers(2, 20, size=rng.integers(3, 8)).tolist()
        top = len(widths) - 1
        layer_ranks = [int(rng.integers(1, min(a, b) + 1)) for a, b in pairwise(widths)]
        ranks = minimal_ranks(widths, layer_ranks)
        mirrored = {(top - j, top - i): rank for (i, j), rank in ranks.items()}
        assert theory.deep_linear_network_local(widths[::-1], mirrored) == theory.deep_linear_network_local(
            widths, ranks
        )


def padic_volumes(matrices, depth):
    """Shares of {w ≡ w* mod 2} where the product is A mod 2^n, n = 1, ..., depth, by counting."""
    truth = np.linalg.multi_dot(matrices[::-1]).astype(np.int64)
    volumes = []
    for n in range(1, depth + 1):
        lifts = 2 ** (n - 1)
        index = np.arange(lifts ** sum(matrix.size for matrix in matrices))
        total = None
        for matrix in matrices:
            factor = np.empty((len(index), *matrix.shape), dtype=np.int64)
            for entry in np.ndindex(*matrix.shape):
                factor[:, *entry] = int(matrix[entry]) + 2 * (index % lifts)
                index = index // lifts
            total = factor if total is None else factor @ total
        volumes.append(np.mean(np.all((total - truth) % 2**n == 0, axis=(1, 2))))
    return volumes


@pytest.mark.parametrize(
    ("widths", "intervals", "depth", "expected"),
    [
        ((2, 1, 1, 2), {(0, 0): 2, (1, 2): 1, (3, 3): 2}, 4, [1, 4, 7, 10]),
        ((1, 1, 2, 2), {(0, 1): 1, (2, 2): 1, (2, 3): 1, (3, 3): 1}, 3, [1, 2, 3]),
        ((1, 1, 2, 2), {(0, 1): 1, (2, 2): 2, (3, 3): 2}, 3, [1, 4, 7]),
        ((3, 1, 1, 3), {(0, 0): 3, (1, 2): 1, (3, 3): 3}, 3, [1, 8, 15]),
        ((3, 1, 1, 2), {(0, 0): 3, (1, 2): 1, (3, 3): 2}, 4, [1, 4, 5.5, 6.25]),
    ],
)
def test_exact_padic_volumes_shrink_as_claimed(widths, intervals, depth, expected):
    # V_n is of order n^(m-1) 2^(-2λn): scaled by 2^(2λ(n-1)) it grows linearly where m = 2, and is bounded
    # (its increments halve) where m = 1. If λ were less than claimed it would grow geometrically.
    local = theory.deep_linear_network_local(widths, ranks_of(widths, intervals))
    matrices = theory.normal_form(widths, ranks_of(widths, intervals))
    scaled = [v * 2 ** (2 * float(local.upper) * n) for n, v in enumerate(padic_volumes(matrices, depth))]
    assert not local.certified
    assert scaled == expected
    increments = np.diff(scaled)
    ratio = 1.0 if local.multiplicity_bound == 2 else 0.5
    np.testing.assert_allclose(increments[1:], ratio * increments[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("row", range(4))
def test_measured_volume_shrinks_as_claimed(row):
    path = Path(__file__).parents[1] / "scripts" / "local_lambda_volume.py"
    script = runpy.run_path(str(path))
    widths, intervals = script["NETWORKS"][row]
    local = theory.deep_linear_network_local(widths, ranks_of(widths, intervals))
    matrices = theory.normal_form(widths, ranks_of(widths, intervals))
    parameters = sum(matrix.size for matrix in matrices)
    slope = script["measured_slope"](0, script["squared_error"](matrices), parameters, 2000, 20)
    # log(-log t) has a constant beside it that the leading order leaves out: hence the room below.
    expected = script["expected_slope"](float(local.upper), local.multiplicity_bound)
    assert expected - 0.04 < slope < float(local.upper) + 0.02


def gaussian_binomial(n, k, q):
    value = Fraction(1)
    for i in range(k):
        value *= Fraction(q ** (n - i) - 1, q ** (i + 1) - 1)
    return int(value)


def submodules(outer, inner, q):
    """Submodules of type `inner` in a module of type `outer`; types are conjugate partitions of length n."""
    count = 1
    for j, (mu, nu) in enumerate(zip(outer, inner, strict=True)):
        after = inner[j + 1] if j + 1 < len(inner) else 0
        count *= q ** (after * (mu - nu)) * gaussian_binomial(mu - after, nu - after, q)
    return count


def injections(kind, width, q):
    """Injective maps of a module of this type into the free module of rank `width`."""
    count = Fraction(q ** (width * sum(kind)))
    for i in range(kind[0]):
        count *= 1 - Fraction(q**i, q**width)
    return int(count)


def factorisations_of_zero(widths, n, q=2):
    """Tuples of matrices over Z/q^n with product 0, counted by their images' types (docs/local-lambda.md)."""
    states = {(widths[0],) * n: 1}
    for width, after in pairwise(widths):
        following = {}
        for kind, count in states.items():
            for image in product(*[range(columns + 1) for columns in kind]):
                if max(image) <= after and all(a >= b for a, b in pairwise(image)):
                    maps = submodules(kind, image, q) * injections(image, after, q)
                    extensions = q ** ((n * width - sum(kind)) * after)
                    following[image] = following.get(image, 0) + count * maps * extensions
        states = following
    return states[(0,) * n]


@pytest.mark.parametrize(("widths", "n"), [((2, 1, 2), 3), ((1, 2, 1, 1), 3), ((2, 2, 1), 2), ((2, 2, 2), 2)])
def test_the_count_by_images_on_which_the_proof_rests(widths, n):
    shapes = list(zip(widths[1:], widths, strict=False))
    index = np.arange(2 ** (n * sum(a * b for a, b in shapes)))
    total = None
    for rows, columns in shapes:
        factor = np.empty((len(index), rows, columns), dtype=np.int64)
        for entry in np.ndindex(rows, columns):
            factor[:, *entry] = index % 2**n
            index = index // 2**n
        total = factor if total is None else factor @ total
    counted = int(np.sum(np.all(total % 2**n == 0, axis=(1, 2))))
    assert factorisations_of_zero(widths, n) == counted


def test_rank_pattern_recovers_the_ranks_of_concrete_matrices():
    rng = np.random.default_rng(2)
    for widths, intervals in SMALL[::23]:
        ranks = ranks_of(widths, intervals)
        bases = [np.linalg.qr(rng.standard_normal((width, width)))[0] for width in widths]
        matrices = [
            (bases[s + 1] @ matrix @ bases[s].T).astype(np.float32)
            for s, matrix in enumerate(theory.normal_form(widths, ranks))
        ]
        table = theory.rank_pattern(matrices)
        assert np.array_equal(np.diag(table), widths)
        assert all(table[pair] == rank for pair, rank in ranks.items())
        assert theory.deep_linear_network_local(widths, table) == theory.deep_linear_network_local(widths, ranks)


def test_rank_pattern_of_a_long_product_whose_small_singular_values_are_below_rounding():
    rng = np.random.default_rng(3)
    widths, layer_ranks, matrices = [60] * 13, [60] * 12, []
    layer_ranks[4], layer_ranks[9] = 50, 40
    for rank in layer_ranks:
        left, values, right = np.linalg.svd(rng.standard_normal((60, 60)) / 60**0.5)
        matrices.append(((left[:, :rank] * values[:rank]) @ right[:rank]).astype(np.float32))
    table = theory.rank_pattern(matrices)
    expected = minimal_ranks(widths, layer_ranks)
    assert {pair: int(table[pair]) for pair in expected} == expected


def test_a_network_of_class_1m_takes_no_time():
    widths = [1000 - 13 * s for s in range(21)]
    ranks = minimal_ranks(widths, [400 + 10 * (s % 7) for s in range(20)])
    local = theory.deep_linear_network_local(widths, ranks)
    assert local.lower <= local.upper


GOOD = constant_ranks([3, 2, 3], 1)
BAD_CALLS = [
    (lambda: theory.deep_linear_network_local([], {}), "widths"),
    (lambda: theory.deep_linear_network_local([3, 0, 3], GOOD), "widths"),
    (lambda: theory.deep_linear_network_local([3, 2, 3], {(0, 1): 1, (0, 2): 1}), "ranks"),
    (lambda: theory.deep_linear_network_local([3, 2, 3], {**GOOD, (0, 1): 3}), "ranks"),
    (lambda: theory.deep_linear_network_local([3, 2, 3], {**GOOD, (0, 1): -1}), "ranks"),
    (lambda: theory.deep_linear_network_local([3, 2, 3], {**GOOD, (0, 2): 2}), "ranks"),
    (lambda: theory.deep_linear_network_local([3, 2, 3], {**GOOD, (0, 1): 2, (1, 2): 2}), "ranks"),
    (lambda: theory.deep_linear_network_local([3, 2, 3], np.zeros((2, 2), int)), "ranks"),
    (lambda: theory.deep_linear_network_local([3, 2, 3], np.full((3, 3), 0.5)), "ranks"),
    (lambda: theory.normal_form([3, 2, 3], {**GOOD, (0, 1): 3}), "ranks"),
    (lambda: theory.rank_pattern([]), "matrices"),
    (lambda: theory.rank_pattern([np.zeros((3, 2)), np.zeros((2, 4))]), "matrices"),
    (lambda: theory.rank_pattern([np.zeros(3)]), "matrices"),
]


@pytest.mark.parametrize(("call", "argument"), BAD_CALLS, ids=range(len(BAD_CALLS)))
def test_bad_input_is_refused_by_name(call, argument):
    with pytest.raises(ValueError, match=argument) as caught:
        call()
    assert str(caught.value).startswith(argument)
