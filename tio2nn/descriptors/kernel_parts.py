"""What the compiled loops of symmetry functions and of their derivatives share.

Inside the kernels all lengths are in units of the cutoff, and the variable of every attenuation is
t = 1 - R²/R_c²: 1 at the atom, 0 at the cutoff.

Index variables are unsigned (`uintp`): Numba then leaves out the check for negative indices, which
would keep LLVM from vectorizing (6.6 → 3.2 ns per pair).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic
from numpy.typing import NDArray

from tio2nn.descriptors.compiling import compiled_once

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

N_TERMS = 16  # exp(-3.8 x) f_c to 4e-14; more terms cost more than a squaring (see `attenuation.py`)
BLOCK = 256  # 14 rows of 256 doubles stay in a 32 KiB L1 cache; 512 is 40 % slower
U = np.uintp
# Of `sum_products`: 18 sums and the 4 factors at hand fit 32 registers (AVX-512, NEON). With the 16 of AVX2 some spill;
# 1 × 6, 2 × 6, 3 × 3, 3 × 4 and 3 × 5 are all slower here, by 3 to 9 % of the Jacobian
_TILE_ETA, _TILE_ROWS = 3, 6

# Sums may be reordered and fused, but NaN and infinity keep their meaning.
_OPTIONS = {"fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}
compiled = compiled_once(**_OPTIONS)
# For all that other loops call. A function that stays one of its own is there twice, in its own machine code and in
# that of its caller, with sums in another order. Which of them runs would depend on whether this process compiled the
# caller or loaded it, and so would the last bits.
compiled_inline = compiled_once(**_OPTIONS, forceinline=True)


@compiled_inline
def multiply_polynomial(c: FloatArray, t: FloatArray, out: FloatArray, n: int) -> None:
    """out[:n] *= Σ_k c[k] t[:n]^k, `N_TERMS` terms, unrolled so that the loop over t becomes SIMD code."""
    c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    c8, c9, c10, c11, c12, c13, c14, c15 = c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15]
    for k in range(U(n)):
        x = t[k]
        s = c12 + x * (c13 + x * (c14 + x * c15))
        s = c8 + x * (c9 + x * (c10 + x * (c11 + x * s)))
        s = c4 + x * (c5 + x * (c6 + x * (c7 + x * s)))
        out[k] *= c0 + x * (c1 + x * (c2 + x * (c3 + x * s)))


@compiled_inline
def square(values: FloatArray, times: int, n: int) -> None:
    """values[:n] squared so many times."""
    for _ in range(times):
        for k in range(U(n)):
            values[k] *= values[k]


@compiled_inline
def multiply_attenuation(
    polynomial: FloatArray,
    squarings: int,
    cutoff_polynomial: FloatArray,
    t: FloatArray,
    out: FloatArray,
    n: int,
) -> None:
    """out[:n] *= exp(-η R²) f_c(R) at t = 1 - R²/R_c² (see `attenuation.Attenuation`)."""
    for k in range(U(n)):
        out[k] *= t[k] * t[k]
    if squarings == 0:
        multiply_polynomial(polynomial, t, out, n)
        return
    gaussian = np.ones(n)
    multiply_polynomial(polynomial, t, gaussian, n)
    square(gaussian, squarings, n)
    for k in range(U(n)):
        out[k] *= gaussian[k]
    multiply_polynomial(cutoff_polynomial, t, out, n)


@compiled_inline
def fill_powers(
    n: int, cosine: FloatArray, recipe: IntArray, exponents: FloatArray, powers: FloatArray
) -> None:
    """powers[r, :n] = ((1 + λ cosθ)/2)^ζ of row r, by the recipe of `tables.power_recipe`."""
    for r in range(recipe.shape[0]):
        row, a, b = powers[r], recipe[r, 0], recipe[r, 1]
        if a < 0:
            # row of ones for λ = 0
            rest, half = 0.5 if b != 0 else 1.0, 0.5 * np.float64(b)
            for k in range(U(n)):
                row[k] = max(0.0, rest + half * cosine[k])
        elif b < 0:
            for k in range(U(n)):
                u = powers[a, k]
                # at u = 0 the sine that stands beside a negative power in a derivative vanishes
                row[k] = u ** exponents[r] if u > 0.0 else 0.0
        else:
            left, right = powers[a], powers[b]
            for k in range(U(n)):
                row[k] = left[k] * right[k]


@compiled_inline
def accumulate(n: int, attenuations: FloatArray, powers: FloatArray, sums: FloatArray) -> None:
    """sums += attenuations[:, :n] @ powers[:, :n].T, in tiles of 3 × 2 sums that stay in registers."""
    n_eta, n_power = attenuations.shape[0], powers.shape[0]
    e = 0
    while e < n_eta:
        if e + 3 <= n_eta:
            p0, p1, p2 = attenuations[e], attenuations[e + 1], attenuations[e + 2]
            for r in range(0, n_power, 2):
                w0, w1 = powers[r], powers[r + 1]
                s00 = s01 = s10 = s11 = s20 = s21 = 0.0
                for k in range(U(n)):
                    s00 += p0[k] * w0[k]
                    s01 += p0[k] * w1[k]
                    s10 += p1[k] * w0[k]
                    s11 += p1[k] * w1[k]
                    s20 += p2[k] * w0[k]
                    s21 += p2[k] * w1[k]
                sums[e, r] += s00
                sums[e, r + 1] += s01
                sums[e + 1, r] += s10
                sums[e + 1, r + 1] += s11
                sums[e + 2, r] += s20
                sums[e + 2, r + 1] += s21
            e += 3
        else:
            p0 = attenuations[e]
            for r in range(0, n_power, 2):
                w0, w1 = powers[r], powers[r + 1]
                s00 = s01 = 0.0
                for k in range(U(n)):
                    s00 += p0[k] * w0[k]
                    s01 += p0[k] * w1[k]
                sums[e, r] += s00
                sums[e, r + 1] += s01
            e += 1


class Around(NamedTuple):
    """The neighbors of consecutive centers, as one sort of functions sees them.

    Attributes:
        first: (n_centers * n_kinds + 1,) where the neighbors of each (center, kind) begin in the arrays below.
        vectors: (n_pairs, 3) from center to neighbor, Å.
        weights: (n_pairs,) factor of each neighbor in every sum.
        n_kinds: number of kinds of neighbors that have sums of their own.
    """

    first: IntArray
    vectors: FloatArray
    weights: FloatArray
    n_kinds: int


class Slopes(NamedTuple):
    """What derivatives need beyond the tables of the values; R in units of the cutoff.

    Attributes:
        radial_decays: (n_radial,) η R_c² of each radial function.
        decays: (n_eta,) η R_c² of each attenuation.
        recipe, exponents: as for `fill_powers`, of all rows that derivatives need.
        power_rows: (n_angular,) the row of u^ζ, u = (1 + λ cosθ)/2, of each function.
        slope_rows: (n_angular,) the row of u^(ζ-1).
        eta_rows: (n_angular,) the attenuation.
        lambdas, zetas: (n_angular,) λ and ζ.
        powers, slopes: rows that serve as u^ζ, and those that serve as u^(ζ-1).
        pairs: (n_kinds, n_kinds) position of a pair of kinds among the columns of a function.
    """

    radial_decays: FloatArray
    decays: FloatArray
    recipe: IntArray
    exponents: FloatArray
    power_rows: IntArray
    slope_rows: IntArray
    eta_rows: IntArray
    lambdas: FloatArray
    zetas: FloatArray
    powers: IntArray
    slopes: IntArray
    pairs: IntArray


@compiled_inline
def polynomial_and_slope(c: FloatArray, t: FloatArray, value: FloatArray, slope: FloatArray, n: int) -> None:
    """value[:n] = Σ_k c[k] t[:n]^k and its derivative with respect to t, by Horner's rule."""
    c0, c1, c2, c3, c4, c5, c6, c7 = c[0], c[1], c[2], c[3], c[4], c[5], c[6], c[7]
    c8, c9, c10, c11, c12, c13, c14, c15 = c[8], c[9], c[10], c[11], c[12], c[13], c[14], c[15]
    for k in range(U(n)):
        x = t[k]
        s = c14 + x * c15
        d = c15 + 0.0 * x
        d, s = s + x * d, c13 + x * s
        d, s = s + x * d, c12 + x * s
        d, s = s + x * d, c11 + x * s
        d, s = s + x * d, c10 + x * s
        d, s = s + x * d, c9 + x * s
        d, s = s + x * d, c8 + x * s
        d, s = s + x * d, c7 + x * s
        d, s = s + x * d, c6 + x * s
        d, s = s + x * d, c5 + x * s
        d, s = s + x * d, c4 + x * s
        d, s = s + x * d, c3 + x * s
        d, s = s + x * d, c2 + x * s
        d, s = s + x * d, c1 + x * s
        d, s = s + x * d, c0 + x * s
        value[k] = s
        slope[k] = d


