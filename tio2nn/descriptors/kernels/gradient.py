"""Compiled loops of Σ_f w_f ∂G_f/∂R, summed over all atoms: forces and virial, without the Jacobian.

The weights w_f = ∂E/∂G_f of an atom enter before the sums over its neighbors: each pair (j, k) then has one
weighted power for each attenuation, whatever the number of functions, and three numbers H, D_j, D_k:

∂E/∂v_j = H v_k + D_j v_j,  ∂E/∂v_k = H v_j + D_k v_k
"""

from __future__ import annotations

import numpy as np

from tio2nn.descriptors.kernels.arguments import (
    AngularTables,
    Around,
    FloatArray,
    IndexArray,
    IntArray,
    RadialTables,
    Slopes,
)
from tio2nn.descriptors.kernels.compiling import U, compiled, compiled_inline, pasted
from tio2nn.descriptors.kernels.geometry import (
    BLOCK,
    Neighborhood,
    attenuate_neighbors,
    gather_partners,
    longest_row,
    most_neighbors,
    new_neighborhood,
    new_pairs,
    place_neighbors,
    place_on_line,
)
from tio2nn.descriptors.kernels.polynomials import (
    attenuation_and_slope,
    multiply_polynomial,
    polynomial_times_t2_and_slope,
    square,
)
from tio2nn.descriptors.kernels.powers import fill_powers, weighted_powers


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
    tables: AngularTables,
    slopes: Slopes,
    first_column: int,
    weights: FloatArray,
    out: FloatArray,
) -> None:
    """out[s, pair] += Σ_f weights[s, i, first_column + f * n_pairs + kinds] ∂G_f/∂v of each pair (i, neighbor), per Å.

    The geometry of a triplet is computed once for all sets of weights: a committee of six costs half of six networks.

    Args:
        around, weights, out: as for `radial_gradient`.
        tables, slopes: of the functions.
        first_column: of these functions in `weights`.
    """
    first, vectors, neighbor_weights, n_kinds = around
    polynomials, squarings, decays = tables.polynomials, tables.squarings, tables.decays
    n_eta, n_power, n_sets = polynomials.shape[0], slopes.recipe.shape[0], weights.shape[0]
    room = most_neighbors(around)
    size = BLOCK + room
    near, pairs = new_neighborhood(room), new_pairs(room)
    partners, cosine, t = pairs.partners, pairs.cosine, pairs.t
    own, own_slope = np.empty((n_eta, room)), np.empty((n_eta, room))
    along, across = np.empty((n_sets, room)), np.empty((n_sets, room, 3))
    lefts = np.zeros(size, np.uint32)
    value, slope, power, power_slope = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    turning, pulling, from_left, from_right = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    swing, shared = np.empty((n_sets, size)), np.empty((n_sets, size))
    on_left, on_right = np.empty((n_sets, size)), np.empty((n_sets, size))
    powers = np.empty((n_power, size))
    row_weights = np.empty((n_sets, n_eta, 2, n_power))
    for i in range((first.shape[0] - 1) // n_kinds):
        start = first[i * n_kinds]
        n_neighbors = first[(i + 1) * n_kinds] - start
        place_neighbors(vectors, start, n_neighbors, tables.cutoff, near)
        along[:] = 0.0
        across[:] = 0.0
        attenuate_neighbors(tables, neighbor_weights[start:], near.t, n_neighbors, own, own_slope)
        for a in range(n_kinds):
            for b in range(a, n_kinds):
                _weigh_rows(
                    weights, i, first_column + slopes.pairs[a, b], tables.eta_rows, slopes, row_weights
                )
                filled = U(0)
                j_begin, j_end = U(first[i * n_kinds + a] - start), U(first[i * n_kinds + a + 1] - start)
                b_begin, k_end = U(first[i * n_kinds + b] - start), U(first[i * n_kinds + b + 1] - start)
                for j in range(j_begin, j_end):
                    k_begin = j + U(1) if a == b else b_begin
                    n = gather_partners(near, j, k_begin, k_end, pairs, filled)
                    for m in range(filled, n):
                        lefts[m] = np.uint32(j)
                    filled = n
                    if filled == U(0) or (filled < U(BLOCK) and j + U(1) < j_end):
                        continue
                    # A block is worked on here: in pieces of their own, which take views of arrays, references to these
                    # are counted for each block and attenuation, and it took 5 to 9 % longer.
                    fill_powers(filled, cosine, slopes.recipe, slopes.exponents, powers)
                    swing[:, :filled] = 0.0
                    shared[:, :filled] = 0.0
                    on_left[:, :filled] = 0.0
                    on_right[:, :filled] = 0.0
                    for e in range(n_eta):
                        attenuation_and_slope(
                            polynomials[e],
                            squarings[e],
                            decays[e],
                            tables.cutoff_polynomial,
                            t,
                            value,
                            slope,
                            filled,
                        )
                        mine, mine_slope = own[e], own_slope[e]
                        for m in range(filled):
                            left, right = U(lefts[m]), U(partners[m])
                            a_j, a_k = mine[left], mine[right]
                            turning[m] = a_j * a_k * value[m]
                            pulling[m] = a_j * a_k * slope[m]
                            from_left[m] = mine_slope[left] * a_k * value[m]
                            from_right[m] = a_j * mine_slope[right] * value[m]
                        for s in range(n_sets):
                            weighted_powers(filled, powers, row_weights[s, e], power, power_slope)
                            own_swing, own_shared = swing[s], shared[s]
                            own_left, own_right = on_left[s], on_right[s]
                            for m in range(filled):
                                own_swing[m] += turning[m] * power_slope[m]
                                own_shared[m] += pulling[m] * power[m]
                                own_left[m] += from_left[m] * power[m]
                                own_right[m] += from_right[m] * power[m]
                    for s in range(n_sets):
                        actions = (swing[s], shared[s], on_left[s], on_right[s])
                        _scatter(filled, (lefts, partners, cosine), near, actions, along[s], across[s])
                    filled = U(0)
        for s in range(n_sets):
            for j in range(n_neighbors):
                out[s, start + j, 0] += (across[s, j, 0] + along[s, j] * near.x[j]) / tables.cutoff
                out[s, start + j, 1] += (across[s, j, 1] + along[s, j] * near.y[j]) / tables.cutoff
                out[s, start + j, 2] += (across[s, j, 2] + along[s, j] * near.z[j]) / tables.cutoff


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
            out[s, e, 0, slopes.power_rows[f]] -= 4.0 * w
            out[s, e, 1, slopes.slope_rows[f]] += w * slopes.zetas[f] * slopes.lambdas[f]


@compiled_inline
def _scatter(
    n: int,
    pairs: tuple[IndexArray, IndexArray, FloatArray],
    near: Neighborhood,
    actions: tuple[FloatArray, ...],
    along: FloatArray,
    across: FloatArray,
) -> None:
    """Add what n pairs of neighbors do to both of them.

    Args:
        pairs: neighbors j and k of each, the cosine between them.
        near: all neighbors.
        actions: (n,) each: the first turns one unit vector to the other, the second acts along R_jk, the last two along
            R_ij and R_ik.
        along, across: (n_neighbors,) and (n_neighbors, 3) receive the parts along the neighbor's own vector and others.
    """
    lefts, rights, cosine = pairs
    x, y, z, r = near.x, near.y, near.z, near.r
    swing, shared, on_left, on_right = actions
    for m in range(U(n)):
        left, right = U(lefts[m]), U(rights[m])
        rj, rk = r[left], r[right]
        s, c, q = swing[m], cosine[m], shared[m]
        to_left, to_right = s / rj - q * rk, s / rk - q * rj
        along[left] += rj * (q + on_left[m]) - s * c / rj
        along[right] += rk * (q + on_right[m]) - s * c / rk
        across[left, 0] += to_left * x[right]
        across[left, 1] += to_left * y[right]
        across[left, 2] += to_left * z[right]
        across[right, 0] += to_right * x[left]
        across[right, 1] += to_right * y[left]
        across[right, 2] += to_right * z[left]


@compiled
def fold_gradient(
    first: IntArray,
    vectors: FloatArray,
    atoms: IntArray,
    n_kinds: int,
    first_atom: int,
    pair_gradient: FloatArray,
    gradient: FloatArray,
    strain: FloatArray,
) -> None:
    """Add the gradients of pairs to their atoms, and their moments to the center.

    Args:
        first, vectors, atoms: neighbor list (`sort_neighbors`).
        first_atom: index in the batch of the first center.
        pair_gradient: (n_pairs, 3).
        gradient: (n_atoms of the batch, 3) receives ∂E/∂R.
        strain: (n_atoms of the batch, 3, 3) receives Σ v ⊗ ∂E_i/∂v of each center i, its part of ∂E/∂strain.
    """
    for i in range((first.shape[0] - 1) // n_kinds):
        for pair in range(first[i * n_kinds], first[(i + 1) * n_kinds]):
            for x in range(3):
                g = pair_gradient[pair, x]
                gradient[atoms[pair], x] += g
                gradient[first_atom + i, x] -= g
                for y in range(3):
                    strain[first_atom + i, y, x] += vectors[pair, y] * g
