"""A `params.json` without symmetry functions: the preset auto chooses them once the structures are known.

It has `"preset": "auto"`, the sections of a parameter set, and optionally the elements to accept. Once completed, it
is an ordinary parameter set, without a preset.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tio2nn.errors import ParameterError
from tio2nn.files.paths import AnyPath
from tio2nn.files.strict_json import format_json, load, quote
from tio2nn.parameters.choose_functions import Choice
from tio2nn.parameters.parameter_set import ParameterSet
from tio2nn.parameters.presets import AUTO, symbols
from tio2nn.parameters.recipes import DEFAULT_RECIPE, open_settings
from tio2nn.parameters.schema import to_json
from tio2nn.parameters.targets import Target
from tio2nn.parameters.validation import SCHEMA_KEY
from tio2nn.wording import listed

_KEY = "preset"
_CHOSEN = ("cutoff", "radial", "angular")
# what a parameter set must have, while it is not chosen
_STAND_IN: dict[str, Any] = {"elements": ["H"], "cutoff": 1.0, "radial": [{"eta": 1.0}], "angular": []}


@dataclass(frozen=True)
class Draft:
    """A parameter set whose functions are not chosen yet.

    Attributes:
        elements: the elements to accept, in the order of the features; None for those of the structures.
        settings: all other settings; cutoff and functions are placeholders, and so are the elements if none are given.
        schema: address of the JSON Schema of the file, or None.
    """

    elements: tuple[str, ...] | None
    settings: ParameterSet
    schema: str | None = None

    @classmethod
    def new(cls, elements: Sequence[str] | None = None) -> Draft:
        """A draft with the default settings.

        Raises:
            ParameterError: `elements` are not chemical symbols, or some come twice.
        """
        given = {} if elements is None else {"elements": symbols(elements)}
        draft = _from_document({_KEY: AUTO, **given}, None)
        return replace(draft, settings=open_settings(draft.settings, DEFAULT_RECIPE))

    def for_target(self, target: Target) -> Draft:
        """A draft for a program."""
        return replace(self, settings=self.settings.for_target(target))

    def to_json(self) -> str:
        """The content of the file."""
        document = to_json(self.settings)
        for key in _CHOSEN if self.elements is not None else ("elements", *_CHOSEN):
            del document[key]
        return format_json({**self._head(), _KEY: AUTO, **document})

    def completed(self, choice: Choice) -> tuple[ParameterSet, str]:
        """The parameter set with the chosen functions, and the content of its file."""
        parameters = choice.applied_to(self.settings)
        return parameters, format_json({**self._head(), **to_json(parameters)})

    def _head(self) -> dict[str, str]:
        return {} if self.schema is None else {SCHEMA_KEY: self.schema}


def load_parameters(path: AnyPath) -> ParameterSet | Draft:
    """Read a `params.json`, completed or not.

    Raises:
        InputError: not readable, not JSON; as ParameterError: neither a parameter set nor a draft.
    """
    document = load(path)
    if isinstance(document, dict) and _KEY in document:
        return _from_document(document, os.fspath(path))
    return ParameterSet.from_document(document, file=os.fspath(path))


def _from_document(document: dict[str, Any], file: str | None) -> Draft:
    """Read it as a parameter set, with placeholders for what is not chosen yet."""
    if document[_KEY] != AUTO:
        known = 'for another preset, run "tio2nn init DIR --preset NAME"'
        raise ParameterError(
            [f"{_KEY}: expected {quote(AUTO)}, got {quote(document[_KEY])}; {known}"], file=file
        )
    if own := [quote(key) for key in _CHOSEN if key in document]:
        raise ParameterError(
            [f'{_KEY} "{AUTO}" chooses the cutoff and functions: remove "{_KEY}" or {listed(own)}'],
            file=file,
        )
    del document[_KEY]
    energies = document.get("reference_energies")
    if "elements" not in document and isinstance(energies, Mapping) and energies:
        document["elements"] = list(energies)  # those of no other element are known
    elements_are_given = "elements" in document
    for key, value in _STAND_IN.items():
        document.setdefault(key, value)
    schema = document.get(SCHEMA_KEY)
    settings = ParameterSet.from_document(document, file=file)
    return Draft(
        settings.elements if elements_are_given else None,
        settings,
        schema if isinstance(schema, str) else None,
    )
