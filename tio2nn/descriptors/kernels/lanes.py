"""Loops over eight numbers at a time, written once: LLVM makes SIMD code of them, NumPy runs them where Python must.

A loop is a function of `Lanes` and its arguments, decorated by `lane_loop`, which compiled code calls:

    @lane_loop
    def add(k, a, b, begin, end):
        for m in k.steps(begin, end):
            b[0].put(m, a[0].at(m) + b[0].at(m))

Two-dimensional arrays arrive as tables of rows, one-dimensional ones as a row, integers and tuples of them as they are.
Steps are whole: the last one goes beyond `end`, so rows need room for up to seven numbers more, which may be anything
finite.

Why not leave it to LLVM: the neighbors of an atom that are partners of one of them are some twenty numbers. Of a loop
over so few it runs most one by one, in vectors of four where eight would do, after checks whether arrays overlap. Here
the order of every sum is also fixed, on every processor.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped]
from numba.core import cgutils, types
from numba.extending import intrinsic

from tio2nn.descriptors.kernels.compiling import IS_COMPILED

LANES = 8  # a register of AVX-512, two of AVX2, four of NEON

# The positions of the bits of a byte, and how many it has: what puts those of eight numbers that are wanted together.
_BITS = [[bit for bit in range(LANES) if byte >> bit & 1] for byte in range(1 << LANES)]
_PLACES = np.array([bits + [0] * (LANES - len(bits)) for bits in _BITS])

_DOUBLE, _INTEGER = ir.DoubleType(), ir.IntType(64)
_DOUBLES, _INTEGERS = ir.VectorType(_DOUBLE, LANES), ir.VectorType(_INTEGER, LANES)
_FUSED = ("contract",)  # products may be fused with sums


class _Vector:
    """Eight numbers in registers."""

    def __init__(self, lanes: Lanes, value: Any) -> None:
        self.lanes, self.value = lanes, value

    def __add__(self, other: Any) -> _Vector:
        return self._with(self.lanes.builder.fadd, other)

    def __sub__(self, other: Any) -> _Vector:
        return self._with(self.lanes.builder.fsub, other)

    def __mul__(self, other: Any) -> _Vector:
        return self._with(self.lanes.builder.fmul, other)

    def __gt__(self, other: float) -> _Vector:
        compare = self.lanes.builder.fcmp_ordered
        return _Vector(self.lanes, compare(">", self.value, self.lanes.spread(other).value))

    def __and__(self, other: _Vector) -> _Vector:
        return _Vector(self.lanes, self.lanes.builder.and_(self.value, other.value))

    def _with(self, operate: Callable[..., Any], other: Any) -> _Vector:
        if not isinstance(other, _Vector):
            other = self.lanes.spread(other)
        return _Vector(self.lanes, operate(self.value, other.value, flags=_FUSED))


class _Row:
    """A row of an array in memory."""

    def __init__(self, lanes: Lanes, start: Any) -> None:
        self.lanes, self.start = lanes, start
        self._vectors = _DOUBLES if start.type.pointee == _DOUBLE else _INTEGERS

    def _place(self, m: Any) -> Any:
        return self.lanes.builder.gep(self.start, [self.lanes.integer(m)])

    def at(self, m: Any) -> _Vector:
        """Eight numbers from m on."""
        place = self.lanes.builder.bitcast(self._place(m), self._vectors.as_pointer())
        return _Vector(self.lanes, self.lanes.builder.load(place, align=8))

    def put(self, m: Any, values: _Vector) -> None:
        """Write eight numbers from m on."""
        place = self.lanes.builder.bitcast(self._place(m), self._vectors.as_pointer())
        self.lanes.builder.store(values.value, place, align=8)

    def number(self, m: Any) -> _Vector:
        """Number m, in all lanes."""
        return self.lanes.spread(self.lanes.builder.load(self._place(m)))

    def add_number(self, m: Any, value: Any) -> None:
        """Add to number m."""
        builder, place = self.lanes.builder, self._place(m)
        builder.store(builder.fadd(builder.load(place), value), place)

    def gather(self, places: _Vector) -> _Vector:
        """The numbers at eight places."""
        builder = self.lanes.builder
        start = self.lanes.spread_integer(builder.ptrtoint(self.start, _INTEGER))
        shift = ir.Constant(_INTEGERS, [3] * LANES)
        addresses = builder.add(start, builder.shl(places.value, shift))
        kind = ir.VectorType(_DOUBLE.as_pointer(), LANES)
        pointers = builder.inttoptr(addresses, kind)
        mask = ir.VectorType(ir.IntType(1), LANES)
        signature = ir.FunctionType(_DOUBLES, [kind, ir.IntType(32), mask, _DOUBLES])
        name = f"llvm.masked.gather.v{LANES}f64.v{LANES}{_DOUBLE.as_pointer().intrinsic_name}"
        function = cgutils.get_or_insert_function(builder.module, signature, name)
        everywhere, nothing = ir.Constant(mask, [1] * LANES), ir.Constant(_DOUBLES, ir.Undefined)
        arguments = [pointers, ir.Constant(ir.IntType(32), 8), everywhere, nothing]
        return _Vector(self.lanes, builder.call(function, arguments))


class _Table:
    """A two-dimensional array in memory."""

    def __init__(self, lanes: Lanes, start: Any, stride: Any) -> None:
        self._lanes, self._start, self._stride = lanes, start, stride

    def __getitem__(self, row: Any) -> _Row:
        builder = self._lanes.builder
        offset = builder.mul(self._lanes.integer(row), self._stride)
        return _Row(self._lanes, builder.gep(self._start, [offset]))


class _Sum:
    """Eight sums that grow, in registers, and become one at the end."""

    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes
        self._variable = cgutils.alloca_once(lanes.builder, _DOUBLES)
        lanes.builder.store(ir.Constant(_DOUBLES, [0.0] * LANES), self._variable)

    def add(self, values: _Vector) -> None:
        builder = self._lanes.builder
        total = builder.fadd(builder.load(self._variable), values.value, flags=_FUSED)
        builder.store(total, self._variable)

    def total(self) -> Any:
        """Halves added to each other until one number is left."""
        builder = self._lanes.builder
        value, width = builder.load(self._variable), LANES
        while width > 1:
            width //= 2
            halves = [
                builder.shuffle_vector(
                    value,
                    ir.Constant(value.type, ir.Undefined),
                    ir.Constant(ir.VectorType(ir.IntType(32), width), list(range(first, first + width))),
                )
                for first in (0, width)
            ]
            value = builder.fadd(*halves)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


class Lanes:
    """What a loop is made of, as code for LLVM."""

    def __init__(self, context: Any, builder: Any) -> None:
        self._context, self.builder = context, builder

    def argument(self, kind: Any, value: Any) -> Any:
        """An argument of the loop, as its body sees it."""
        if isinstance(kind, types.UniTuple):  # type: ignore[attr-defined]
            return cgutils.unpack_tuple(self.builder, value)
        if not isinstance(kind, types.Array):
            return _Vector(self, self.spread(value).value) if isinstance(kind, types.Float) else value
        array = self._context.make_array(kind)(self._context, self.builder, value)
        if kind.ndim == 1:
            return _Row(self, array.data)
        return _Table(self, array.data, cgutils.unpack_tuple(self.builder, array.shape)[1])

    def integer(self, value: Any) -> Any:
        return ir.Constant(_INTEGER, value) if isinstance(value, int) else value

    def sum_index(self, a: Any, b: Any) -> Any:
        """The sum of two indices."""
        return self.builder.add(self.integer(a), self.integer(b))

    def moved(self, m: Any, by: Any) -> Any:
        """Step m, so many numbers further on."""
        return self.builder.add(m, self.integer(by))

    def moved_all(self, places: _Vector, by: Any) -> _Vector:
        """Eight places, so many numbers further on."""
        return _Vector(self, self.builder.add(places.value, self.spread_integer(self.integer(by))))

    def spread(self, value: Any) -> _Vector:
        """A number in all lanes."""
        if isinstance(value, (int, float)):
            return _Vector(self, ir.Constant(_DOUBLES, [float(value)] * LANES))
        return _Vector(self, self._spread(value, _DOUBLES))

    def spread_integer(self, value: Any) -> Any:
        return self._spread(value, _INTEGERS)

    def _spread(self, value: Any, kind: Any) -> Any:
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.builder.insert_element(undefined, value, ir.Constant(ir.IntType(32), 0))
        zeros = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        return self.builder.shuffle_vector(first, undefined, zeros)

    def steps(self, begin: Any, end: Any) -> Iterator[Any]:
        """Every eighth number of begin ≤ m < end."""
        bounds = self.integer(begin), self.integer(end)
        with cgutils.for_range_slice(self.builder, *bounds, ir.Constant(_INTEGER, LANES), _INTEGER) as (m, _):
            yield m

    def cases(self, value: Any, choices: range) -> Iterator[int]:
        """One branch for each choice; the body sees a number that Python knows."""
        done = self.builder.append_basic_block("done")
        switch = self.builder.switch(value, done)
        for choice in choices:
            block = self.builder.append_basic_block(f"case_{choice}")
            switch.add_case(ir.Constant(_INTEGER, choice), block)
            self.builder.position_at_end(block)
            yield choice
            self.builder.branch(done)
        self.builder.position_at_end(done)

    def new_sum(self) -> _Sum:
        return _Sum(self)

    def before(self, m: Any, end: Any) -> _Vector:
        """Which of the eight numbers from m on are below `end`."""
        left = self.builder.sub(self.integer(end), m)
        numbers = ir.Constant(_INTEGERS, list(range(LANES)))
        return _Vector(self, self.builder.icmp_signed("<", numbers, self.spread_integer(left)))

    def new_counter(self, value: Any) -> Any:
        variable = cgutils.alloca_once(self.builder, _INTEGER)
        self.builder.store(value, variable)
        return variable

    def count(self, counter: Any) -> Any:
        return self.builder.load(counter)

    def put_places(self, row: _Row, counter: Any, m: Any, chosen: _Vector) -> None:
        """Write the chosen ones of the numbers m to m + 7 behind those that are counted, and count them."""
        builder = self.builder
        byte = builder.bitcast(chosen.value, ir.IntType(LANES))
        place = builder.zext(byte, _INTEGER)
        kind = ir.ArrayType(_INTEGERS, 1 << LANES)
        content = ir.Constant(kind, [ir.Constant(_INTEGERS, places.tolist()) for places in _PLACES])
        table = cgutils.global_constant(builder, "places_of_bits", content)
        found = builder.load(builder.gep(table, [ir.Constant(_INTEGER, 0), place]))
        n = builder.load(counter)
        row.put(n, _Vector(self, builder.add(found, self.spread_integer(m))))
        bits = builder.zext(builder.ctpop(byte), _INTEGER)
        builder.store(builder.add(n, bits), counter)


class _PlainRow:
    """A row as NumPy sees it."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def at(self, m: Any) -> Any:
        return self._values[m].copy()

    def put(self, m: Any, values: Any) -> None:
        self._values[m] = values

    def number(self, m: Any) -> Any:
        return self._values[m]

    def add_number(self, m: Any, value: Any) -> None:
        self._values[m] += value

    def gather(self, places: Any) -> Any:
        return self._values[places]


