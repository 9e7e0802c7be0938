"""Compiled loops of the derivatives of all symmetry functions: the Jacobian, folded on the atoms of the cell.

Written for the center i, a neighbor j, and v = R_j - R_i (an image adds to its atom):

∂G/∂v_j = 2 Σ_k { a_j a_k [ a_jk p'(c)/(r_j r_k) (v_k - c r_k/r_j v_j) + 2 a'_jk p(c) (v_k - v_j) ]
                 - 2 a'_j a_k a_jk p(c) v_j }

with the attenuations a(t), their slopes a' = da/dt, c = cosθ and p = ((1 + λc)/2)^ζ. All that differs between
functions are the index of the attenuation and the power, so all sums over k of one j are

V = Σ_k a_k a_jk p'(c) {1, e_k},  S = Σ_k a_k a'_jk p(c) {1, v_k}   (e_k = v_k/r_k)

for each attenuation and each power (`lane_sums.py`). Since c = e_j·e_k, the sum over a_k a_jk p(c) follows from V. The
ordered pairs (j, k) of several j are gathered into one block before anything costly is computed, as for the values;
each j has its own segment of it.

The derivative with respect to the center is the negative sum of all others: moving all atoms together changes nothing.

A strain moves every neighbor in proportion to its vector, so the derivative with respect to it is Σ_j ∂G/∂v_j v_jᵀ, of
the same slopes, with every image by itself. Its antisymmetric part, a rotation, is rounding.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tio2nn.array_types import FloatArray
from tio2nn.descriptors.kernels.arguments import AngularTables, Around, AtomIndices, RadialTables, Slopes
from tio2nn.descriptors.kernels.compiling import U, compiled, compiled_inline, pasted
from tio2nn.descriptors.kernels.geometry import (
    BLOCK,
    Neighborhood,
    attenuate_neighbors,
    gather_partners,
    new_neighborhood,
    new_pairs,
    place_neighbors,
    place_on_line,
)
from tio2nn.descriptors.kernels.lane_sums import sum_products
from tio2nn.descriptors.kernels.polynomials import (
    attenuation_and_slope,
    multiply_polynomial,
    polynomial_times_t2_and_slope,
    square,
)
from tio2nn.descriptors.kernels.powers import fill_powers


@compiled
def jacobian_rows(
    radially: Around,
    angularly: Around,
    atoms: AtomIndices,
    radial: RadialTables,
    angular: AngularTables,
    slopes: Slopes,
    n_features: int,
    out: NDArray[np.floating],
) -> None:
    """The Jacobians of consecutive centers, one after the other, each of (n_features, n_atoms of its structure, 3).

    Args:
        radially, angularly: the neighbors and their weights in radial and in angular functions.
        atoms: where they are in their structures.
        radial, angular, slopes: of the functions.
        n_features: of all functions together.
        out: flat, float64 or float32.
    """
    n_radial = radial.shifts.shape[0]
    place = 0
    for center in range(atoms.centers.shape[0]):
        n_atoms = atoms.n_atoms[center]
        rows = np.zeros((n_features, 3 * n_atoms))
        if n_radial:
            _add_radial_jacobian(radially, atoms, center, radial, rows)
        if angular.eta_rows.shape[0]:
            first_column = n_radial * radially.n_kinds
            _add_angular_jacobian(angularly, atoms, center, angular, slopes, first_column, rows)
        own = 3 * atoms.centers[center]
        for f in range(n_features):
            row = rows[f]
            # moving all atoms together changes nothing
            sx = sy = sz = 0.0
            for a in range(U(n_atoms)):
                sx += row[U(3) * a]
                sy += row[U(3) * a + U(1)]
                sz += row[U(3) * a + U(2)]
            row[own] -= sx
            row[own + 1] -= sy
            row[own + 2] -= sz
            for k in range(U(row.shape[0])):
                out[U(place) + k] = row[k]
            place += row.shape[0]


@compiled
def strain_rows(
    radially: Around,
    angularly: Around,
    radial: RadialTables,
    angular: AngularTables,
    slopes: Slopes,
    out: NDArray[np.floating],
) -> None:
    """The derivatives of consecutive centers with respect to a symmetric strain.

    Args:
        radially, angularly, radial, angular, slopes: as for `jacobian_rows`.
        out: (n_centers, n_features, 6), float64 or float32; xx, yy, zz, yz, xz, xy, those off the diagonal the mean
            of the two components.
    """
    n_radial, n_features = radial.shifts.shape[0], out.shape[1]
    vectors = radially.vectors
    # as if each image were an atom of its own
    images = np.empty(vectors.shape[0], np.int64)
    atoms = AtomIndices(images, images, images)
    for center in range(out.shape[0]):
        start = radially.first[center * radially.n_kinds]
        n = radially.first[(center + 1) * radially.n_kinds] - start
        images[start : start + n] = np.arange(n)
        rows = np.zeros((n_features, 3 * n))
        if n_radial:
            _add_radial_jacobian(radially, atoms, center, radial, rows)
        if angular.eta_rows.shape[0]:
            first_column = n_radial * radially.n_kinds
            _add_angular_jacobian(angularly, atoms, center, angular, slopes, first_column, rows)
        for f in range(n_features):
            row = rows[f]
            xx = yy = zz = yz = xz = xy = 0.0
            for k in range(U(n)):
                gx, gy, gz = row[U(3) * k], row[U(3) * k + U(1)], row[U(3) * k + U(2)]
                x, y, z = vectors[U(start) + k, 0], vectors[U(start) + k, 1], vectors[U(start) + k, 2]
                xx += gx * x
                yy += gy * y
                zz += gz * z
                yz += gy * z + gz * y
                xz += gx * z + gz * x
                xy += gx * y + gy * x
            out[center, f, 0], out[center, f, 1], out[center, f, 2] = xx, yy, zz
            out[center, f, 3], out[center, f, 4], out[center, f, 5] = 0.5 * yz, 0.5 * xz, 0.5 * xy


@compiled_inline
def _add_radial_jacobian(
    around: Around, atoms: AtomIndices, center: int, tables: RadialTables, out: FloatArray
) -> None:
    """out[f * n_kinds + kind, 3 a + x] += ∂G/∂R_a,x of the radial functions of one center, for its neighbors a.

    Args:
        around: the neighbors and their weights.
        atoms: where they are in their structures.
        center: its position in the list.
        tables: of the functions.
        out: (n_features, 3 n_atoms).
    """
    first, vectors, weights, n_kinds = around
    cutoff = tables.cutoff
    for kind in range(n_kinds):
        row = center * n_kinds + kind
        n = first[row + 1] - first[row]
        slope, f_c, f_c_slope = np.empty(n), np.empty(n), np.empty(n)
        r, t, y, gaussian = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
        place_on_line(vectors, first[row], n, cutoff, r, t)
        polynomial_times_t2_and_slope(tables.cutoff_polynomial, t, f_c, f_c_slope, n)
        for k in range(n):
            f_c[k] *= weights[first[row] + k]
            f_c_slope[k] *= weights[first[row] + k]
        for f in range(tables.shifts.shape[0]):
            shift, scale, decay = tables.shifts[f], tables.scales[f], tables.decays[f]
            for k in range(U(n)):
                y[k] = (r[k] - shift) * (r[k] - shift) * scale
                gaussian[k] = 1.0
            multiply_polynomial(tables.polynomials[f], y, gaussian, n)
            square(gaussian, tables.squarings[f], n)
            for k in range(U(n)):
                # d/dr over r, in units of the cutoff
                radial = decay * (r[k] - shift) / r[k] * f_c[k] + f_c_slope[k]
                slope[k] = -2.0 * gaussian[k] * radial / (cutoff * cutoff)
            target = out[f * n_kinds + kind]
            for k in range(n):
                v, a = vectors[first[row] + k], 3 * atoms.neighbors[first[row] + k]
                for x in range(3):
                    target[a + x] += slope[k] * v[x]


class _Sources(NamedTuple):
    """What the neighbors of a center bring to all sums: their attenuations a(t), and these times {1, e} and {1, v}."""

    own: FloatArray  # (n_eta, n_neighbors)
    own_slope: FloatArray  # (n_eta, n_neighbors) a'
    from_value: FloatArray  # (n_neighbors, n_eta, 4) a {1, e}
    from_slope: FloatArray  # (n_neighbors, n_eta, 4) a {1, v}


class _Sums(NamedTuple):
    """Of one neighbor over its partners: (n_eta, n_power, 4) each."""

    value: FloatArray  # V
    slope: FloatArray  # S


@pasted
def _new_sources(tables: AngularTables, weights: FloatArray, near: Neighborhood, n: int) -> _Sources:
    n_eta = tables.polynomials.shape[0]
    own, own_slope = np.empty((n_eta, n)), np.empty((n_eta, n))
    attenuate_neighbors(tables, weights, near.t, n, own, own_slope)
    from_value, from_slope = np.empty((n, n_eta, 4)), np.empty((n, n_eta, 4))
    x, y, z, r = near.x, near.y, near.z, near.r
    for j in range(n):
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
    return _Sources(own, own_slope, from_value, from_slope)


@compiled_inline
def _add_angular_jacobian(
    around: Around,
    atoms: AtomIndices,
    center: int,
    tables: AngularTables,
    slopes: Slopes,
    first_column: int,
    out: FloatArray,
) -> None:
    """out[first_column + f * n_pairs + pair, 3 a + x] += ∂G/∂R_a,x of the angular functions of one center.

    For its neighbors a, as `_add_radial_jacobian`.

    Args:
        around, atoms, center: as for `_add_radial_jacobian`.
        tables, slopes: of the functions.
        first_column: row of the first of these functions in `out`.
        out: (n_features, 3 n_atoms).
    """
    first, vectors, weights, n_kinds = around
    n_eta, n_power = tables.polynomials.shape[0], slopes.recipe.shape[0]
    start = first[center * n_kinds]
    n_neighbors = first[(center + 1) * n_kinds] - start
    near, pairs = new_neighborhood(n_neighbors), new_pairs(n_neighbors)
    kind_of = np.empty(n_neighbors, np.int64)
    for a in range(n_kinds):
        kind_of[first[center * n_kinds + a] - start : first[center * n_kinds + a + 1] - start] = a
    place_neighbors(vectors, start, n_neighbors, tables.cutoff, near)
    sources = _new_sources(tables, weights[start:], near, n_neighbors)
    size = BLOCK + n_neighbors
    value, slope = np.empty((n_eta, size)), np.empty((n_eta, size))
    powers = np.empty((n_power, size))
    sums = _Sums(np.empty((n_eta, n_power, 4)), np.empty((n_eta, n_power, 4)))
    segment_j = np.empty(n_neighbors, np.int64)
    segment_end = np.empty(n_neighbors + 1, np.int64)
    segment_end[0] = 0
    for b in range(n_kinds):
        k_begin = U(first[center * n_kinds + b] - start)
        k_end = U(first[center * n_kinds + b + 1] - start)
        filled, n_segments = U(0), 0
        for j in range(U(n_neighbors)):
            n = gather_partners(near, j, k_begin, k_end, pairs, filled)
            if n > filled:
                segment_j[n_segments], segment_end[n_segments + 1] = j, n
                n_segments += 1
                filled = n
            if filled == U(0) or (filled < U(BLOCK) and j + U(1) < U(n_neighbors)):
                continue
            for e in range(n_eta):
                attenuation_and_slope(
                    tables.polynomials[e],
                    tables.squarings[e],
                    tables.decays[e],
                    tables.cutoff_polynomial,
                    pairs.t,
                    value[e],
                    slope[e],
                    filled,
                )
            fill_powers(filled, pairs.cosine, slopes.recipe, slopes.exponents, powers)
            for segment in range(n_segments):
                begin, end = segment_end[segment], segment_end[segment + 1]
                partners = pairs.partners
                sum_products(
                    sources.from_value, partners, value, powers, slopes.slopes, begin, end, sums.value
                )
                sum_products(
                    sources.from_slope, partners, slope, powers, slopes.powers, begin, end, sums.slope
                )
                i = U(segment_j[segment])
                target = U(first_column + slopes.pairs[kind_of[i], b])
                atom = U(3 * atoms.neighbors[start + segment_j[segment]])
                _add_neighbor(near, i, sources, sums, tables, slopes, (target, atom), out)
            filled, n_segments = U(0), 0


@pasted
def _add_neighbor(
    near: Neighborhood,
    i: int,
    sources: _Sources,
    sums: _Sums,
    tables: AngularTables,
    slopes: Slopes,
    place: tuple[int, int],
    out: FloatArray,
) -> None:
    """Add the derivatives with respect to one neighbor from its sums over partners of one kind.

    Args:
        near, sources: all neighbors.
        i: this one, unsigned.
        sums: over its partners.
        tables, slopes: of the functions.
        place: row of the first function with this pair of kinds, column of the atom; unsigned.
        out: (n_features, 3 n_atoms).
    """
    first_target, atom = place
    # the functions of a pair of kinds are as many rows apart as there are pairs
    n_pairs = slopes.pairs.shape[0] * (slopes.pairs.shape[0] + 1) // 2
    own, own_slope = sources.own, sources.own_slope
    xi, yi, zi, r, r2 = near.x[i], near.y[i], near.z[i], near.r[i], near.r2[i]
    cutoff = tables.cutoff
    per_r, twice_r, per_cutoff = 1.0 / (r * cutoff), 2.0 / cutoff * r, 4.0 / cutoff
    half_inverse = 0.5 / r2
    for f in range(U(tables.eta_rows.shape[0])):
        e, p, q = U(tables.eta_rows[f]), U(slopes.power_rows[f]), U(slopes.slope_rows[f])
        a_j, zeta, lambda_ = own[e, i], slopes.zetas[f], slopes.lambdas[f]
        vx, vy, vz = sums.value[e, q, U(1)], sums.value[e, q, U(2)], sums.value[e, q, U(3)]
        # Σ a p' c = ζ λ/2 Σ a u^(ζ-1) c, and u^ζ = u^(ζ-1) (1 + λ c)/2
        projection = lambda_ * (xi * vx + yi * vy + zi * vz)
        along = own_slope[e, i] * (sums.value[e, q, U(0)] + projection)
        along += a_j * (half_inverse * zeta * projection + 2.0 * sums.slope[e, p, U(0)])
        along *= -twice_r
        factor, twice = a_j * zeta * lambda_ * per_r, per_cutoff * a_j
        target = first_target + f * U(n_pairs)
        out[target, atom] += along * xi + factor * vx + twice * sums.slope[e, p, U(1)]
        out[target, atom + U(1)] += along * yi + factor * vy + twice * sums.slope[e, p, U(2)]
        out[target, atom + U(2)] += along * zi + factor * vz + twice * sums.slope[e, p, U(3)]
