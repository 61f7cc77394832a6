"""Turn the README of a folder into the text of a package page, where relative links lead nowhere.

Links and pictures get the address of the repository, `Source` of `[project.urls]`. Without one, a
link becomes its text, and a picture is left out.
"""

import re
import sys
import tomllib
from pathlib import Path

PICTURE = re.compile(r"!\[([^\]]*)\]\((?![a-z]+:)([^)]+)\)")
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)")


def page(readme: str, source: str | None, version: str) -> str:
    """Return the text of the page.

    Example:
        >>> page("[guide](docs/a.md)\\n\\n![b](b.png)\\n\\nend", None, "1.0")
        'guide\\n\\nend'
        >>> page("[guide](docs/a.md) ![b](b.png)", "https://host/me/it", "1.0")
        '[guide](https://host/me/it/blob/v1.0/docs/a.md) ![b](https://host/me/it/raw/v1.0/b.png)'
    """
    if source is None:
        readme = re.sub(PICTURE.pattern + r"\n\n", "", readme)
        return LINK.sub(r"\1", PICTURE.sub("", readme))
    readme = PICTURE.sub(rf"![\1]({source}/raw/v{version}/\2)", readme)
    return LINK.sub(rf"[\1]({source}/blob/v{version}/\2)", readme)


def main(folder: Path) -> None:
    """Rewrite the README of a folder."""
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    source = project.get("urls", {}).get("Source")
    readme = folder / "README.md"
    readme.write_text(page(readme.read_text("utf-8"), source, project["version"]), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
