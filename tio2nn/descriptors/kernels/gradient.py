"""Compiled loops of Σ_f w_f ∂G_f/∂R, summed over all atoms: forces and virial, without the Jacobian.

The weights w_f = ∂E/∂G_f of an atom enter before the sums over its neighbors: beside the Gaussian of each η then stands
one polynomial of the cosine, whatever the number of functions, and each triplet has three numbers H, D_j, D_k:

∂E/∂v_j = H v_k + D_j v_j,  ∂E/∂v_k = H v_j + D_k v_k

With the Gaussians g, their polynomials P, A = Σ g P, B = Σ η R_c² g P, C = Σ g dP/dc, and f = f_c, f' = df_c/dt of the
three distances,

H   = f_j f_k [f_jk C / (r_j r_k) + 2 (f'_jk A + f_jk B)]
D_j = -f_j f_k [f_jk C c / r_j² + 2 (f'_jk A + 2 f_jk B)] - 2 f'_j f_k f_jk A

in units of the cutoff, and D_k with j and k exchanged.
"""

from __future__ import annotations

import numpy as np

from tio2nn.array_types import FloatArray, IntArray
from tio2nn.descriptors.kernels.arguments import (
    Around,
    CosinePolynomials,
    RadialTables,
    Slopes,
    TripletTables,
)
from tio2nn.descriptors.kernels.compiling import IS_COMPILED, U, compiled, compiled_inline, pasted
from tio2nn.descriptors.kernels.geometry import longest_row, most_neighbors, place_on_line
from tio2nn.descriptors.kernels.lane_code import move_in_lanes
from tio2nn.descriptors.kernels.lanes import LANES
from tio2nn.descriptors.kernels.polynomials import (
    multiply_polynomial,
    polynomial_times_t2_and_slope,
    square,
)
from tio2nn.descriptors.kernels.powers import weighted_powers
from tio2nn.descriptors.kernels.triplets import (
    BLOCK,
    CANDIDATES,
    GAUSSIAN,
    N_NEAR,
    N_ROWS,
    SLOPE,
    TO_LEFT,
    TO_RIGHT,
    TURN,
    VALUE,
    act_on_pairs,
    add_cosine_polynomial,
    add_power_sums,
    cut_neighbors,
    cut_triplets_with_slopes,
    fill_gaussian,
    fill_powers_of_triplets,
    gather_block,
    multiply_rows,
    new_segments,
    place_in_rows,
)

_ROWS = (TURN, TO_LEFT, TO_RIGHT)


@compiled
def radial_gradient(around: Around, tables: RadialTables, weights: FloatArray, out: FloatArray) -> None:
    """out[s, pair] += Σ_f weights[s, i, f * n_kinds + kind] ∂G_f/∂v of each pair (i, neighbor), per Å.

    Args:
        around: the neighbors and their weights.
        tables: of the functions.
        weights: (n_sets, n_atoms, n_features).
        out: (n_sets, n_pairs, 3).
    """
    first, vectors, neighbor_weights, n_kinds = around
    cutoff, n_sets = tables.cutoff, weights.shape[0]
    room = longest_row(around)
    slope = np.empty((n_sets, room))
    f_c, f_c_slope = np.empty(room), np.empty(room)
    r, t, y, gaussian = np.empty(room), np.empty(room), np.empty(room), np.empty(room)
    for row in range(first.shape[0] - 1):
        atom, kind = row // n_kinds, row % n_kinds
        n = first[row + 1] - first[row]
        place_on_line(vectors, first[row], n, cutoff, r, t)
        slope[:] = 0.0
        polynomial_times_t2_and_slope(tables.cutoff_polynomial, t, f_c, f_c_slope, n)
        for k in range(n):
            f_c[k] *= neighbor_weights[first[row] + k]
            f_c_slope[k] *= neighbor_weights[first[row] + k]
        for f in range(tables.shifts.shape[0]):
            shift, scale, decay = tables.shifts[f], tables.scales[f], tables.decays[f]
            for k in range(U(n)):
                y[k] = (r[k] - shift) * (r[k] - shift) * scale
                # d/dr over r, in units of the cutoff
                gaussian[k] = -2.0 * (decay * (r[k] - shift) / r[k] * f_c[k] + f_c_slope[k])
            _multiply_gaussian(tables.polynomials[f], tables.squarings[f], y, gaussian, n)
            for s in range(n_sets):
                weight, target = weights[s, atom, f * n_kinds + kind], slope[s]
                for k in range(U(n)):
                    target[k] += weight * gaussian[k]
        for s in range(n_sets):
            for k in range(n):
                for x in range(3):
                    out[s, first[row] + k, x] += slope[s, k] * vectors[first[row] + k, x] / (cutoff * cutoff)


