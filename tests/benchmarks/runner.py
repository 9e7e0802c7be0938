"""One way to run all benchmarks.

    python tests/benchmarks NAME [ITS OPTIONS] [--json FILE]

A benchmark is a module of this folder with two functions, and often a third:

- `add_arguments(parser)` says what it takes;
- `measure(arguments)` yields rows of plain values, each as soon as it is measured;
- `summarize(rows)` makes fewer rows of them: medians, means, the worst.

Rows are printed as they come. FILE has them too, after each one, so that a benchmark that is stopped leaves what it
has measured; `docs/_ext/benchmark_tables.py` makes tables of such files.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from benchmarks.record import Printer, Record, Row

NAMES = (
    "symmetry-functions",
    "derivatives",
    "forces",
    "epochs",
    "ranks",
    "commands",
    "scale",
    "accuracy",
    "materials",
    "stress",
    "few-stresses",
    "alloys",
    "extrapolation",
    "phases",
    "selection",
    "fine-tuning",
    "distillation",
)
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Variables that some benchmarks set when they are imported, unless they are set."""
HERE = Path(__file__).parent
CALL = "python tests/benchmarks"


def main() -> None:
    words = sys.argv[1:]
    benchmark, arguments = parse(words)
    record = Record.new(words, getattr(arguments, "program", None))
    run(benchmark, arguments, record, arguments.json)


def parse(words: Sequence[str]) -> tuple[ModuleType, argparse.Namespace]:
    """The benchmark that a command line names, and what it says to it.

    Only that one is imported: others may need packages that are not there.
    """
    parser = argparse.ArgumentParser(
        prog=CALL,
        usage="%(prog)s NAME [ITS OPTIONS] [--json FILE]",
        description="Run a benchmark. NAME --help shows its options.",
        epilog="\n".join(f"  {name:20}{_document(name).splitlines()[0]}" for name in NAMES),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=NAMES, metavar="NAME")
    name = parser.parse_args(words[:1]).name
    benchmark = module(name)
    own = argparse.ArgumentParser(
        prog=f"{CALL} {name}",
        description=_document(name),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    benchmark.add_arguments(own)
    own.add_argument("--json", type=Path, metavar="FILE", help="keep the rows there")
    return benchmark, own.parse_args(words[1:])


def module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name.replace('-', '_')}")


def _document(name: str) -> str:
    source = (HERE / f"{name.replace('-', '_')}.py").read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""


def run(benchmark: ModuleType, arguments: argparse.Namespace, record: Record, file: Path | None) -> None:
    """Print and keep each row of a benchmark, then what they come to."""
    print(shlex.join([*CALL.split(), *record.words]))
    print(record.origin(), flush=True)
    rows: list[Row] = []
    printer = Printer()
    for row in benchmark.measure(arguments):
        rows.append(row)
        printer.show(row)
        table = benchmark.summarize(rows) if hasattr(benchmark, "summarize") else []
        if file is not None:
            record.write(file, rows, table)
    if rows and table:
        printer = Printer()
        for row in table:
            printer.show(row)
