"""Say what stands between this commit and a release, and fail if anything does.

python .ci/release_check.py [TAG]
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def open_points(project: dict[str, object], changelog: str, tag: str | None) -> list[str]:
    """Return what is missing, one sentence each.

    Example:
        >>> ready = "# Changelog\\n\\n## Unreleased\\n\\n## 1.0.0 (2030-01-31)\\n"
        >>> project = {"version": "1.0.0", "urls": {"Source": "https://host/it"}}
        >>> open_points(project, ready, "v1.0.0")
        []
        >>> open_points(project, "# Changelog\\n\\n## Unreleased\\n", "v1.1.0")[0]
        'the tag v1.1.0 is not v1.0.0, the version in pyproject.toml'
    """
    version, points = project["version"], []
    if tag is not None and tag != f"v{version}":
        points.append(f"the tag {tag} is not v{version}, the version in pyproject.toml")
    if not re.search(rf"^## {re.escape(str(version))} \(\d{{4}}-\d\d-\d\d\)$", changelog, re.M):
        points.append(f"CHANGELOG.md has no part '## {version} (YYYY-MM-DD)'")
    if not re.search(r"^## Unreleased\n\n(?=## )", changelog, re.M):
        points.append("CHANGELOG.md: 'Unreleased' must be there, and empty")
    if not project.get("urls"):
        points.append("pyproject.toml: [project.urls] needs Source, the address of the repository")
    return points


def main() -> None:
    """Print the open points and exit with 1 if there are any."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    points = open_points(project, changelog, next(iter(sys.argv[1:]), None))
    print("\n".join(points) or f"{project['name']} {project['version']} can be released")
    sys.exit(bool(points))


if __name__ == "__main__":
    main()