@compiled_inline
def attenuation_and_slope(
    polynomial: FloatArray,
    squarings: int,
    decay: float,
    cutoff_polynomial: FloatArray,
    t: FloatArray,
    value: FloatArray,
    slope: FloatArray,
    n: int,
) -> None:
    """value[:n] = exp(-η R²) f_c(R) at t = 1 - R²/R_c², and its derivative with respect to t.

    Both have a factor t, so neither jumps at the cutoff.
    """
    if squarings == 0:
        polynomial_and_slope(polynomial, t, value, slope, n)
        for k in range(U(n)):
            x = t[k]
            slope[k] = x * (2.0 * value[k] + x * slope[k])
            value[k] *= x * x
        return
    gaussian = np.ones(n)
    multiply_polynomial(polynomial, t, gaussian, n)
    square(gaussian, squarings, n)
    polynomial_and_slope(cutoff_polynomial, t, value, slope, n)
    for k in range(U(n)):
        x = t[k]
        f = x * x * value[k]
        slope[k] = gaussian[k] * (decay * f + x * (2.0 * value[k] + x * slope[k]))
        value[k] = gaussian[k] * f


@compiled_inline
def sum_products(
    left: FloatArray,
    partners: NDArray[np.uint32],
    factors: FloatArray,
    powers: FloatArray,
    rows: IntArray,
    begin: int,
    end: int,
    out: FloatArray,
) -> None:
    """out[e, row] = Σ_m left[partners[m], e] factors[e, m] powers[row, m] of begin ≤ m < end, for each of `rows`.

    The four numbers of one partner are the lanes of a SIMD register: a sum over few m then ends without adding up
    lanes, and the partners need no copy in the order of m. With the lanes along m it took 2.5 times as long at the
    24 partners that a neighbor has on average.

    Args:
        left: (n_partners, n_eta, 4).
        partners: indices into it.
        factors, powers: (n_eta, size), (n_power, size).
        rows: those of `powers` that are wanted.
        out: (n_eta, n_power, 4); rows that are not wanted stay.
    """
    n_eta, n_rows = factors.shape[0], rows.shape[0]
    for e in range(0, n_eta, _TILE_ETA):
        for r in range(0, n_rows, _TILE_ROWS):
            shape = min(n_eta - e, _TILE_ETA) * (_TILE_ROWS + 1) + min(n_rows - r, _TILE_ROWS)
            _sum_tile(left, partners, factors, powers, rows, (e, r, shape, begin, end), out)


