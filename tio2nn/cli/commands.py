"""Importing this module registers all commands, in the order in which `--help` lists them."""

from __future__ import annotations

# isort: off
from tio2nn.cli import init  # noqa: F401
from tio2nn.cli import extract  # noqa: F401
from tio2nn.cli import featurize  # noqa: F401
from tio2nn.cli import tune  # noqa: F401
from tio2nn.cli import train  # noqa: F401
from tio2nn.cli import predict  # noqa: F401
from tio2nn.cli import evaluate  # noqa: F401
from tio2nn.cli import select  # noqa: F401
from tio2nn.cli import learning_curve  # noqa: F401
from tio2nn.cli import convert  # noqa: F401
from tio2nn.cli import merge  # noqa: F401
from tio2nn.cli import export  # noqa: F401
from tio2nn.cli import run  # noqa: F401
from tio2nn.cli import status  # noqa: F401
from tio2nn.cli import schema  # noqa: F401
from tio2nn.cli.app import app

__all__ = ["app"]
