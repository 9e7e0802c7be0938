"""Tables as CSV and documents as JSON, each written whole."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from tio2nn.io.atomic import atomic_write


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a table. A float is written as `repr` does, so that reading it gives the same number."""
    with atomic_write(path) as handle:
        table = csv.writer(handle, lineterminator="\n")
        table.writerow(header)
        table.writerows(rows)


def write_json(path: Path, document: object) -> None:
    """Write a document that people may want to read, too."""
    with atomic_write(path) as handle:
        json.dump(document, handle, indent=2, ensure_ascii=False)
        handle.write("\n")
