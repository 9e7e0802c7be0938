"""Print the lowest version of each dependency that pyproject.toml promises, one requirement a line."""

from __future__ import annotations

from pathlib import Path

import tomllib


def main() -> None:
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))
    for requirement in project["project"]["dependencies"]:
        print(requirement.replace(">=", "=="))


if __name__ == "__main__":
    main()
