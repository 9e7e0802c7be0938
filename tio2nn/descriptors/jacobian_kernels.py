"""Compiled loops of the derivatives of all symmetry functions: the Jacobian, folded on the atoms of the cell.

Written for the center i, a neighbor j, and v = R_j - R_i (an image adds to its atom):

∂G/∂v_j = 2 Σ_k { a_j a_k [ a_jk p'(c)/(r_j r_k) (v_k - c r_k/r_j v_j) + 2 a'_jk p(c) (v_k - v_j) ]
                 - 2 a'_j a_k a_jk p(c) v_j }

with the attenuations a(t), their slopes a' = da/dt, c = cosθ and p = ((1 + λc)/2)^ζ. All that differs between
functions are the index of the attenuation and the power, so all sums over k of one j are

V = Σ_k a_k a_jk p'(c) {1, e_k},  S = Σ_k a_k a'_jk p(c) {1, v_k}   (e_k = v_k/r_k)

for each attenuation and each power (`sum_products`). Since c = e_j·e_k, the sum over a_k a_jk p(c) follows from V. The
ordered pairs (j, k) of several j are gathered into one block before anything costly is computed, as for the values;
each j has its own segment of it.

The derivative with respect to the center is the negative sum of all others: moving all atoms together changes nothing.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
    sum_products,
)


@compiled_inline
def add_radial_jacobian(
    around: Around,
    columns: IntArray,
    center: int,
    cutoff: float,
    cutoff_polynomial: FloatArray,
    polynomials: FloatArray,
    squarings: IntArray,
    shifts: FloatArray,
    scales: FloatArray,
    decays: FloatArray,
    out: FloatArray,
) -> None:
    """out[f * n_kinds + kind, 3 a + x] += ∂G/∂R_a,x of the radial functions of one center, for its neighbors a.

    Args:
        around: the neighbors and their weights.
        columns: (n_pairs,) index in its structure of the atom that each neighbor is an image of.
        center: its position in the list.
        polynomials, squarings, shifts, scales: as for `radial_functions`; decays: `Slopes.radial_decays`.
        out: (n_features, 3 n_atoms).
    """
    first, vectors, weights, n_kinds = around
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
        for k in range(n):
            f_c[k] *= weights[first[row] + k]
            f_c_slope[k] *= weights[first[row] + k]
        for f in range(shifts.shape[0]):
            shift, scale, decay = shifts[f], scales[f], decays[f]
            for k in range(U(n)):
                y[k] = (r[k] - shift) * (r[k] - shift) * scale
                gaussian[k] = 1.0
            multiply_polynomial(polynomials[f], y, gaussian, n)
            square(gaussian, squarings[f], n)
            for k in range(U(n)):
                # d/dr over r, in units of the cutoff
                radial = decay * (r[k] - shift) / r[k] * f_c[k] + f_c_slope[k]
                slope[k] = -2.0 * gaussian[k] * radial / (cutoff * cutoff)
            target = out[f * n_kinds + kind]
            for k in range(n):
                v, a = vectors[first[row] + k], 3 * columns[first[row] + k]
                for x in range(3):
                    target[a + x] += slope[k] * v[x]


@compiled_inline
def add_angular_jacobian(
    around: Around,
    columns: IntArray,
    center: int,
    cutoff: float,
    cutoff_polynomial: FloatArray,
    polynomials: FloatArray,
    squarings: IntArray,
    slopes: Slopes,
    first_column: int,
    out: FloatArray,
) -> None:
    """out[first_column + f * n_pairs + pair, 3 a + x] += ∂G/∂R_a,x of the angular functions of one center.

    For its neighbors a, as `add_radial_jacobian`.

    Args:
        around, columns, center: as for `add_radial_jacobian`.
        polynomials, squarings: as for `angular_functions`.
        out: (n_features, 3 n_atoms).
    """
    first, vectors, weights, n_kinds = around
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
        for j in range(n_neighbors):
            own[e, j] *= weights[start + j]
            own_slope[e, j] *= weights[start + j]
    from_value, from_slope = np.empty((n_neighbors, n_eta, 4)), np.empty((n_neighbors, n_eta, 4))
    for j in range(n_neighbors):
        for e in range(n_eta):
            a_j = own[e, j]
            from_value[j, e, 0] = from_slope[j, e, 0] = a_j
            from_value[j, e, 1] = a_j * x[j]
            from_value[j, e, 2] = a_j * y[j]
            from_value[j, e, 3] = a_j * z[j]
            a_j *= r[j]
            from_slope[j, e, 1] = a_j * x[j]
            from_slope[j, e, 2] = a_j * y[j]
            from_slope[j, e, 3] = a_j * z[j]
    size = BLOCK + n_neighbors
    partners = np.zeros(size + 1, np.uint32)
    cosine, block_t = np.empty(size), np.empty(size)
    value, slope = np.empty((n_eta, size)), np.empty((n_eta, size))
    powers = np.empty((n_power, size))
    value_sums, slope_sums = np.empty((n_eta, n_power, 4)), np.empty((n_eta, n_power, 4))
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
                segment_j[n_segments], segment_end[n_segments + 1] = j, n
                n_segments += 1
                filled = n
            if filled == 0 or (filled < U(BLOCK) and j + U(1) < U(n_neighbors)):
                continue
            for e in range(n_eta):
                attenuation_and_slope(
                    polynomials[e],
                    squarings[e],
                    slopes.decays[e],
                    cutoff_polynomial,
                    block_t,
                    value[e],
                    slope[e],
                    filled,
                )
            fill_powers(filled, cosine, slopes.recipe, slopes.exponents, powers)
            for segment in range(n_segments):
                begin, end = segment_end[segment], segment_end[segment + 1]
                sum_products(from_value, partners, value, powers, slopes.slopes, begin, end, value_sums)
                sum_products(from_slope, partners, slope, powers, slopes.powers, begin, end, slope_sums)
                i = U(segment_j[segment])
                atom = U(3 * columns[start + segment_j[segment]])
                pair = U(first_column + slopes.pairs[kind_of[i], b])
                xi, yi, zi = x[i], y[i], z[i]
                per_r, twice_r, per_cutoff = 1.0 / (r[i] * cutoff), 2.0 / cutoff * r[i], 4.0 / cutoff
                half_inverse = 0.5 / r2[i]
                for f in range(U(slopes.eta_rows.shape[0])):
                    e, p, q = U(slopes.eta_rows[f]), U(slopes.power_rows[f]), U(slopes.slope_rows[f])
                    a_j, zeta, lambda_ = own[e, i], slopes.zetas[f], slopes.lambdas[f]
                    vx, vy, vz = value_sums[e, q, U(1)], value_sums[e, q, U(2)], value_sums[e, q, U(3)]
                    # Σ a p' c = ζ λ/2 Σ a u^(ζ-1) c, and u^ζ = u^(ζ-1) (1 + λ c)/2
                    projection = lambda_ * (xi * vx + yi * vy + zi * vz)
                    along = own_slope[e, i] * (value_sums[e, q, U(0)] + projection)
                    along += a_j * (half_inverse * zeta * projection + 2.0 * slope_sums[e, p, U(0)])
                    along *= -twice_r
                    factor, twice = a_j * zeta * lambda_ * per_r, per_cutoff * a_j
                    target = U(pair + f * U(n_pairs))
                    out[target, atom] += along * xi + factor * vx + twice * slope_sums[e, p, U(1)]
                    out[target, atom + U(1)] += along * yi + factor * vy + twice * slope_sums[e, p, U(2)]
                    out[target, atom + U(2)] += along * zi + factor * vz + twice * slope_sums[e, p, U(3)]
            filled, n_segments = U(0), 0


@compiled
def jacobian_rows(
    radially: Around,
    angularly: Around,
    columns: IntArray,
    own_columns: IntArray,
    n_atoms: IntArray,
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
        radially, angularly: the neighbors and their weights in radial and in angular functions.
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
                radially,
                columns,
                center,
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
                angularly,
                columns,
                center,
                cutoff,
                cutoff_polynomial,
                polynomials,
                squarings,
                slopes,
                n_radial * radially.n_kinds,
                rows,
            )
        own = 3 * own_columns[center]
        for f in range(n_features):
            row = rows[f]
            # moving all atoms together changes nothing
            sx = sy = sz = 0.0
            for a in range(U(n_atoms[center])):
                sx += row[U(3) * a]
                sy += row[U(3) * a + U(1)]
                sz += row[U(3) * a + U(2)]
            row[own] -= sx
            row[own + 1] -= sy
            row[own + 2] -= sz
            for k in range(U(row.shape[0])):
                out[U(place) + k] = row[k]
            place += row.shape[0]
