"""dpdata, which understands outputs that ASE does not: whether it is there, and its failures as lines for users.

It gets one step at a time, and of that only the lines that say something, so that neither memory nor time depend on
what else a file holds, or pretends to hold.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, NamedTuple, TypeVar

from tio2nn.errors import InputError, one_line

_Found = TypeVar("_Found")
_LONGEST_REASON = 200  # characters

MOST_ATOMS = 10_000_000
"""Atoms of a structure; more would exceed the memory of most machines, and no calculation is that large."""


def is_installed() -> bool:
    """Whether dpdata can be imported."""
    return find_spec("dpdata") is not None


class Readers(NamedTuple):
    """Modules of dpdata.

    Attributes:
        outcar, cp2k, aims: readers of `OUTCAR`, and of output of CP2K and FHI-aims.
        unit: its constants.
    """

    outcar: Any
    cp2k: Any
    aims: Any
    unit: Any


def readers(title: str, file: str) -> Readers:
    """What dpdata has.

    Args:
        title: of the format that is to be read, for messages.
        file: likewise.

    Raises:
        InputError: it is not installed.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            from dpdata import unit
            from dpdata.formats.cp2k import output as cp2k
            from dpdata.formats.fhi_aims import output as aims
            from dpdata.formats.vasp import outcar
        except ImportError as error:
            reason = one_line(error) if is_installed() else "dpdata is missing"
        else:
            return Readers(outcar, cp2k, aims, unit)
    raise InputError(f"cannot read {title}: {reason}; run \"pip install 'tio2nn[formats]'\"", file=file)


def told(call: Callable[[], _Found], failed: Callable[[str], InputError]) -> _Found:
    """What dpdata makes of something.

    Args:
        call: of dpdata.
        failed: makes the error.

    Raises:
        InputError: any exception of dpdata, as one line.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return call()
        except Exception as error:  # a foreign reader fails in any way
            reason = f"{type(error).__name__}: {one_line(error)}"[:_LONGEST_REASON]
    raise failed(f"cannot read it with dpdata: {reason}")