class _PlainTable:
    """A table as NumPy sees it."""

    def __init__(self, values: Any) -> None:
        self._values = values

    def __getitem__(self, row: Any) -> _PlainRow:
        return _PlainRow(self._values[row])


class _PlainSum:
    def __init__(self) -> None:
        self._total = 0.0

    def add(self, values: Any) -> None:
        self._total += float(np.sum(values))

    def total(self) -> float:
        return self._total


class _PlainCounter:
    def __init__(self, value: int) -> None:
        self.value = value


class PlainLanes:
    """The same as `Lanes`, run by NumPy in one step."""

    @staticmethod
    def argument(value: Any) -> Any:
        if not isinstance(value, np.ndarray):
            return value
        return _PlainRow(value) if value.ndim == 1 else _PlainTable(value)

    @staticmethod
    def sum_index(a: int, b: int) -> int:
        return int(a) + int(b)

    @staticmethod
    def moved(m: slice, by: int) -> slice:
        return slice(int(m.start + by), int(m.stop + by))

    @staticmethod
    def moved_all(places: Any, by: int) -> Any:
        return places + by

    @staticmethod
    def spread(value: float) -> float:
        return value

    @staticmethod
    def steps(begin: int, end: int) -> Iterator[slice]:
        if end > begin:
            yield slice(int(begin), int(begin + -(-(end - begin) // LANES) * LANES))

    @staticmethod
    def cases(value: int, choices: range) -> Iterator[int]:
        if value in choices:
            yield int(value)

    @staticmethod
    def new_sum() -> _PlainSum:
        return _PlainSum()

    @staticmethod
    def before(m: slice, end: int) -> Any:
        return np.arange(m.start, m.stop) < end

    @staticmethod
    def new_counter(value: int) -> _PlainCounter:
        return _PlainCounter(int(value))

    @staticmethod
    def count(counter: _PlainCounter) -> int:
        return counter.value

    @staticmethod
    def put_places(row: _PlainRow, counter: _PlainCounter, m: slice, chosen: Any) -> None:
        places = m.start + np.flatnonzero(chosen)
        row.put(slice(counter.value, counter.value + len(places)), places)
        counter.value += len(places)


def _lane_loop(body: Callable[..., Any], result: Any) -> Callable[..., Any]:
    if not IS_COMPILED:

        def run(*arguments: Any) -> Any:
            return body(PlainLanes, *map(PlainLanes.argument, arguments))

        return run

    def code(_: Any, *kinds: Any) -> tuple[Any, Callable[..., Any]]:
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            lanes = Lanes(context, builder)
            seen = [lanes.argument(*pair) for pair in zip(signature.args, arguments, strict=True)]
            found = body(lanes, *seen)
            return context.get_dummy_value() if found is None else found

        return result(*kinds), generate

    code.__name__ = body.__name__
    code.__signature__ = inspect.signature(body)  # type: ignore[attr-defined]
    return intrinsic(code)  # type: ignore[no-any-return]


def lane_loop(body: Callable[..., None]) -> Callable[..., None]:
    """Decorator: a function that compiled code calls; see the top of this module."""
    return _lane_loop(body, types.void)


def counting_lane_loop(body: Callable[..., Any]) -> Callable[..., int]:
    """As `lane_loop`, of a body that returns `Lanes.count`."""
    return _lane_loop(body, types.int64)
