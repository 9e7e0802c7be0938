"""The list of formats that `tio2nn extract --formats` prints."""

from __future__ import annotations

import typer

from tio2nn.cli import console


def show_formats(wanted: bool) -> None:
    """Print the formats, one line each, and end."""
    if not wanted:
        return
    from tio2nn.io.formats import FORMATS

    console.print_line("\t".join(("# format", "files", "labels", "in archives")))
    for form in FORMATS:
        by_content = "" if form.beginning is None else ", or by content"
        in_archives = "no" if form.how == "place" else "yes"
        console.print_line(
            "\t".join((form.title, " ".join(form.names) + by_content, form.labels, in_archives))
        )
    raise typer.Exit
