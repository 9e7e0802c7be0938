"""Loops over the triplets of a center: a neighbor j, and its partners k, those neighbors that are within its reach.

All lengths are in units of the cutoff, the variable of every attenuation is t = 1 - R²/R_c². The three attenuations of
a triplet are

f_c(t_j) f_c(t_k) f_c(t_jk) exp(-η R_c² (3 - τ)),  τ = t_j + t_k + t_jk

so a triplet needs one polynomial for f_c and one for each η, whose slope is η R_c² times itself.

Triplets are gathered into blocks of `BLOCK` before anything costly is computed, so that the half of the pairs of
neighbors that are not within reach of each other cost a comparison alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.descriptors.kernels.compiling import U, pasted
from tio2nn.descriptors.kernels.lanes import LANES, counting_lane_loop, lane_loop

BLOCK = 256  # the rows of a block stay in the L1 cache

# Rows of the table of neighbors.
X, Y, Z = 0, 1, 2  # unit vector
R, R2 = 3, 4
T = 5  # 1 - R²
VALUE, SLOPE = 6, 7  # weight times f_c, and its derivative with respect to t
INVERSE = 8  # 1 / R
N_NEAR = 9

# Rows of the table of candidates: one j after the other with all k, within reach or not.
ROW_COSINE, ROW_T = 0, 1
CANDIDATES = 4 * BLOCK  # of a block, beside those of the last j

# Rows of the table of triplets.
COSINE = 0
OWN_T = 1  # 1 - R_jk²
TAU = 2  # t_j + t_k, then with t_jk
FACTOR = 3  # of both neighbors, then f_c of all three
GAUSSIAN = 4
F, F_SLOPE = 5, 6  # f_c(R_jk), and its derivative with respect to t_jk
TURN, TO_LEFT, TO_RIGHT = 7, 8, 9  # H, D_j, D_k of `gradient.py`
N_ROWS = 10

MOST_TERMS = 20  # of a polynomial in τ
MOST_CUTOFF_TERMS = 12
MOST_POWERS = 16  # largest ζ of which cosines are summed as a polynomial


def _horner(coefficients: Any, n: int, x: Any) -> Any:
    total = coefficients.number(n - 1)
    for k in range(n - 2, -1, -1):
        total = x * total + coefficients.number(k)
    return total


def _horner_and_slope(coefficients: Any, n: int, x: Any) -> tuple[Any, Any]:
    total, slope = coefficients.number(n - 1), None
    for k in range(n - 2, -1, -1):
        slope = total if slope is None else x * slope + total
        total = x * total + coefficients.number(k)
    return total, slope


@counting_lane_loop
def find_partners(k: Any, near: Any, rows: Any, partners: Any, candidates: Any, filled: Any) -> Any:
    """Add those of some candidates k within reach of neighbor j to its partners, and the geometry of all to the rows.

    The candidates of a whole block are found before the first is looked at: a processor waits for numbers that it has
    just written in other pieces (9 → 5 µs an atom).

    Args:
        candidates: j, first k, end of k, and the place of k in the rows, less k.

    Returns:
        How many partners there are now.
    """
    j, begin, end, shift = candidates
    x, y, z, r, r2 = (near[row] for row in (X, Y, Z, R, R2))
    xj, yj, zj, remaining = x.number(j), y.number(j), z.number(j), k.spread(1.0) - r2.number(j)
    twice_r = r.number(j) * 2.0
    counter = k.new_counter(filled)
    for m in k.steps(begin, end):
        cosine = xj * x.at(m) + yj * y.at(m) + zj * z.at(m)
        # R_jk² from the law of cosines
        own_t = remaining - r2.at(m) + twice_r * r.at(m) * cosine
        rows[ROW_COSINE].put(k.moved(m, shift), cosine)
        rows[ROW_T].put(k.moved(m, shift), own_t)
        k.put_places(partners, counter, m, (own_t > 0.0) & k.before(m, end))
    return k.count(counter)


@lane_loop
def gather_triplets(k: Any, near: Any, rows: Any, table: Any, partners: Any, segment: Any) -> None:
    """The triplets of neighbor j: cosine, t_jk, t_j + t_k, and what both neighbors bring to the factor."""
    j, shift, begin, end = segment
    mine, tj = near[VALUE].number(j), near[T].number(j)
    for m in k.steps(begin, end):
        places = partners.at(m)
        candidates = k.moved_all(places, shift)
        table[COSINE].put(m, rows[ROW_COSINE].gather(candidates))
        table[OWN_T].put(m, rows[ROW_T].gather(candidates))
        table[TAU].put(m, tj + near[T].gather(places))
        table[FACTOR].put(m, mine * near[VALUE].gather(places))


@pasted
def end_block(table: FloatArray, filled: int) -> None:
    """Numbers without effect behind the last triplet, for the rest of the last step."""
    for m in range(filled, filled + LANES):
        table[COSINE, m] = table[OWN_T, m] = table[TAU, m] = table[FACTOR, m] = 0.0


class Segments(NamedTuple):
    """The triplets of one neighbor after the other in a block; (room + 1,) and one more for the ends."""

    lefts: IntArray  # neighbor j of each
    shifts: IntArray  # of its candidates in the rows, less k
    ends: IntArray  # [0] is 0, then the end of each segment


@pasted
def new_segments(room: int) -> Segments:
    """For so many neighbors."""
    return Segments(np.empty(room + 1, np.int64), np.empty(room + 1, np.int64), np.zeros(room + 2, np.int64))


@pasted
def gather_block(
    near: FloatArray,
    rows: FloatArray,
    table: FloatArray,
    partners: IntArray,
    segments: Segments,
    candidates: tuple[int, int, int, int],
) -> tuple[int, int, int]:
    """Gather the triplets of some neighbors j, from one on: until the block is full, or to the last j.

    Args:
        near: all neighbors.
        rows, table, partners, segments: filled here.
        candidates: first j, end of j, first k (or -1, where j and k are of one kind: those behind j), end of k.

    Returns:
        The next j, how many triplets there are, and how many segments.
    """
    j, j_end, k_first, k_end = candidates
    filled, tried, n_segments = 0, 0, 0
    while True:
        k_begin = j + 1 if k_first < 0 else k_first
        n = find_partners(near, rows, partners, (j, k_begin, k_end, tried - k_begin), filled)
        if n > filled:
            segments.lefts[n_segments], segments.shifts[n_segments] = j, tried - k_begin
            segments.ends[n_segments + 1] = filled = n
            n_segments += 1
        tried += k_end - k_begin
        j += 1
        if filled >= BLOCK or tried >= CANDIDATES or j >= j_end:
            break
    for s in range(n_segments):
        begin, end = segments.ends[s], segments.ends[s + 1]
        gather_triplets(near, rows, table, partners, (segments.lefts[s], segments.shifts[s], begin, end))
    end_block(table, filled)
    return j, filled, n_segments


@lane_loop
def cut_neighbors(k: Any, near: Any, polynomial: Any, terms: Any, n: Any) -> None:
    """f_c of the neighbors and its slope, without their weights."""
    for count in k.cases(terms, range(2, MOST_CUTOFF_TERMS + 1)):
        for m in k.steps(0, n):
            t = near[T].at(m)
            total, slope = _horner_and_slope(polynomial, count, t)
            near[VALUE].put(m, t * t * total)
            near[SLOPE].put(m, t * (total * 2.0 + t * slope))


@lane_loop
def cut_triplets(k: Any, table: Any, polynomial: Any, terms: Any, n: Any) -> None:
    """Complete the factors by f_c(R_jk), and τ by t_jk."""
    for count in k.cases(terms, range(2, MOST_CUTOFF_TERMS + 1)):
        for m in k.steps(0, n):
            t = table[OWN_T].at(m)
            table[FACTOR].put(m, table[FACTOR].at(m) * (t * t * _horner(polynomial, count, t)))
            table[TAU].put(m, table[TAU].at(m) + t)


@lane_loop
def cut_triplets_with_slopes(k: Any, table: Any, polynomial: Any, terms: Any, n: Any) -> None:
    """f_c(R_jk) and its slope; complete τ by t_jk."""
    for count in k.cases(terms, range(2, MOST_CUTOFF_TERMS + 1)):
        for m in k.steps(0, n):
            t = table[OWN_T].at(m)
            total, slope = _horner_and_slope(polynomial, count, t)
            table[F].put(m, t * t * total)
            table[F_SLOPE].put(m, t * (total * 2.0 + t * slope))
            table[TAU].put(m, table[TAU].at(m) + t)


@lane_loop
def fill_gaussian(
    k: Any, table: Any, target: Any, row: Any, polynomials: Any, e: Any, terms: Any, n: Any
) -> None:
    """A row of a polynomial in τ."""
    coefficients, out = polynomials[e], target[row]
    for count in k.cases(terms, range(2, MOST_TERMS + 1)):
        for m in k.steps(0, n):
            out.put(m, _horner(coefficients, count, table[TAU].at(m)))


@lane_loop
def multiply_rows(k: Any, a: Any, row: Any, b: Any, other: Any, c: Any, target: Any, n: Any) -> None:
    """c[target] = a[row] b[other]."""
    left, right, out = a[row], b[other], c[target]
    for m in k.steps(0, n):
        out.put(m, left.at(m) * right.at(m))


@lane_loop
def fill_linear_power(k: Any, table: Any, powers: Any, row: Any, constant: Any, slope: Any, n: Any) -> None:
    """A row of constant + slope cosθ."""
    out = powers[row]
    for m in k.steps(0, n):
        out.put(m, table[COSINE].at(m) * slope + constant)


@lane_loop
def sum_products(k: Any, n: Any, left: Any, e: Any, n_left: Any, right: Any, r: Any, sums: Any) -> None:
    """sums[e to e + n_left, r and r + 1] += Σ_m left[e, m] right[r, m], of at most three and two rows."""
    for count in k.cases(n_left, range(1, 4)):
        rows = [left[k.sum_index(e, step)] for step in range(count)]
        others = [right[k.sum_index(r, step)] for step in range(2)]
        totals = [[k.new_sum() for _ in others] for _ in rows]
        for m in k.steps(0, n):
            values = [row.at(m) for row in others]
            for row, own in zip(rows, totals, strict=True):
                value = row.at(m)
                for total, other in zip(own, values, strict=True):
                    total.add(value * other)
        for step, own in enumerate(totals):
            for other, total in enumerate(own):
                sums[k.sum_index(e, step)].add_number(k.sum_index(r, other), total.total())


@lane_loop
def add_cosine_polynomial(
    k: Any, table: Any, actions: Any, s: Any, polynomials: Any, which: Any, decay: Any, n: Any
) -> None:
    """Rows 3 s to 3 s + 2 of actions += g P, η R_c² g P and g dP/dc, of a polynomial P of the cosine.

    Args:
        which: row and degree of the polynomial.
    """
    e, degree = which
    whole, pulled, turned = (actions[k.sum_index(s, step)] for step in range(3))
    coefficients = polynomials[e]
    for count in k.cases(degree, range(1, MOST_POWERS + 1)):
        for m in k.steps(0, n):
            gaussian = table[GAUSSIAN].at(m)
            total, slope = _horner_and_slope(coefficients, count + 1, table[COSINE].at(m))
            product = gaussian * total
            whole.put(m, whole.at(m) + product)
            pulled.put(m, pulled.at(m) + decay * product)
            turned.put(m, turned.at(m) + gaussian * slope)


@lane_loop
def add_power_sums(
    k: Any, table: Any, actions: Any, s: Any, power: Any, slope: Any, decay: Any, n: Any
) -> None:
    """As `add_cosine_polynomial`, of P and dP/dc in two rows."""
    whole, pulled, turned = (actions[k.sum_index(s, step)] for step in range(3))
    for m in k.steps(0, n):
        gaussian = table[GAUSSIAN].at(m)
        product = gaussian * power.at(m)
        whole.put(m, whole.at(m) + product)
        pulled.put(m, pulled.at(m) + decay * product)
        turned.put(m, turned.at(m) + gaussian * slope.at(m))


@lane_loop
def act_on_pairs(k: Any, near: Any, table: Any, partners: Any, actions: Any, s: Any, segment: Any) -> None:
    """H, D_j and D_k of the triplets of neighbor j."""
    j, begin, end = segment
    whole, pulled, turned = (actions[k.sum_index(s, step)] for step in range(3))
    value, slope, inverse = near[VALUE], near[SLOPE], near[INVERSE]
    mine_slope, per_left = slope.number(j), inverse.number(j)
    for m in k.steps(begin, end):
        places = partners.at(m)
        theirs, theirs_slope, per_right = (row.gather(places) for row in (value, slope, inverse))
        f, f_slope, cosine = table[F].at(m), table[F_SLOPE].at(m), table[COSINE].at(m)
        total, pull = whole.at(m), pulled.at(m)
        both = table[FACTOR].at(m)
        reached = f * total
        turning = both * f * turned.at(m)
        shared = both * f * pull
        along = (both * f_slope * total + shared) * 2.0
        # of the slopes of f_c at both neighbors
        left = (shared + mine_slope * theirs * reached) * 2.0 + along
        right = (shared + value.number(j) * theirs_slope * reached) * 2.0 + along
        table[TURN].put(m, turning * per_left * per_right + along)
        nothing = k.spread(0.0)
        swing = turning * cosine
        table[TO_LEFT].put(m, nothing - (swing * per_left * per_left + left))
        table[TO_RIGHT].put(m, nothing - (swing * per_right * per_right + right))


@pasted
def place_in_rows(vectors: FloatArray, begin: int, n: int, cutoff: float, near: FloatArray) -> None:
    """The neighbors from `begin` on, Å, in the rows of a table."""
    for j in range(U(n)):
        vx = vectors[U(begin) + j, 0] / cutoff
        vy = vectors[U(begin) + j, 1] / cutoff
        vz = vectors[U(begin) + j, 2] / cutoff
        r2 = vx * vx + vy * vy + vz * vz
        r = np.sqrt(r2)
        near[X, j], near[Y, j], near[Z, j] = vx / r, vy / r, vz / r
        near[R, j], near[R2, j], near[INVERSE, j] = r, r2, 1.0 / r
        near[T, j] = max(0.0, 1.0 - r2)


@pasted
def fill_powers_of_triplets(
    n: int, table: FloatArray, recipe: IntArray, exponents: FloatArray, powers: FloatArray
) -> None:
    """powers[r, :n] = ((1 + λ cosθ)/2)^ζ of row r, by the recipe of `tables.power_recipe`."""
    for r in range(recipe.shape[0]):
        a, b = recipe[r, 0], recipe[r, 1]
        if a < 0:
            # row of ones for λ = 0
            fill_linear_power(table, powers, r, 0.5 if b != 0 else 1.0, 0.5 * b, n)
        elif b < 0:
            for m in range(n):
                u = powers[a, m]
                # at u = 0 the sine that stands beside a negative power in a derivative vanishes
                powers[r, m] = u ** exponents[r] if u > 0.0 else 0.0
        else:
            multiply_rows(powers, a, powers, b, powers, r, n)
