"""The structures that a benchmark runs on."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tio2nn.io.read import read_structures
from tio2nn.parameters.presets import PRESETS
from tio2nn.structures.names import stem
from tio2nn.structures.structure import Structure


def add_choice(parser: argparse.ArgumentParser, *, repeats: int) -> None:
    """Arguments for structures, functions, and how often both are measured."""
    parser.add_argument("sources", nargs="+", metavar="SOURCE")
    parser.add_argument("--names", type=Path, metavar="FILE")
    parser.add_argument("--repeats", type=int, default=repeats, metavar="N", help=f"default: {repeats}")
    parser.add_argument("--preset", default="artrith-urban-2016", choices=[*PRESETS])


def chosen(sources: Sequence[str], names: Path | None) -> list[Structure]:
    """The structures of all sources, or those of them that the list names."""
    wanted = None if names is None else {stem(name) for name in names.read_text("utf-8").split()}
    found = [item for item in read_structures(sources, errors="yield") if isinstance(item, Structure)]
    structures = [s for s in found if wanted is None or s.name in wanted]
    if not structures:
        raise SystemExit("expected structures, got none")
    return structures
