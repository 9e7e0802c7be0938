"""Compiled loops of Σ_f w_f ∂G_f/∂R, summed over all atoms: forces and virial, without the Jacobian.

The weights w_f = ∂E/∂G_f of an atom enter before the sums over its neighbors: each pair (j, k) then has one
weighted power for each attenuation, whatever the number of functions, and three numbers H, D_j, D_k:

∂E/∂v_j = H v_k + D_j v_j,  ∂E/∂v_k = H v_j + D_k v_k
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tio2nn.descriptors.kernel_parts import (
    BLOCK,
    Around,
    FloatArray,
    IntArray,
    Slopes,
    U,
    attenuation_and_slope,
    compiled,
    compiled_inline,
    fill_powers,
    multiply_polynomial,
    square,
)


@compiled
def radial_gradient(
    around: Around,
    cutoff: float,
    cutoff_polynomial: FloatArray,
    polynomials: FloatArray,
    squarings: IntArray,
    shifts: FloatArray,
    scales: FloatArray,
    decays: FloatArray,
    weights: FloatArray,
    out: FloatArray,
) -> None:
    """out[s, pair] += Σ_f weights[s, i, f * n_kinds + kind] ∂G_f/∂v of each pair (i, neighbor), per Å.

    Args:
        around: the neighbors and their weights.
        polynomials, squarings, shifts, scales: as for `radial_functions`; decays: `Slopes.radial_decays`.
        weights: (n_sets, n_atoms, n_features).
        out: (n_sets, n_pairs, 3).
    """
    first, vectors, neighbor_weights, n_kinds = around
    longest = np.int64(1)
    for row in range(first.shape[0] - 1):
        longest = max(longest, first[row + 1] - first[row])
    n_sets = weights.shape[0]
    slope = np.empty((n_sets, longest))
    f_c, f_c_slope = np.empty(longest), np.empty(longest)
    r, t, y, gaussian = np.empty(longest), np.empty(longest), np.empty(longest), np.empty(longest)
    for row in range(first.shape[0] - 1):
        atom, kind = row // n_kinds, row % n_kinds
        n = first[row + 1] - first[row]
        for k in range(n):
            v = vectors[first[row] + k]
            r2 = (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) / (cutoff * cutoff)
            r[k] = np.sqrt(r2)
            t[k] = max(0.0, 1.0 - r2)
        slope[:] = 0.0
        attenuation_and_slope(cutoff_polynomial, 0, 0.0, cutoff_polynomial, t, f_c, f_c_slope, n)
        for k in range(n):
            f_c[k] *= neighbor_weights[first[row] + k]
            f_c_slope[k] *= neighbor_weights[first[row] + k]
        for f in range(shifts.shape[0]):
            shift, scale, decay = shifts[f], scales[f], decays[f]
            for k in range(U(n)):
                y[k] = (r[k] - shift) * (r[k] - shift) * scale
                # d/dr over r, in units of the cutoff
                gaussian[k] = -2.0 * (decay * (r[k] - shift) / r[k] * f_c[k] + f_c_slope[k])
            _multiply_gaussian(polynomials[f], squarings[f], y, gaussian, n)
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


@compiled_inline
def _weighted_powers(
    n: int, powers: FloatArray, weights: FloatArray, power: FloatArray, slope: FloatArray
) -> None:
    """power[:n], slope[:n] = Σ_row weights[0 or 1, row] powers[row, :n]."""
    for k in range(U(n)):
        power[k] = 0.0
        slope[k] = 0.0
    for row in range(powers.shape[0]):
        p, s, values = weights[0, row], weights[1, row], powers[row]
        if p != 0.0 and s != 0.0:
            for k in range(U(n)):
                power[k] += p * values[k]
                slope[k] += s * values[k]
        elif p != 0.0:
            for k in range(U(n)):
                power[k] += p * values[k]
        elif s != 0.0:
            for k in range(U(n)):
                slope[k] += s * values[k]


@compiled_inline
def _scatter(
    n: int,
    geometry: tuple[Any, ...],
    pairs: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    along: FloatArray,
    across: FloatArray,
) -> None:
    """Add what pairs of neighbors do to both of them.

    Args:
        n: pairs.
        geometry: neighbors j and k of each pair, the cosine between them; unit vectors and lengths of all neighbors.
        pairs: (n,) each: `swing` turns one unit vector towards the other, `shared` acts along R_jk, the last two
            along R_ij and R_ik.
        along, across: (n_neighbors,) and (n_neighbors, 3) receive the parts along the neighbor's own vector and others.
    """
    lefts, rights, cosine, x, y, z, r = geometry
    swing, shared, on_left, on_right = pairs
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
def angular_gradient(
    around: Around,
    cutoff: float,
    cutoff_polynomial: FloatArray,
    polynomials: FloatArray,
    squarings: IntArray,
    slopes: Slopes,
    first_column: int,
    weights: FloatArray,
    out: FloatArray,
) -> None:
    """out[s, pair] += Σ_f weights[s, i, first_column + f * n_pairs + kinds] ∂G_f/∂v of each pair (i, neighbor), per Å.

    The geometry of a triplet is computed once for all sets of weights: a committee of six costs half of six networks.

    Args:
        around, weights, out: as for `radial_gradient`.
        polynomials, squarings: as for `angular_functions`.
    """
    first, vectors, neighbor_weights, n_kinds = around
    n_atoms = (first.shape[0] - 1) // n_kinds
    n_eta, n_power = polynomials.shape[0], slopes.recipe.shape[0]
    n_pairs = n_kinds * (n_kinds + 1) // 2
    longest = np.int64(0)
    for i in range(n_atoms):
        longest = max(longest, first[(i + 1) * n_kinds] - first[i * n_kinds])
    x, y, z = np.empty(longest), np.empty(longest), np.empty(longest)
    r, r2, t = np.empty(longest), np.empty(longest), np.empty(longest)
    row_cosine, row_t = np.empty(longest), np.empty(longest)
    own, own_slope = np.empty((n_eta, longest)), np.empty((n_eta, longest))
    n_sets = weights.shape[0]
    along = np.empty((n_sets, longest))
    across = np.empty((n_sets, longest, 3))
    size = BLOCK + longest
    lefts, rights = np.zeros(size, np.uint32), np.zeros(size + 1, np.uint32)
    cosine, block_t = np.empty(size), np.empty(size)
    value, slope, power, power_slope = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    turning, pulling, from_left, from_right = np.empty(size), np.empty(size), np.empty(size), np.empty(size)
    swing, shared = np.empty((n_sets, size)), np.empty((n_sets, size))
    on_left, on_right = np.empty((n_sets, size)), np.empty((n_sets, size))
    powers = np.empty((n_power, size))
    row_weights = np.empty((n_sets, n_eta, 2, n_power))
    for i in range(n_atoms):
        start = first[i * n_kinds]
        n_neighbors = first[(i + 1) * n_kinds] - start
        for j in range(n_neighbors):
            v = vectors[start + j]
            vx, vy, vz = v[0] / cutoff, v[1] / cutoff, v[2] / cutoff
            r2[j] = vx * vx + vy * vy + vz * vz
            r[j] = np.sqrt(r2[j])
            x[j], y[j], z[j] = vx / r[j], vy / r[j], vz / r[j]
            t[j] = max(0.0, 1.0 - r2[j])
        along[:] = 0.0
        across[:] = 0.0
        for e in range(n_eta):
            attenuation_and_slope(
                polynomials[e],
                squarings[e],
                slopes.decays[e],
                cutoff_polynomial,
                t,
                own[e],
                own_slope[e],
                n_neighbors,
            )
            for j in range(n_neighbors):
                own[e, j] *= neighbor_weights[start + j]
                own_slope[e, j] *= neighbor_weights[start + j]
        for a in range(n_kinds):
            for b in range(a, n_kinds):
                row_weights[:] = 0.0
                for s in range(n_sets):
                    for f in range(slopes.eta_rows.shape[0]):
                        e = slopes.eta_rows[f]
                        w = weights[s, i, first_column + f * n_pairs + slopes.pairs[a, b]]
                        row_weights[s, e, 0, slopes.power_rows[f]] -= 4.0 * w
                        row_weights[s, e, 1, slopes.slope_rows[f]] += w * slopes.zetas[f] * slopes.lambdas[f]
                filled = U(0)
                j_begin, j_end = U(first[i * n_kinds + a] - start), U(first[i * n_kinds + a + 1] - start)
                b_begin, k_end = U(first[i * n_kinds + b] - start), U(first[i * n_kinds + b + 1] - start)
                for j in range(j_begin, j_end):
                    k_begin = j + U(1) if a == b else b_begin
                    # R_jk² from the law of cosines, for all k: t_jk = 1 - R_ij² - R_ik² + 2 R_ij R_ik cosθ
                    xj, yj, zj, remaining, twice_r = x[j], y[j], z[j], 1.0 - r2[j], 2.0 * r[j]
                    for k in range(k_begin, k_end):
                        c = xj * x[k] + yj * y[k] + zj * z[k]
                        row_cosine[k] = c
                        row_t[k] = remaining - r2[k] + twice_r * r[k] * c
                    n = filled
                    for k in range(k_begin, k_end):
                        rights[n] = np.uint32(k)
                        n += U(1) if row_t[k] > 0.0 else U(0)
                    for m in range(filled, n):
                        k = U(rights[m])
                        lefts[m] = np.uint32(j)
                        block_t[m] = row_t[k]
                        cosine[m] = row_cosine[k]
                    filled = n
                    if filled == U(0) or (filled < U(BLOCK) and j + U(1) < j_end):
                        continue
                    fill_powers(filled, cosine, slopes.recipe, slopes.exponents, powers)
                    swing[:, :filled] = 0.0
                    shared[:, :filled] = 0.0
                    on_left[:, :filled] = 0.0
                    on_right[:, :filled] = 0.0
                    for e in range(n_eta):
                        attenuation_and_slope(
                            polynomials[e],
                            squarings[e],
                            slopes.decays[e],
                            cutoff_polynomial,
                            block_t,
                            value,
                            slope,
                            filled,
                        )
                        mine, mine_slope = own[e], own_slope[e]
                        for m in range(filled):
                            left, right = U(lefts[m]), U(rights[m])
                            a_j, a_k = mine[left], mine[right]
                            turning[m] = a_j * a_k * value[m]
                            pulling[m] = a_j * a_k * slope[m]
                            from_left[m] = mine_slope[left] * a_k * value[m]
                            from_right[m] = a_j * mine_slope[right] * value[m]
                        for s in range(n_sets):
                            _weighted_powers(filled, powers, row_weights[s, e], power, power_slope)
                            own_swing, own_shared = swing[s], shared[s]
                            own_left, own_right = on_left[s], on_right[s]
                            for m in range(filled):
                                own_swing[m] += turning[m] * power_slope[m]
                                own_shared[m] += pulling[m] * power[m]
                                own_left[m] += from_left[m] * power[m]
                                own_right[m] += from_right[m] * power[m]
                    for s in range(n_sets):
                        _scatter(
                            filled,
                            (lefts, rights, cosine, x, y, z, r),
                            (swing[s], shared[s], on_left[s], on_right[s]),
                            along[s],
                            across[s],
                        )
                    filled = U(0)
        for s in range(n_sets):
            for j in range(n_neighbors):
                out[s, start + j, 0] += (across[s, j, 0] + along[s, j] * x[j]) / cutoff
                out[s, start + j, 1] += (across[s, j, 1] + along[s, j] * y[j]) / cutoff
                out[s, start + j, 2] += (across[s, j, 2] + along[s, j] * z[j]) / cutoff


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
