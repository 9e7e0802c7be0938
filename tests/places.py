"""Where the tests find what lies beside the package."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parent
ROOT = TESTS.parent
README = ROOT / "README.md"
DOCS = ROOT / "docs"
SAMPLE_DATA = ROOT / "sample_data"
OLD_PROJECTS = TESTS / "old_projects"
