"""Importing this module registers all commands, in the order in which `--help` lists them."""

from __future__ import annotations

from tio2nn.cli import evaluate, extract, featurize, init, predict, run, schema, status, train, tune  # noqa: F401
from tio2nn.cli.app import app

__all__ = ["app"]
