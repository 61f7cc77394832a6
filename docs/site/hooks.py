"""Add what lies outside `docs` to the site, and lead links between the two to the right pages."""

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
from notebook import as_markdown  # from this folder

ROOT = Path(__file__).parents[2]
FOLDERS = ("examples", "bench")  # whose code and pages are shown
PAGES = ("CHANGELOG.md", *(str(path.relative_to(ROOT)) for path in ROOT.glob("bench/*.md")))
LINK = re.compile(r"\]\((\.{0,2}[\w./-]+\.(?:md|py))(#[\w-]+)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add code as pages that show it, notebooks with their results, and pages from elsewhere."""
    for folder in FOLDERS:
        for path in sorted(ROOT.glob(f"{folder}/**/*.py")):
            name, code = path.relative_to(ROOT), path.read_text("utf-8")
            page = f"# {name}\n\n```python\n{code}```\n"
            files.append(File.generated(config, f"{name}.md", content=page))
    for path in sorted(ROOT.glob("docs/*.ipynb")):
        page = as_markdown(path)
        files.append(File.generated(config, f"{path.stem}.md", content=page))
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Write links as they are from one page of the site to another."""
    here = posixpath.dirname(page.file.src_uri)
    in_docs = page.file.generated_by is None
    folder = posixpath.join("docs", here) if in_docs else here

    def lead(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        if target.startswith("docs/"):
            target = target.removeprefix("docs/")
        elif target.startswith(FOLDERS) and target.endswith(".py"):
            target += ".md"
        elif target not in PAGES:
            return link[0]  # which the strict build then refuses
        return f"]({posixpath.relpath(target, here or '.')}{link[2] or ''})"

    return LINK.sub(lead, markdown)
