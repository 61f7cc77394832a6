"""Read docstrings as Markdown: their roles become links, their double backticks single ones."""

import re
from pathlib import Path
from typing import Any

import griffe

EXAMPLE = re.compile(r"^Example:$", flags=re.MULTILINE)  # Griffe knows the plural alone
DOCUMENTED = {
    name
    for page in (Path(__file__).parents[1] / "api").glob("*.md")
    for name in re.findall(r"^::: (\S+)$", page.read_text("utf-8"), flags=re.MULTILINE)
}
ROLE = re.compile(r":(?:class|meth|func|attr|mod):`(~?)([\w.]+)`")


class Roles(griffe.Extension):
    """Rewrite the docstring of every object before it is rendered."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Rewrite one docstring."""
        if obj.docstring is not None and not obj.is_alias:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Return a docstring with code in single backticks, and links to what the site documents.

    Example:
        >>> as_markdown("see :meth:`step` and :class:`~pyfront.Report`, ``None`` else")
        'see `step` and [`Report`][pyfront.Report], `None` else'
    """

    def name(role: re.Match[str]) -> str:
        shown = f"`{role[2].rpartition('.')[2] if role[1] else role[2]}`"
        target = re.sub(r"^pyfront\.(optimizer|report)\.", "pyfront.", role[2])
        return f"[{shown}][{target}]" if target in DOCUMENTED else shown

    text = EXAMPLE.sub("Examples:", ROLE.sub(name, text))
    return re.sub(r"``([^`]+)``", r"`\1`", text)
