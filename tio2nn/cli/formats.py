"""The list of formats that `tio2nn extract --formats` prints."""

from __future__ import annotations

from importlib.util import find_spec

import typer

from tio2nn.cli import console


def show_formats(wanted: bool) -> None:
    """Print the formats, one line each, and end."""
    if not wanted:
        return
    from tio2nn.io.formats import FORMATS

    console.print_line("\t".join(("# format", "files", "labels", "in archives", "needs")))
    for form in FORMATS:
        kind = "folders with " if form.how == "folder" else ""
        known_by = [kind + " ".join(form.names)] if form.names else []
        if form.beginning is not None:
            known_by.append("by content")
        in_archives = "no" if form.how in ("place", "folder") else "yes"
        console.print_line(
            "\t".join((form.title, ", or ".join(known_by), form.labels, in_archives, _needs(form.needs)))
        )
    raise typer.Exit


def _needs(package: str) -> str:
    """What must be installed for a format."""
    if not package:
        return ""
    return package if find_spec(package) is not None else "pip install 'tio2nn[formats]'"
