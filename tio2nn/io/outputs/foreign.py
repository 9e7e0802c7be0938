"""dpdata, which understands outputs that ASE does not: whether it is there, and its failures as lines for users.

It gets one step at a time, and of that only the lines that say something, so that neither memory nor time depend on
what else a file holds, or pretends to hold.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from importlib.util import find_spec
from typing import Any, TypeVar

from tio2nn.errors import InputError, one_line

_Found = TypeVar("_Found")
_LONGEST_REASON = 200  # characters

MOST_ATOMS = 10_000_000
"""Atoms of a structure; more would take more than the memory of most machines, and nobody computes them."""


def is_installed() -> bool:
    """Whether dpdata can be imported."""
    return find_spec("dpdata") is not None


def module(name: str, title: str, file: str) -> Any:
    """A module of dpdata.

    Args:
        name: below `dpdata`.
        title: of the format, for messages.
        file: likewise.

    Raises:
        InputError: it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(f"dpdata.{name}")
    except ImportError as error:
        reason = "dpdata is missing" if not is_installed() else one_line(error)
        raise InputError(
            f"cannot read {title}: {reason}; run \"pip install 'tio2nn[formats]'\"", file=file
        ) from None


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
