"""The parameter set of a project: symmetry functions, network, training and tuning.

A `ParameterSet` is the content of `params.json`. Every field carries its meaning, unit, default and limits;
the checks, the table that `tio2nn schema` shows and the JSON Schema all follow from them.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import field
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass

from tio2nn.files.digests import digest
from tio2nn.files.paths import AnyPath
from tio2nn.files.strict_json import format_json, load, parse, quote
from tio2nn.parameters.fields import NUMBER, SECTION, UNIQUE, About, Affects, NonNegative, OneOf, Positive
from tio2nn.parameters.fit_parameters import (
    NetworkParameters,
    RecipeName,
    TrainingParameters,
    TuningParameters,
)
from tio2nn.parameters.schema import fields, to_json
from tio2nn.parameters.targets import Target, works
from tio2nn.parameters.validation import Section, broken_rule, read
from tio2nn.structures.elements import SYMBOLS

RadialElements = Literal["each", "weighted", "blind"]
AngularElements = Literal["pairs", "weighted", "blind"]

# What `element_blind` of 0.1.0 said of radial_elements and angular_elements
_ELEMENT_BLIND = {("each", "pairs"): False, ("blind", "blind"): True}
# The name, in those of the features, of a sum over all neighbors
_SUMS = {"weighted": ("Z",), "blind": ("*",)}


@dataclass(frozen=True, config=SECTION)
class RadialFunction(Section):
    """Σ_j exp(−η (R_ij − R_s)²) f_c(R_ij), a column for each neighbor element or one (`radial_elements`)."""

    eta: Annotated[NonNegative, About("Width η of the Gaussian", unit="1/Å²")]
    r_s: Annotated[NonNegative, About("Center R_s of the Gaussian", unit="Å")] = 0.0


@dataclass(frozen=True, config=SECTION)
class AngularFunction(Section):
    """2^(1−ζ) Σ_{j<k} (1 + λ cos θ_ijk)^ζ exp(−η (R_ij² + R_ik² + R_jk²)) f_c(R_ij) f_c(R_ik) f_c(R_jk).

    It has a column for each unordered pair of neighbor elements, or one (`angular_elements`).
    """

    eta: Annotated[NonNegative, About("Width η of the Gaussian in the three distances", unit="1/Å²")]
    lambda_: Annotated[int, OneOf((-1, 1)), About("Sign λ: 1 peaks at an angle of 0°, -1 at 180°")]
    zeta: Annotated[Positive, About("Exponent ζ: the larger, the sharper the peak; need not be an integer")]


def _names(names: Iterable[str]) -> str:
    return ", ".join(quote(name) for name in names)


@dataclass(frozen=True, kw_only=True, config=SECTION)
class ParameterSet(Section):
    """The content of `params.json`.

    Raises:
        ParameterError: with every problem, when a set is made, read or changed.
    """

    elements: Annotated[
        tuple[Annotated[str, OneOf(SYMBOLS, "chemical symbol")], ...],
        Field(min_length=1),
        UNIQUE,
        About("Chemical symbols; their order is that of the features", Affects.FEATURES),
    ]
    cutoff: Annotated[
        float,
        # no symmetry functions reach as far; more would leave the numbers of a computer
        Field(gt=0, le=1000),
        NUMBER,
        About("Distance at which an atom's neighborhood ends", Affects.FEATURES, unit="Å"),
    ]
    radial_elements: Annotated[
        RadialElements,
        About(
            "Radial functions: one for each neighbor element, or one sum over all neighbors, weighted by atomic "
            "number or blind to elements",
            Affects.FEATURES,
        ),
    ] = "each"
    angular_elements: Annotated[
        AngularElements,
        About(
            "Angular functions: one for each pair of neighbor elements, or one sum over all pairs, weighted by the "
            "product of atomic numbers or blind to elements",
            Affects.FEATURES,
        ),
    ] = "pairs"
    radial: Annotated[
        tuple[RadialFunction, ...], UNIQUE, About("Radial symmetry functions", Affects.FEATURES)
    ]
    angular: Annotated[
        tuple[AngularFunction, ...], UNIQUE, About("Angular symmetry functions", Affects.FEATURES)
    ]
    recipe: Annotated[
        RecipeName,
        About(
            "What decides the settings that are null; a file without it has those of default",
            Affects.NOTHING,  # but through what it decides
        ),
    ] = "default"
    target: Annotated[
        Target | None,
        About(
            "Program that the potential is made for, which decides the activation where that is null; null for any",
            Affects.NOTHING,  # but through what it decides
        ),
    ] = None
    network: Annotated[
        NetworkParameters, About("The subnet that turns the features of one atom into its energy")
    ] = field(default_factory=NetworkParameters)
    training: Annotated[TrainingParameters, About("How the structures are split and the weights fitted")] = (
        field(default_factory=TrainingParameters)
    )
    tuning: Annotated[TuningParameters, About("What tune varies, and how it searches")] = field(
        default_factory=TuningParameters
    )
    reference_energies: Annotated[
        dict[str, Annotated[float, NUMBER]] | None,
        About(
            "Energy of one atom of each element, subtracted before training; null for a robust fit",
            Affects.POTENTIAL,
            unit="eV",
        ),
    ] = None

    @field_validator("angular")
    @classmethod
    def _has_functions(
        cls, angular: tuple[AngularFunction, ...], others: ValidationInfo
    ) -> tuple[AngularFunction, ...]:
        if angular or others.data.get("radial", True):
            return angular
        raise broken_rule("radial", "expected at least one radial or angular function, got none")

    @field_validator("reference_energies")
    @classmethod
    def _knows_the_elements(
        cls, energies: dict[str, float] | None, others: ValidationInfo
    ) -> dict[str, float] | None:
        elements = others.data.get("elements")
        if energies is None or elements is None or set(energies) == set(elements):
            return energies
        problem = f"expected the keys {_names(elements)}, got {_names(energies) or 'none'}"
        raise broken_rule("reference_energies", problem)

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @classmethod
    def load(cls, path: AnyPath) -> ParameterSet:
        """Read a file; messages name it as given.

        Raises:
            InputError: not readable, not UTF-8, not JSON; as ParameterError: not a parameter set.
        """
        return cls.from_document(load(path), file=os.fspath(path))

    @classmethod
    def from_json(cls, text: str, *, file: str | None = None) -> ParameterSet:
        """Read JSON text; `file` is its name in messages.

        Settings that it leaves out are left to the recipe that it names.

        Raises:
            InputError: not JSON; as ParameterError: not a parameter set.
        """
        return cls.from_document(parse(text, file=file), file=file)

    @classmethod
    def from_document(cls, document: object, *, file: str | None = None) -> ParameterSet:
        """As `from_json`, from parsed JSON."""
        if isinstance(document, dict):
            _read_element_blind(document)
            if "recipe" in document:
                _open_missing_settings(cls, document)
        return read(cls, document, file=file)

    def to_json(self) -> str:
        """JSON text with every field, one symmetry function per line; `from_json` returns an equal set."""
        return format_json(to_json(self))

    def with_overrides(self, **overrides: object) -> ParameterSet:
        """A new set with other values: `with_overrides(cutoff=6.0, training={"epochs": 10})`.

        Other fields of a section keep their values; values may be Python or JSON values.
        """
        document = to_json(self)
        for key, value in overrides.items():
            section = document.get(key)
            if isinstance(getattr(self, key, None), Section) and isinstance(value, Mapping):
                document[key] = {**section, **value}
            else:
                document[key] = value
        return read(type(self), document)

    def for_target(self, target: Target) -> ParameterSet:
        """A set for a program; an activation that does not work there is left open."""
        activation = self.network.activation
        keeps = activation is None or works(target, activation)
        return self.with_overrides(target=target, network={} if keeps else {"activation": None})

    @property
    def undecided(self) -> tuple[str, ...]:
        """Paths of the settings left to the recipe, such as `training.epochs`."""
        found = [
            f"{section.key}.{setting.key}"
            for section in fields(type(self))
            if section.is_section
            for setting in fields(section.section)
            if setting.about.by_recipe and getattr(getattr(self, section.name), setting.name) is None
        ]
        labels = [
            f"training.{name}" for name in ("forces", "stress") if getattr(self.training, name) == "auto"
        ]
        return (*found, *labels)

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal digest of what the features depend on: elements, cutoff, functions, and their order."""
        descriptor = self.affecting(Affects.FEATURES)
        resolution = (self.radial_elements, self.angular_elements)
        if resolution in _ELEMENT_BLIND:
            # as 0.1.0 has it: features that it made stay those of their parameters
            del descriptor["radial_elements"], descriptor["angular_elements"]
            descriptor["element_blind"] = _ELEMENT_BLIND[resolution]
        canonical = json.dumps(descriptor, sort_keys=True, separators=(",", ":"))
        return digest(canonical.encode())

    @cached_property
    def feature_names(self) -> tuple[str, ...]:
        """(n_features,) one name a column: `radial[O] eta=0.003214 r_s=0`.

        Radial functions come first, then angular ones. The columns of one function stand together: one for
        each neighbor element or unordered pair of them, in the order of `elements`; a single one, `Z` where
        neighbors are weighted by atomic number, `*` where all are alike.
        """
        pairs_of_elements = itertools.combinations_with_replacement(self.elements, 2)
        neighbors = _SUMS.get(self.radial_elements, self.elements)
        pairs = _SUMS.get(self.angular_elements, tuple(map("-".join, pairs_of_elements)))
        radial = [
            f"radial[{neighbor}] eta={_number(f.eta)} r_s={_number(f.r_s)}"
            for f, neighbor in itertools.product(self.radial, neighbors)
        ]
        angular = [
            f"angular[{pair}] eta={_number(f.eta)} lambda={f.lambda_} zeta={_number(f.zeta)}"
            for f, pair in itertools.product(self.angular, pairs)
        ]
        return (*radial, *angular)

    @property
    def n_features(self) -> int:
        return len(self.feature_names)


def _open_missing_settings(cls: type[ParameterSet], document: dict[str, Any]) -> None:
    """Leave to the recipe what the sections of a file do not say."""
    for own in fields(cls):
        if own.is_section and isinstance(section := document.setdefault(own.key, {}), dict):
            for setting in fields(own.section):
                section.setdefault(setting.key, setting.default_in_file)


def _read_element_blind(document: dict[str, Any]) -> None:
    """Put the two fields of today in the place of the one that said both in 0.1.0."""
    blind = document.get("element_blind")
    today = ("radial_elements", "angular_elements")
    if isinstance(blind, bool) and not any(name in document for name in today):
        del document["element_blind"]
        (values,) = (values for values, was_blind in _ELEMENT_BLIND.items() if was_blind is blind)
        document.update(zip(today, values, strict=True))


def _number(value: float) -> str:
    """The shortest text that reads back as `value`, so that different functions never share a name."""
    return repr(value).removesuffix(".0")
