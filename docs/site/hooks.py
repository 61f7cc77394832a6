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
ALSO = ("CHANGELOG.md", "bench/README.md", "bench/control.md", "bench/gpu.md")
LINK = re.compile(r"\]\((\.{0,2}[\w./-]+\.(?:md|py))(#[\w-]+)?\)")


def on_files(files: Files, *, config: Any) -> Files:
    """Add examples as pages that show their code, notebooks with their results, and more."""
    for path in sorted(ROOT.glob("examples/*.py")):
        code = path.read_text("utf-8")
        page = f"# examples/{path.name}\n\n```python\n{code}```\n"
        files.append(File.generated(config, f"examples/{path.stem}.md", content=page))
    for path in sorted(ROOT.glob("docs/*.ipynb")):
        page = as_markdown(path)
        files.append(File.generated(config, f"{path.stem}.md", content=page))
    for name in ALSO:
        files.append(File.generated(config, name, abs_src_path=str(ROOT / name)))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Write links as they are from one page of the site to another."""
    here = posixpath.dirname(page.file.src_uri)
    in_docs = page.file.generated_by is None
    folder = posixpath.join("docs", here) if in_docs else here

    def lead(link: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, link[1]))
        known = target in ALSO or target.startswith("examples/")
        if target.startswith("docs/"):
            target = target.removeprefix("docs/")
        elif not known:
            return link[0]  # which the strict build then refuses
        target = re.sub(r"^(examples/\w+)\.py$", r"\1.md", target)
        return f"]({posixpath.relpath(target, here or '.')}{link[2] or ''})"

    return LINK.sub(lead, markdown)
