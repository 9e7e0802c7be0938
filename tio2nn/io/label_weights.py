"""Weights of single labels in extended XYZ, as MACE writes them, and of structures, as NEP does.

A label with a weight of 0 is a placeholder, as an energy beside `config_energy_weight=0`. Others are not used: in
the loss, all labels of a structure have one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from tio2nn.files.text import parse_number
from tio2nn.structures.structure import CONFIG_WEIGHT

ENERGY, FORCES, STRESS, VIRIAL = "energy", "force", "stress", "virial"
"""What may have a weight of its own."""

_OF_LABEL = re.compile(r"config_(energy|force|stress|virial)s?_weight", re.IGNORECASE)
_OF_STRUCTURE = "weight"  # of NEP


@lru_cache(maxsize=4096)
def weighted_label(key: str) -> str | None:
    """What a key weights; None if it is no weight of a label."""
    found = _OF_LABEL.fullmatch(key)
    return found[1].lower() if found is not None else None


def key_of_no_weight(written: Mapping[str, str], label: str) -> str | None:
    """The key that says that a label is a placeholder, or None.

    Args:
        written: the value of each key.
        label: `ENERGY`, `FORCES`, `STRESS` or `VIRIAL`.
    """
    keys = (key for key in written if weighted_label(key) == label)
    return next((key for key in keys if parse_number(written[key]) == 0.0), None)


def remark_on_weights(written: Mapping[str, str]) -> str | None:
    """A remark on weights that are not used, or None.

    Args:
        written: the value of each key.
    """
    unused = [
        key
        for key, value in written.items()
        if (weighted_label(key) is not None and parse_number(value) not in (0.0, 1.0))
        or (key.lower() == _OF_STRUCTURE and CONFIG_WEIGHT not in written and parse_number(value) != 1.0)
    ]
    if not unused:
        return None
    return f"{' and '.join(unused)} not used: the weight of a structure is {CONFIG_WEIGHT}"
