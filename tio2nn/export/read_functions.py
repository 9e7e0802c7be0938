"""Symmetry functions from the set-ups of other programs, as a parameter set.

`input.nn` of RuNNer and n2p2 (`symfunction_short`, types 2, 3, 12 and 13) and `.stp` of aenet (Behler2011, G = 2, 4).
A parameter set has every function for every neighbor, or pair of them, around every element; where a set-up has fewer,
the set has more columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from tio2nn.errors import InputError, ParameterError
from tio2nn.export.functions import ANGULAR, RADIAL, WEIGHTED_ANGULAR, WEIGHTED_RADIAL
from tio2nn.export.lines import Line, lines_of
from tio2nn.export.marks import stated_units
from tio2nn.export.units import Units
from tio2nn.files.text import parse_count, parse_number, quoted
from tio2nn.parameters.parameter_set import AngularFunction, ParameterSet, RadialFunction
from tio2nn.parameters.presets import in_published_order
from tio2nn.structures.elements import ATOMIC_NUMBERS

FunctionT = TypeVar("FunctionT", RadialFunction, AngularFunction)

# elements among the words of a function: its neighbors
_NEIGHBORS = {RADIAL: 1, ANGULAR: 2, WEIGHTED_RADIAL: 0, WEIGHTED_ANGULAR: 0}
# numbers after them
_NUMBERS = {RADIAL: 3, WEIGHTED_RADIAL: 3, ANGULAR: 4, WEIGHTED_ANGULAR: 5}
_ROUNDING = 1e-9  # relative; of a cutoff in another unit


class ReadFunction(NamedTuple):
    """A function of a set-up.

    Attributes:
        line: where it stands.
        center: element of the central atom.
        neighbors: elements of its neighbors; none where they are weighted.
        cutoff: Å.
        function: the function, in Å.
    """

    line: Line
    center: str
    neighbors: tuple[str, ...]
    cutoff: float
    function: RadialFunction | AngularFunction


@dataclass
class SetUp:
    """What a set-up says about its functions.

    Attributes:
        elements: of the centers and neighbors, in their order.
        functions: all of them.
    """

    elements: list[str] = field(default_factory=list)
    functions: list[ReadFunction] = field(default_factory=list)

    def parameters(self, **settings: Any) -> ParameterSet:
        """The parameter set with all of these functions.

        Args:
            settings: further fields of the set.

        Raises:
            InputError: functions that do not go together in a set.
        """
        if not self.functions:
            raise InputError("expected symmetry functions, got none")
        first = self.functions[0]
        for other in self.functions:
            if abs(other.cutoff - first.cutoff) > _ROUNDING * first.cutoff:
                raise other.line.error(
                    f"expected the cutoff of line {first.line.number}, {first.cutoff:g} Å, got {other.cutoff:g} Å"
                )
        radial = [f for f in self.functions if isinstance(f.function, RadialFunction)]
        angular = [f for f in self.functions if isinstance(f.function, AngularFunction)]
        for kind in (radial, angular):
            for other in kind:
                if bool(other.neighbors) != bool(kind[0].neighbors):
                    raise other.line.error(
                        f"expected a function like that of line {kind[0].line.number}, got one of another kind: "
                        "sums of one element and weighted ones do not go together"
                    )
        choices: dict[str, Any] = {}
        if radial and not radial[0].neighbors:
            choices["radial_elements"] = "weighted"
        if angular and not angular[0].neighbors:
            choices["angular_elements"] = "weighted"
        try:
            return ParameterSet(
                elements=in_published_order(tuple(self.elements)),
                cutoff=first.cutoff,
                radial=_once(radial, RadialFunction),
                angular=_once(angular, AngularFunction),
                **choices,
                **settings,
            )
        except ParameterError as error:
            raise InputError(f"cannot read the functions: {error}", file=first.line.file) from None

    def add_element(self, element: str) -> None:
        if element not in self.elements:
            self.elements.append(element)


def _once(functions: Sequence[ReadFunction], kind: type[FunctionT]) -> tuple[FunctionT, ...]:
    """Functions of a kind, each once, in their order."""
    return tuple(dict.fromkeys(f.function for f in functions if isinstance(f.function, kind)))


def read_setup(files: Sequence[Path], units: Units | None = None) -> SetUp:
    """The functions of one `input.nn`, or of the `.stp` files of one or more elements.

    Args:
        files: as the user named them.
        units: of an `input.nn` that does not state them, as an export does.

    Raises:
        InputError: not such files; with the line.
    """
    setup = SetUp()
    for file in files:
        lines = list(lines_of(file, "#"))
        if any(line.words[0] == "symfunction_short" for line in lines):
            if len(files) > 1:
                raise _several(file, files)
            chosen = stated_units(file, units)
            for line in lines:
                _read_keyword(line, setup, chosen)
        elif any(line.words[0].upper() in ("SYMMFUNC", "FUNCTIONS", "BASIS") for line in lines):
            if units is not None:
                raise InputError(
                    f"expected no --units for a .stp, which is in Å, got {units.name}", file=str(file)
                )
            _read_stp(file, setup)
        else:
            raise InputError(
                "expected an input.nn with symfunction_short or a .stp with FUNCTIONS, got neither",
                file=str(file),
            )
    return setup


def _several(file: Path, files: Sequence[Path]) -> InputError:
    named = " and ".join(map(str, files))
    return InputError(f"expected one input.nn or the .stp of each element, got {named}", file=str(file))


def read_function(line: Line, units: Units) -> ReadFunction:
    """A line `symfunction_short`.

    Raises:
        InputError: a wrong line, or a function that a parameter set does not have.
    """
    center = line.element(1)
    kind = int(line.value(2))
    if kind not in _NEIGHBORS:
        raise line.error(f"expected a symmetry function of type 2, 3, 12 or 13, got {quoted(line.words[2])}")
    n_neighbors, n_numbers = _NEIGHBORS[kind], _NUMBERS[kind]
    neighbors = tuple(line.element(3 + k) for k in range(n_neighbors))
    if len(line.words) != 3 + n_neighbors + n_numbers:
        raise line.error(f"expected {3 + n_neighbors + n_numbers} words, got {len(line.words)}")
    numbers = [line.value(3 + n_neighbors + k) for k in range(n_numbers)]
    cutoff, eta = _tidy(numbers[-1] / units.length), _tidy(numbers[0] * units.length**2)
    if kind in (RADIAL, WEIGHTED_RADIAL):
        return _checked(
            line, center, neighbors, cutoff, RadialFunction, eta, _tidy(numbers[1] / units.length)
        )
    if kind == WEIGHTED_ANGULAR and numbers.pop(1) != 0.0:
        raise line.error("expected an angular function without a shift, got a shifted one")
    return _checked(line, center, neighbors, cutoff, AngularFunction, eta, *_signed(line, *numbers[1:3]))


def _tidy(number: float) -> float:
    """Without the last digit, which a conversion of units may have changed."""
    return float(f"{number:.15g}")


def _signed(line: Line, lambda_: float, zeta: float) -> tuple[int, float]:
    if lambda_ not in (-1.0, 1.0):
        raise line.error(f"expected lambda 1 or -1, got {lambda_:g}")
    return int(lambda_), zeta


def _checked(
    line: Line,
    center: str,
    neighbors: tuple[str, ...],
    cutoff: float,
    make: Callable[..., Any],
    *values: float,
) -> ReadFunction:
    try:
        return ReadFunction(line, center, neighbors, cutoff, make(*values))
    except ParameterError as error:
        raise line.error(str(error)) from None


def _read_keyword(line: Line, setup: SetUp, units: Units) -> None:
    keyword = line.words[0]
    if keyword == "elements":
        for place in range(1, len(line.words)):
            setup.add_element(line.element(place))
    elif keyword == "cutoff_type":
        check_cutoff_type(line)
    elif keyword == "symfunction_short":
        found = read_function(line, units)
        for element in (found.center, *found.neighbors):
            setup.add_element(element)
        setup.functions.append(found)


def check_cutoff_type(line: Line) -> None:
    """Refuse a cutoff function other than ½ (1 + cos(π R / R_c)).

    Raises:
        InputError: another one.
    """
    if line.value(1) != 1.0 or (len(line.words) > 2 and line.value(2) != 0.0):
        raise line.error(f"expected cutoff_type 1 without an inner radius, got {' '.join(line.words[1:])}")


def _read_stp(file: Path, setup: SetUp) -> None:
    lines = iter(list(lines_of(file, "!", "#")))
    center, is_description = None, False
    around: list[str] = []
    for line in lines:
        keyword = line.words[0].upper()
        if is_description or keyword == "DESCR":
            is_description = keyword != "END"
        elif keyword == "ATOM":
            center = line.element(1)
            setup.add_element(center)
        elif keyword == "ENV":
            for _ in range(_count(line, 1)):
                around.append(_next(lines, line).element(0))
                setup.add_element(around[-1])
        elif keyword in ("SYMMFUNC", "FUNCTIONS"):
            if center is None:
                raise line.error("expected ATOM before the functions, got none")
            if not around:
                raise line.error("expected ENV before the functions, got none")
            if "type=Behler2011" not in "".join(line.words):
                raise line.error(f"expected functions of type=Behler2011, got {' '.join(line.words[1:])}")
            first = _next(lines, line)
            for _ in range(_count(first, 0)):
                found = _read_stp_function(_next(lines, first), center)
                for neighbor in found.neighbors:
                    if neighbor not in around:
                        expected = " or ".join(around)
                        raise found.line.error(f"expected a neighbor of ENV, {expected}, got {neighbor}")
                setup.functions.append(found)
        elif keyword != "RMIN":
            raise line.error(
                f"expected ATOM, ENV, RMIN or FUNCTIONS type=Behler2011, got {quoted(line.words[0])}"
            )


def _read_stp_function(line: Line, center: str) -> ReadFunction:
    text = " ".join(line.words).replace(" =", "=").replace("= ", "=")
    pairs = dict(word.partition("=")[::2] for word in text.split())

    def number(key: str) -> float:
        found = parse_number(pairs.get(key, ""))
        if found is None:
            raise line.error(f"expected {key}=NUMBER, got {quoted(pairs[key]) if key in pairs else 'none'}")
        return found

    def neighbor(key: str) -> str:
        if pairs.get(key) not in ATOMIC_NUMBERS:
            raise line.error(f"expected {key}=ELEMENT, got {quoted(pairs[key]) if key in pairs else 'none'}")
        return pairs[key]

    kind = pairs.get("G")
    if kind == "2":
        values = (number("eta"), number("Rs"))
        return _checked(line, center, (neighbor("type2"),), number("Rc"), RadialFunction, *values)
    if kind == "4":
        signed = _signed(line, number("lambda"), number("zeta"))
        neighbors = (neighbor("type2"), neighbor("type3"))
        return _checked(line, center, neighbors, number("Rc"), AngularFunction, number("eta"), *signed)
    raise line.error(f"expected G=2 or G=4, got {quoted(kind) if kind else 'none'}")


def _count(line: Line, place: int) -> int:
    found = parse_count(line.words[place]) if place < len(line.words) else None
    if found is None:
        raise line.error("expected a number of lines to follow, got none")
    return found


def _next(lines: Iterator[Line], before: Line) -> Line:
    for line in lines:
        return line
    raise before.error("expected more lines, got the end of the file")