@compiled_inline
def _multiply_gaussian(
    polynomial: FloatArray, squarings: int, y: FloatArray, out: FloatArray, n: int
) -> None:
    """out[:n] *= exp(-η (R - R_s)²)."""
    if squarings == 0:
        multiply_polynomial(polynomial, y, out, n)
        return
    gaussian = np.ones(n)
    multiply_polynomial(polynomial, y, gaussian, n)
    square(gaussian, squarings, n)
    for k in range(U(n)):
        out[k] *= gaussian[k]


@compiled
def angular_gradient(
    around: Around,
    tables: TripletTables,
    slopes: Slopes,
    cosines: CosinePolynomials,
    first_column: int,
    weights: FloatArray,
    out: FloatArray,
) -> None:
    """out[s, pair] += Σ_f weights[s, i, first_column + f * n_pairs + kinds] ∂G_f/∂v of each pair (i, neighbor), per Å.

    The geometry of a triplet is computed once for all sets of weights.

    Args:
        around, weights, out: as for `radial_gradient`.
        tables, slopes, cosines: of the functions.
        first_column: of these functions in `weights`.
    """
    first, vectors, neighbor_weights, n_kinds = around
    cutoff_polynomial, polynomials, terms = tables.cutoff_polynomial, tables.polynomials, tables.terms
    n_eta, n_power, n_sets = polynomials.shape[0], slopes.recipe.shape[0], weights.shape[0]
    is_polynomial = cosines.degree > 0
    room = most_neighbors(around)
    size = BLOCK + room + LANES
    near, table = np.zeros((N_NEAR, room + LANES)), np.zeros((N_ROWS, size))
    rows, partners = np.zeros((2, CANDIDATES + room + LANES)), np.zeros(size, np.int64)
    corners, moved = np.ones((room, 4)), np.empty((n_sets, room, 4))
    actions = np.zeros((3 * n_sets, size))
    segments = new_segments(room)
    powers = np.zeros((0 if is_polynomial else n_power, size))
    power, power_slope = np.zeros(size), np.zeros(size)
    row_weights = np.empty((n_sets, n_eta, 2, n_power))
    in_cosine = np.empty((n_sets * n_eta, cosines.coefficients.shape[1]))
    for i in range((first.shape[0] - 1) // n_kinds):
        start = first[i * n_kinds]
        n_neighbors = first[(i + 1) * n_kinds] - start
        place_in_rows(vectors, start, n_neighbors, tables.cutoff, near)
        cut_neighbors(near, cutoff_polynomial, cutoff_polynomial.shape[0], n_neighbors)
        for j in range(n_neighbors):
            near[VALUE, j] *= neighbor_weights[start + j]
            near[SLOPE, j] *= neighbor_weights[start + j]
            for x in range(3):
                corners[j, x] = vectors[start + j, x] / tables.cutoff
        moved[:] = 0.0
        for a in range(n_kinds):
            for b in range(a, n_kinds):
                column = first_column + slopes.pairs[a, b]
                if is_polynomial:
                    _weigh_cosines(weights, i, column, tables.eta_rows, slopes, cosines, in_cosine)
                else:
                    _weigh_rows(weights, i, column, tables.eta_rows, slopes, row_weights)
                j, j_end = first[i * n_kinds + a] - start, first[i * n_kinds + a + 1] - start
                k_first = first[i * n_kinds + b] - start if a != b else -1
                k_end = first[i * n_kinds + b + 1] - start
                while j < j_end:
                    candidates = (j, j_end, k_first, k_end)
                    j, filled, n_segments = gather_block(near, rows, table, partners, segments, candidates)
                    cut_triplets_with_slopes(table, cutoff_polynomial, cutoff_polynomial.shape[0], filled)
                    for row in range(3 * n_sets):
                        for m in range(U(filled + LANES)):
                            actions[row, m] = 0.0
                    if not is_polynomial:
                        fill_powers_of_triplets(filled, table, slopes.recipe, slopes.exponents, powers)
                    for e in range(n_eta):
                        decay = tables.decays[e]
                        fill_gaussian(table, table, GAUSSIAN, polynomials, e, terms[e], filled)
                        for _ in range(tables.squarings[e]):
                            multiply_rows(table, GAUSSIAN, table, GAUSSIAN, table, GAUSSIAN, filled)
                        for s in range(n_sets):
                            if is_polynomial:
                                row = s * n_eta + e
                                add_cosine_polynomial(
                                    table, actions, 3 * s, in_cosine, (row, cosines.degree), decay, filled
                                )
                            else:
                                weighted_powers(
                                    U(filled + LANES), powers, row_weights[s, e], power, power_slope
                                )
                                add_power_sums(table, actions, 3 * s, power, power_slope, decay, filled)
                    for segment in range(n_segments):
                        left = segments.lefts[segment]
                        begin, end = segments.ends[segment], segments.ends[segment + 1]
                        for s in range(n_sets):
                            act_on_pairs(near, table, partners, actions, 3 * s, (left, begin, end))
                            move_pairs(table, _ROWS, partners, corners, moved, s, (left, begin, end))
        for s in range(n_sets):
            for j in range(n_neighbors):
                for x in range(3):
                    out[s, start + j, x] += (moved[s, j, x] + moved[s, j, 3] * corners[j, x]) / tables.cutoff


@pasted
def move_plainly(
    table: FloatArray,
    rows: tuple[int, int, int],
    partners: IntArray,
    corners: FloatArray,
    moved: FloatArray,
    s: int,
    segment: tuple[int, int, int],
) -> None:
    """Add what the triplets of one neighbor do to it and to its partners: Σ H v of others, and Σ D.

    Args:
        table, partners: of the triplets.
        rows: TURN, TO_LEFT and TO_RIGHT.
        corners: (n_neighbors, 4) of each neighbor v and 1.
        moved: (n_sets, n_neighbors, 4).
        s: set.
        segment: the neighbor, begin and end of its triplets.
    """
    turn, to_left, to_right = rows
    left, begin, end = segment
    for m in range(begin, end):
        k = partners[m]
        for x in range(3):
            moved[s, k, x] += table[turn, m] * corners[left, x]
            moved[s, left, x] += table[turn, m] * corners[k, x]
        moved[s, k, 3] += table[to_right, m]
        moved[s, left, 3] += table[to_left, m]


# Where loops are left to Python, nothing turns code for LLVM into a function.
move_pairs = move_in_lanes if IS_COMPILED else move_plainly


@pasted
def _weigh_cosines(
    weights: FloatArray,
    center: int,
    column: int,
    eta_rows: IntArray,
    slopes: Slopes,
    cosines: CosinePolynomials,
    out: FloatArray,
) -> None:
    """out[s * n_eta + e] = the polynomial in cosθ beside attenuation e, for one pair of kinds.

    Args:
        weights, center, column, eta_rows, slopes: as for `_weigh_rows`.
        cosines: of the functions.
        out: (n_sets * n_eta, degree + 1).
    """
    n_pairs = slopes.pairs.shape[0] * (slopes.pairs.shape[0] + 1) // 2
    n_eta = out.shape[0] // weights.shape[0]
    out[:] = 0.0
    for s in range(weights.shape[0]):
        for f in range(eta_rows.shape[0]):
            w = 2.0 * weights[s, center, column + f * n_pairs]
            for k in range(U(out.shape[1])):
                out[s * n_eta + eta_rows[f], k] += w * cosines.coefficients[f, k]


@pasted
def _weigh_rows(
    weights: FloatArray, center: int, column: int, eta_rows: IntArray, slopes: Slopes, out: FloatArray
) -> None:
    """out[s, e, 0 or 1, row] = what u^ζ or u^(ζ-1) of a row counts beside attenuation e, for one pair of kinds.

    Args:
        weights: (n_sets, n_atoms, n_features).
        center: an atom.
        column: of the first function with this pair of kinds.
        eta_rows: (n_functions,) the attenuation of each function.
        slopes: of the functions.
        out: (n_sets, n_eta, 2, n_power).
    """
    # the functions of a pair of kinds are as many columns apart as there are pairs
    n_pairs = slopes.pairs.shape[0] * (slopes.pairs.shape[0] + 1) // 2
    out[:] = 0.0
    for s in range(weights.shape[0]):
        for f in range(eta_rows.shape[0]):
            e = eta_rows[f]
            w = weights[s, center, column + f * n_pairs]
            out[s, e, 0, slopes.power_rows[f]] += 2.0 * w
            out[s, e, 1, slopes.slope_rows[f]] += w * slopes.zetas[f] * slopes.lambdas[f]


@compiled
def sum_at_centers(
    first: IntArray,
    vectors: FloatArray,
    n_kinds: int,
    pair_gradients: FloatArray,
    pulls: FloatArray,
    strain: FloatArray,
) -> None:
    """Sum what the gradients of pairs do to their centers.

    Args:
        first, vectors: neighbor list (`groups.measure_pairs`).
        n_kinds: number of kinds in it.
        pair_gradients: (n_sets, n_pairs, 3), ∂E_i/∂v of each pair (i, neighbor).
        pulls: (n_sets, n_centers, 3) becomes Σ ∂E_i/∂v of each center i.
        strain: (n_sets, n_centers, 3, 3) becomes Σ v ⊗ ∂E_i/∂v, its part of ∂E/∂strain.
    """
    for s in range(pair_gradients.shape[0]):
        gradients = pair_gradients[s]
        for i in range(pulls.shape[1]):
            px, py, pz = 0.0, 0.0, 0.0
            xx, xy, xz, yx, yy, yz, zx, zy, zz = 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0
            for pair in range(U(first[i * n_kinds]), U(first[(i + 1) * n_kinds])):
                vx, vy, vz = vectors[pair, 0], vectors[pair, 1], vectors[pair, 2]
                gx, gy, gz = gradients[pair, 0], gradients[pair, 1], gradients[pair, 2]
                px, py, pz = px + gx, py + gy, pz + gz
                xx, xy, xz = xx + vx * gx, xy + vx * gy, xz + vx * gz
                yx, yy, yz = yx + vy * gx, yy + vy * gy, yz + vy * gz
                zx, zy, zz = zx + vz * gx, zy + vz * gy, zz + vz * gz
            pull, moment = pulls[s, i], strain[s, i]
            pull[0], pull[1], pull[2] = px, py, pz
            moment[0, 0], moment[0, 1], moment[0, 2] = xx, xy, xz
            moment[1, 0], moment[1, 1], moment[1, 2] = yx, yy, yz
            moment[2, 0], moment[2, 1], moment[2, 2] = zx, zy, zz


@compiled
def add_to_neighbors(atoms: IntArray, pair_gradients: FloatArray, gradient: FloatArray) -> None:
    """Add the gradients of pairs to the atoms whose images their neighbors are.

    Args:
        atoms: (n_pairs,) these (`groups.measure_pairs`).
        pair_gradients: (n_sets, n_pairs, 3).
        gradient: (n_sets, n_atoms of the batch, 3) receives them.
    """
    for s in range(pair_gradients.shape[0]):
        for pair in range(U(atoms.shape[0])):
            atom = U(atoms[pair])
            for x in range(3):
                gradient[s, atom, x] += pair_gradients[s, pair, x]