@intrinsic
def _sum_tile(
    _: Any, left: Any, partners: Any, factors: Any, powers: Any, rows: Any, tile: Any, out: Any
) -> tuple[Any, Callable[..., Any]]:
    """`sum_products` of at most `_TILE_ETA` attenuations and `_TILE_ROWS` rows, whose sums stay in registers.

    Numba vectorizes loops over many numbers only, so the code of the four lanes is made here: one loop for each shape
    of a tile. `tile` is the first attenuation, the first of the rows, the shape, begin and end; the shape is the number
    of attenuations * (_TILE_ROWS + 1) + the number of rows.
    """
    return types.void(left, partners, factors, powers, rows, tile, out), _tile_code


def _tile_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    *inputs, (_, tile), result = zip(signature.args, arguments, strict=True)
    arrays = [context.make_array(kind)(context, builder, value) for kind, value in (*inputs, result)]
    left, partners, factors, powers, rows, out = (array.data for array in arrays)
    first_eta, first_row, shape, begin, end = cgutils.unpack_tuple(builder, tile, 5)
    n_eta = cgutils.unpack_tuple(builder, arrays[0].shape)[1]
    n_power, size = cgutils.unpack_tuple(builder, arrays[3].shape)
    whole, lanes = context.get_value_type(types.intp), ir.VectorType(ir.DoubleType(), 4)
    undefined, zeros = ir.Constant(lanes, ir.Undefined), ir.Constant(lanes, [0.0] * 4)
    all_first = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)

    def number(value: int) -> Any:
        return ir.Constant(whole, value)

    def load(array: Any, position: Any) -> Any:
        return builder.load(builder.gep(array, [position]))

    def four(array: Any, position: Any) -> Any:
        return builder.bitcast(builder.gep(array, [builder.mul(position, number(4))]), lanes.as_pointer())

    def spread(value: Any) -> Any:
        vector = builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(vector, undefined, all_first)

    def sum_tile(n_etas: int, n_rows: int) -> None:
        etas = [builder.add(first_eta, number(e)) for e in range(n_etas)]
        chosen = [load(rows, builder.add(first_row, number(r))) for r in range(n_rows)]
        factor_rows = [builder.gep(factors, [builder.mul(eta, size)]) for eta in etas]
        power_rows = [builder.gep(powers, [builder.mul(row, size)]) for row in chosen]
        # variables on the stack, which LLVM turns into registers
        sums = [[cgutils.alloca_once(builder, lanes) for _ in chosen] for _ in etas]
        for variable in itertools.chain(*sums):
            builder.store(zeros, variable)
        with cgutils.for_range_slice(builder, begin, end, number(1), whole) as (m, _):
            partner = builder.mul(builder.zext(load(partners, m), whole), n_eta)
            vectors = [builder.load(four(left, builder.add(partner, eta)), align=8) for eta in etas]
            factored = [
                builder.fmul(vector, spread(load(row, m)))
                for vector, row in zip(vectors, factor_rows, strict=True)
            ]
            for r, row in enumerate(power_rows):
                power = spread(load(row, m))
                for e, vector in enumerate(factored):
                    product = builder.fmul(vector, power, flags=("contract",))
                    total = builder.fadd(builder.load(sums[e][r]), product, flags=("contract",))
                    builder.store(total, sums[e][r])
        for e, eta in enumerate(etas):
            for r, row in enumerate(chosen):
                place = four(out, builder.add(builder.mul(eta, n_power), row))
                builder.store(builder.load(sums[e][r]), place, align=8)

    done = builder.append_basic_block("done")
    switch = builder.switch(shape, done)
    for n_etas, n_rows in itertools.product(range(1, _TILE_ETA + 1), range(1, _TILE_ROWS + 1)):
        block = builder.append_basic_block(f"tile_{n_etas}_{n_rows}")
        switch.add_case(number(n_etas * (_TILE_ROWS + 1) + n_rows), block)
        builder.position_at_end(block)
        sum_tile(n_etas, n_rows)
        builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()
