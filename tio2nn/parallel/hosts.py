"""What a machine of a cluster says about itself: its processor, its software, whether it sees a folder."""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from tio2nn.descriptors.kernel_version import KERNELS
from tio2nn.version import __version__

# numbers that they compute may differ in the last digits between versions
_LIBRARIES = ("numpy", "scipy", "numba", "llvmlite", "tensorflow", "keras")


class Host(NamedTuple):
    """What a worker says about itself.

    Attributes:
        machine: differs between machines, and between two starts of one.
        name: of the machine.
        processor: its model, as it is called.
        instructions: what is compiled for; the last bits of numbers depend on it.
        software: of tio2nn, as in `software`.
        libraries: versions of Python and of libraries, by name.
        sees: whether it sees the folder that was asked for.
    """

    machine: str
    name: str
    processor: str
    instructions: str
    software: tuple[str, ...]
    libraries: dict[str, str]
    sees: bool


def software() -> tuple[str, ...]:
    """What two machines must have in common to compute the same: versions of tio2nn and of its kernels."""
    return (__version__, str(KERNELS))


def this_host(probe: tuple[str, str] | None = None) -> Host:
    """This machine.

    Args:
        probe: a file, and its content; None to look for none.
    """
    from importlib import metadata

    from tio2nn.descriptors.processor import instruction_set, model_name

    libraries = {"python": platform.python_version()}
    for library in _LIBRARIES:
        with suppress(metadata.PackageNotFoundError):
            libraries[library] = metadata.version(library)
    return Host(
        machine=f"{_text('/proc/sys/kernel/random/boot_id') or ''} {platform.node()}",
        name=platform.node(),
        processor=model_name(),
        instructions=instruction_set(),
        software=software(),
        libraries=libraries,
        sees=probe is not None and _sees(*probe),
    )


def _sees(file: str, content: str) -> bool:
    """Whether a file is there, with this content, in a folder that can be written."""
    return _text(file) == content and os.access(Path(file).parent, os.W_OK)


def _text(file: str) -> str | None:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def other_software(worker: str, there: tuple[str, ...], here: tuple[str, ...]) -> str:
    """The message that a worker has other software."""
    return (
        f"expected tio2nn {here[0]} with kernels {here[1]} on the worker {worker}, as on this machine, "
        f"got tio2nn {there[0]} with kernels {there[1]}; install the same version on both"
    )
