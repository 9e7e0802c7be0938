"""The version of the program: the one place that states it; `pyproject.toml` reads it here."""

from __future__ import annotations

__version__ = "0.2.0.dev0"
