"""Compiled loops of the derivatives of all symmetry functions: the Jacobian, folded on the atoms of the cell.

Written for the center i, a neighbor j, and v = R_j - R_i (an image adds to its atom):

∂G/∂v_j = 2 Σ_k { a_j a_k [ a_jk p'(c)/(r_j r_k) (v_k - c r_k/r_j v_j) + 2 a'_jk p(c) (v_k - v_j) ]
                 - 2 a'_j a_k a_jk p(c) v_j }

with the attenuations a(t), their slopes a' = da/dt, c = cosθ and p = ((1 + λc)/2)^ζ. All that differs between
functions are the index of the attenuation and the power, so the sums over k of one j are two small matrix
products, (attenuations × {1, v_k}) times powers. The ordered pairs (j, k) of several j are gathered into one block
before anything costly is computed, as for the values; each j has its own segment of it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tio2nn.descriptors.kernel_parts import (
    FloatArray,
    IntArray,
    Slopes,
    U,
    attenuation_and_slope,
    compiled,
    fill_powers,
    multiply_polynomial,
)

_BLOCK = 192  # 24 rows of products with their powers stay near 48 KiB; measured: see `add_angular_jacobian`
_LANES = 8  # segments are filled up to a multiple of it, so that no loop has a scalar rest


@compiled
def add_radial_jacobian(
    first: IntArray,
    vectors: FloatArray,
    columns: IntArray,
    center: int,
    own_column: int,
    n_kinds: int,
    cutoff: float,
    cutoff_polynomial: FloatArray,
    polynomials: FloatArray,
    squarings: IntArray,
    shifts: FloatArray,
    scales: FloatArray,
    decays: FloatArray,
    out: FloatArray,
) -> None:
    """out[f * n_kinds + kind, 3 a + x] += ∂G/∂R_a,x of the radial functions of one center.

    Args:
        first, vectors: neighbor list (`sort_neighbors`).
        columns: (n_pairs,) index in its structure of the atom that each neighbor is an image of.
        center, own_column: position in the list, and index in its structure, of the center.
        polynomials, squarings, shifts, scales: as for `radial_functions`; decays: `Slopes.radial_decays`.
        out: (n_features, 3 n_atoms).
    """
    for kind in range(n_kinds):
        row = center * n_kinds + kind
        n = first[row + 1] - first[row]
        slope, f_c, f_c_slope = np.empty(n), np.empty(n), np.empty(n)
        r, t, y, gaussian = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
        for k in range(n):
            v = vectors[first[row] + k]
            r2 = (v[0] * v[0] + v[1] * v[1] + v[2] * v[2]) / (cutoff * cutoff)
            r[k] = np.sqrt(r2)
            t[k] = max(0.0, 1.0 - r2)
        attenuation_and_slope(cutoff_polynomial, 0, 0.0, cutoff_polynomial, t, f_c, f_c_slope, n)
        for f in range(shifts.shape[0]):
            shift, scale, decay = shifts[f], scales[f], decays[f]
            for k in range(U(n)):
                y[k] = (r[k] - shift) * (r[k] - shift) * scale
                gaussian[k] = 1.0
            multiply_polynomial(polynomials[f], y, gaussian, n)
            for _ in range(squarings[f]):
                for k in range(U(n)):
                    gaussian[k] *= gaussian[k]
            for k in range(U(n)):
                # d/dr over r, in units of the cutoff
                radial = decay * (r[k] - shift) / r[k] * f_c[k] + f_c_slope[k]
                slope[k] = -2.0 * gaussian[k] * radial / (cutoff * cutoff)
            target = out[f * n_kinds + kind]
            for k in range(n):
                v, a = vectors[first[row] + k], 3 * columns[first[row] + k]
                for x in range(3):
                    g = slope[k] * v[x]
                    target[a + x] += g
                    target[3 * own_column + x] -= g


@compiled
def _segment_sums(
    left: FloatArray, right: FloatArray, rows: IntArray, begin: int, end: int, out: FloatArray
) -> None:
    """out[4 e + c, row] = Σ_k left[4 e + c, k] right[row, k] over the segment, for each row of `rows`.

    In tiles of 4 × 2 sums that stay in registers.
    """
    n_rows, odd = rows.shape[0], rows.shape[0] % 2
    for e in range(left.shape[0] // 4):
        a0, a1, a2, a3 = left[4 * e], left[4 * e + 1], left[4 * e + 2], left[4 * e + 3]
        for m in range(0, n_rows - odd, 2):
            w0, w1 = right[rows[m]], right[rows[m + 1]]
            s00 = s01 = s10 = s11 = s20 = s21 = s30 = s31 = 0.0
            for k in range(U(begin), U(end)):
                s00 += a0[k] * w0[k]
                s10 += a1[k] * w0[k]
                s20 += a2[k] * w0[k]
                s30 += a3[k] * w0[k]
                s01 += a0[k] * w1[k]
                s11 += a1[k] * w1[k]
                s21 += a2[k] * w1[k]
                s31 += a3[k] * w1[k]
            p, q = rows[m], rows[m + 1]
            out[4 * e, p], out[4 * e + 1, p], out[4 * e + 2, p], out[4 * e + 3, p] = s00, s10, s20, s30
            out[4 * e, q], out[4 * e + 1, q], out[4 * e + 2, q], out[4 * e + 3, q] = s01, s11, s21, s31
        if odd:
            p = rows[n_rows - 1]
            w0 = right[p]
            s00 = s10 = s20 = s30 = 0.0
            for k in range(U(begin), U(end)):
                s00 += a0[k] * w0[k]
                s10 += a1[k] * w0[k]
                s20 += a2[k] * w0[k]
                s30 += a3[k] * w0[k]
            out[4 * e, p], out[4 * e + 1, p], out[4 * e + 2, p], out[4 * e + 3, p] = s00, s10, s20, s30


@compiled
def _scalar_sums(
    left: FloatArray, right: FloatArray, rows: IntArray, begin: int, end: int, out: FloatArray
) -> None:
    """As `_segment_sums`, for the rows 4 e of `left` alone."""
    for e in range(left.shape[0] // 4):
        a0 = left[4 * e]
        for row in rows:
            w0 = right[row]
            s = 0.0
            for k in range(U(begin), U(end)):
                s += a0[k] * w0[k]
            out[4 * e, row] = s


@compiled
def add_angular_jacobian(
    first: IntArray,
    vectors: FloatArray,
    columns: IntArray,
    center: int,
    own_column: int,
    n_kinds: int,
    cutoff: float,
    cutoff_polynomial: FloatArray,
    polynomials: FloatArray,
    squarings: IntArray,
    slopes: Slopes,
    first_column: int,
    out: FloatArray,
) -> None:
    """out[first_column + f * n_pairs + pair, 3 a + x] += ∂G/∂R_a,x of the angular functions of one center.

    Args:
        first, vectors, columns, center, own_column: as for `add_radial_jacobian`.
        polynomials, squarings: as for `angular_functions`.
        out: (n_features, 3 n_atoms).
    """
    n_eta, n_power = polynomials.shape[0], slopes.recipe.shape[0]
    n_pairs = n_kinds * (n_kinds + 1) // 2
    start = first[center * n_kinds]
    n_neighbors = first[(center + 1) * n_kinds] - start
    x, y, z = np.empty(n_neighbors), np.empty(n_neighbors), np.empty(n_neighbors)
    r, r2, t = np.empty(n_neighbors), np.empty(n_neighbors), np.empty(n_neighbors)
    row_cosine, row_t = np.empty(n_neighbors), np.empty(n_neighbors)
    own, own_slope = np.empty((n_eta, n_neighbors)), np.empty((n_eta, n_neighbors))
    kind_of = np.empty(n_neighbors, np.int64)
    for a in range(n_kinds):
        kind_of[first[center * n_kinds + a] - start : first[center * n_kinds + a + 1] - start] = a
    for j in range(n_neighbors):
        v = vectors[start + j]
        vx, vy, vz = v[0] / cutoff, v[1] / cutoff, v[2] / cutoff
        r2[j] = vx * vx + vy * vy + vz * vz
        r[j] = np.sqrt(r2[j])
        x[j], y[j], z[j] = vx / r[j], vy / r[j], vz / r[j]
        t[j] = max(0.0, 1.0 - r2[j])
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
    size = _BLOCK + n_neighbors + _LANES
    partners = np.zeros(size, np.uint32)
    cosine, block_t = np.empty(size), np.empty(size)
    value, slope = np.empty(size), np.empty(size)
    from_value, from_slope = np.empty((4 * n_eta, size)), np.empty((4 * n_eta, size))
    powers = np.empty((n_power, size))
    value_sums, slope_sums = np.zeros((4 * n_eta, n_power)), np.zeros((4 * n_eta, n_power))
    segment_j = np.empty(n_neighbors, np.int64)
    segment_end = np.empty(n_neighbors + 1, np.int64)
    segment_end[0] = 0
    for b in range(n_kinds):
        k_begin = U(first[center * n_kinds + b] - start)
        k_end = U(first[center * n_kinds + b + 1] - start)
        filled, n_segments = U(0), 0
        for j in range(U(n_neighbors)):
            # R_jk² from the law of cosines, for all k: t_jk = 1 - R_ij² - R_ik² + 2 R_ij R_ik cosθ
            xj, yj, zj, remaining, twice_r = x[j], y[j], z[j], 1.0 - r2[j], 2.0 * r[j]
            for k in range(k_begin, k_end):
                c = xj * x[k] + yj * y[k] + zj * z[k]
                row_cosine[k] = c
                row_t[k] = remaining - r2[k] + twice_r * r[k] * c
            if k_begin <= j < k_end:
                row_t[j] = 0.0
            n = filled
            for k in range(k_begin, k_end):
                partners[n] = np.uint32(k)
                n += U(1) if row_t[k] > 0.0 else U(0)
            if n > filled:
                for m in range(filled, n):
                    k = U(partners[m])
                    block_t[m] = row_t[k]
                    cosine[m] = row_cosine[k]
                while n % U(_LANES):
                    # at t = 0 nothing comes of it
                    partners[n], block_t[n], cosine[n] = np.uint32(j), 0.0, 0.0
                    n += U(1)
                segment_j[n_segments], segment_end[n_segments + 1] = j, n
                n_segments += 1
                filled = n
            if filled == 0 or (filled < U(_BLOCK) and j + U(1) < U(n_neighbors)):
                continue
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
                from_k = own[e]
                v0, v1, v2, v3 = (
                    from_value[4 * e],
                    from_value[4 * e + 1],
                    from_value[4 * e + 2],
                    from_value[4 * e + 3],
                )
                s0, s1, s2, s3 = (
                    from_slope[4 * e],
                    from_slope[4 * e + 1],
                    from_slope[4 * e + 2],
                    from_slope[4 * e + 3],
                )
                for m in range(filled):
                    k = U(partners[m])
                    va = from_k[k] * value[m]
                    sl = from_k[k] * slope[m]
                    v0[m] = va
                    v1[m] = va * x[k]
                    v2[m] = va * y[k]
                    v3[m] = va * z[k]
                    s0[m] = sl
                    sl *= r[k]
                    s1[m] = sl * x[k]
                    s2[m] = sl * y[k]
                    s3[m] = sl * z[k]
            fill_powers(filled, cosine, slopes.recipe, slopes.exponents, powers)
            for segment in range(n_segments):
                begin, end = segment_end[segment], segment_end[segment + 1]
                _segment_sums(from_value, powers, slopes.slopes, begin, end, value_sums)
                _scalar_sums(from_value, powers, slopes.only_power, begin, end, value_sums)
                _segment_sums(from_slope, powers, slopes.powers, begin, end, slope_sums)
                i = segment_j[segment]
                a = kind_of[i]
                atom = 3 * columns[start + i]
                pair = first_column + slopes.pairs[a, b]
                for f in range(slopes.eta_rows.shape[0]):
                    e, p, q = slopes.eta_rows[f], slopes.power_rows[f], slopes.slope_rows[f]
                    zeta, a_j = slopes.zetas[f], own[e, i]
                    p_value = value_sums[4 * e, p]
                    # Σ a p' c = ζ Σ a (u^ζ - u^(ζ-1)/2)
                    tangential = zeta * (p_value - 0.5 * value_sums[4 * e, q]) / r2[i]
                    along = -2.0 * own_slope[e, i] * p_value - a_j * (tangential + 2.0 * slope_sums[4 * e, p])
                    along *= 2.0 / cutoff * r[i]
                    factor = a_j * zeta * slopes.lambdas[f] / (r[i] * cutoff)
                    twice = 4.0 * a_j / cutoff
                    gx = along * x[i] + factor * value_sums[4 * e + 1, q] + twice * slope_sums[4 * e + 1, p]
                    gy = along * y[i] + factor * value_sums[4 * e + 2, q] + twice * slope_sums[4 * e + 2, p]
                    gz = along * z[i] + factor * value_sums[4 * e + 3, q] + twice * slope_sums[4 * e + 3, p]
                    target = out[pair + f * n_pairs]
                    target[atom] += gx
                    target[atom + 1] += gy
                    target[atom + 2] += gz
                    target[3 * own_column] -= gx
                    target[3 * own_column + 1] -= gy
                    target[3 * own_column + 2] -= gz
            filled, n_segments = U(0), 0


@compiled
def jacobian_rows(
    first: IntArray,
    vectors: FloatArray,
    columns: IntArray,
    own_columns: IntArray,
    n_atoms: IntArray,
    n_kinds: int,
    cutoff: float,
    cutoff_polynomial: FloatArray,
    radial_polynomials: FloatArray,
    radial_squarings: IntArray,
    shifts: FloatArray,
    scales: FloatArray,
    polynomials: FloatArray,
    squarings: IntArray,
    slopes: Slopes,
    n_features: int,
    out: NDArray[np.floating],
) -> None:
    """The Jacobians of consecutive centers, one after the other, each of (n_features, n_atoms of its structure, 3).

    Args:
        first, vectors: neighbor list (`sort_neighbors`).
        columns: (n_pairs,) index in its structure of the atom that each neighbor is an image of.
        own_columns, n_atoms: (n_centers,) index of each center in its structure, and size of that.
        out: flat, float64 or float32.
    """
    n_radial = shifts.shape[0]
    place = 0
    for center in range(own_columns.shape[0]):
        rows = np.zeros((n_features, 3 * n_atoms[center]))
        if n_radial:
            add_radial_jacobian(
                first,
                vectors,
                columns,
                center,
                own_columns[center],
                n_kinds,
                cutoff,
                cutoff_polynomial,
                radial_polynomials,
                radial_squarings,
                shifts,
                scales,
                slopes.radial_decays,
                rows,
            )
        if slopes.eta_rows.shape[0]:
            add_angular_jacobian(
                first,
                vectors,
                columns,
                center,
                own_columns[center],
                n_kinds,
                cutoff,
                cutoff_polynomial,
                polynomials,
                squarings,
                slopes,
                n_radial * n_kinds,
                rows,
            )
        flat = rows.reshape(-1)
        for k in range(U(flat.shape[0])):
            out[place + k] = flat[k]
        place += flat.shape[0]
