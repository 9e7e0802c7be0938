"""Code for LLVM, made by hand: sums whose four lanes are the four numbers of one partner.

Numba vectorizes loops over many numbers only. `lane_sums.py` holds the same sums as a plain loop, which a test holds
equal.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

# 18 sums and the 4 factors at hand fit 32 registers (AVX-512, NEON). With the 16 of AVX2 some spill; 1 × 6, 2 × 6,
# 3 × 3, 3 × 4 and 3 × 5 are all slower here, by 3 to 9 % of the Jacobian
TILE_ETA, TILE_ROWS = 3, 6


class _Access:
    """How the code reaches numbers, alone and four at a time.

    Attributes:
        builder: of the code.
        whole: the type of indices.
        lanes: the type of four numbers.
    """

    def __init__(self, builder: Any, whole: Any) -> None:
        self.builder, self.whole = builder, whole
        self.lanes = ir.VectorType(ir.DoubleType(), 4)

    def number(self, value: int) -> Any:
        return ir.Constant(self.whole, value)

    def load(self, array: Any, position: Any) -> Any:
        """One number of an array."""
        return self.builder.load(self.builder.gep(array, [position]))

    def four(self, array: Any, position: Any) -> Any:
        """Where the four numbers of a place lie."""
        first = self.builder.gep(array, [self.builder.mul(position, self.number(4))])
        return self.builder.bitcast(first, self.lanes.as_pointer())


@intrinsic
def sum_tile(
    _: Any, left: Any, partners: Any, factors: Any, powers: Any, rows: Any, tile: Any, out: Any
) -> tuple[Any, Callable[..., Any]]:
    """Sums of at most `TILE_ETA` attenuations and `TILE_ROWS` rows, which stay in registers: one loop for each shape.

    Args:
        left, partners, factors, powers, rows, out: as for `lane_sums.sum_products_in_lanes`.
        tile: first attenuation, first of the rows, shape, begin and end; the shape is the number of attenuations *
            (TILE_ROWS + 1) + the number of rows.
    """
    return types.void(left, partners, factors, powers, rows, tile, out), _tile_code


def _tile_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    *inputs, (_, tile), result = zip(signature.args, arguments, strict=True)
    arrays = [context.make_array(kind)(context, builder, value) for kind, value in (*inputs, result)]
    left, partners, factors, powers, rows, out = (array.data for array in arrays)
    first_eta, first_row, shape, begin, end = cgutils.unpack_tuple(builder, tile, 5)
    n_eta = cgutils.unpack_tuple(builder, arrays[0].shape)[1]
    n_power, size = cgutils.unpack_tuple(builder, arrays[3].shape)
    access = _Access(builder, context.get_value_type(types.intp))
    whole, lanes = access.whole, access.lanes
    undefined, zeros = ir.Constant(lanes, ir.Undefined), ir.Constant(lanes, [0.0] * 4)
    all_first = ir.Constant(ir.VectorType(ir.IntType(32), 4), [0] * 4)

    number, load, four = access.number, access.load, access.four

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
    for n_etas, n_rows in itertools.product(range(1, TILE_ETA + 1), range(1, TILE_ROWS + 1)):
        block = builder.append_basic_block(f"tile_{n_etas}_{n_rows}")
        switch.add_case(number(n_etas * (TILE_ROWS + 1) + n_rows), block)
        builder.position_at_end(block)
        sum_tile(n_etas, n_rows)
        builder.branch(done)
    builder.position_at_end(done)
    return context.get_dummy_value()


@intrinsic
def move_in_lanes(
    _: Any, table: Any, rows: Any, partners: Any, corners: Any, moved: Any, s: Any, segment: Any
) -> tuple[Any, Callable[..., Any]]:
    """As `gradient.move_plainly`, the three coordinates and the fourth number of a neighbor at a time.

    Args:
        table, partners, corners, moved, s: as there.
        rows: of the table: TURN, TO_LEFT, TO_RIGHT.
        segment: the neighbor, begin and end.
    """
    return types.void(table, rows, partners, corners, moved, s, segment), _moving_code


def _moving_code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
    table, partners, corners, moved = (
        context.make_array(signature.args[k])(context, builder, arguments[k]) for k in (0, 2, 3, 4)
    )
    left, begin, end = cgutils.unpack_tuple(builder, arguments[6], 3)
    size = cgutils.unpack_tuple(builder, table.shape)[1]
    room = cgutils.unpack_tuple(builder, moved.shape)[1]
    turns, lefts, rights = (
        builder.gep(table.data, [builder.mul(row, size)])
        for row in cgutils.unpack_tuple(builder, arguments[1], 3)
    )
    access = _Access(builder, context.get_value_type(types.intp))
    whole, lanes = access.whole, access.lanes
    short, undefined = ir.IntType(32), ir.Constant(lanes, ir.Undefined)
    first_three = ir.Constant(ir.VectorType(short, 4), [0, 0, 0, 1])

    number, load, four = access.number, access.load, access.four

    def joined(three: Any, fourth: Any) -> Any:
        vector = builder.insert_element(undefined, three, ir.Constant(short, 0))
        vector = builder.insert_element(vector, fourth, ir.Constant(short, 1))
        return builder.shuffle_vector(vector, undefined, first_three)

    def add_product(total: Any, a: Any, b: Any) -> Any:
        return builder.fadd(total, builder.fmul(a, b, flags=("contract",)), flags=("contract",))

    own = builder.gep(moved.data, [builder.mul(builder.mul(arguments[5], room), number(4))])
    corner = builder.load(four(corners.data, left), align=8)
    total = cgutils.alloca_once(builder, lanes)
    builder.store(builder.load(four(own, left), align=8), total)
    with cgutils.for_range_slice(builder, begin, end, number(1), whole) as (m, _):
        partner, turn = load(partners.data, m), load(turns, m)
        place = four(own, partner)
        there = add_product(builder.load(place, align=8), joined(turn, load(rights, m)), corner)
        builder.store(there, place, align=8)
        other = builder.load(four(corners.data, partner), align=8)
        builder.store(add_product(builder.load(total), joined(turn, load(lefts, m)), other), total)
    builder.store(builder.load(total), four(own, left), align=8)
    return context.get_dummy_value()
