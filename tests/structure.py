"""Count the structure of the package: rooms, import arrows, long files, and the way of the losses.

    python tests/structure.py [FOLDER]

A room is what stands at the top of the package: a folder, or a module. An arrow is an import from
one room to another. The layers are those of ``[tool.importlinter]`` in pyproject.toml. The way of
the losses is traced in one ``opt.step(losses)`` of EPO: a move is a call that hands them, or an
object that holds them, from a function of one module to one of another. It leads up where the
second module uses the first, directly or not.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "pyfront"
FOLDERS = ("pyfront", "csrc", "tests", "bench", "examples", "docs", ".ci")
SUFFIXES = (".py", ".cpp", ".hpp", ".h", ".cu", ".cuh", ".inl")


def room_of(module):
    """The room of a dotted name below the package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_of(path, package=PACKAGE):
    parts = path.relative_to(package.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path, package=PACKAGE):
    """The modules of the package that a file imports when it runs."""
    found = set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    guarded = [n for n in ast.walk(tree) if isinstance(n, ast.If)]
    for node in guarded:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.ImportFrom) and node.module:
            folder = package.parent / node.module.replace(".", "/")
            names = [
                f"{node.module}.{a.name}" if _is_module(folder / a.name) else node.module
                for a in node.names
            ]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        found.update(n for n in names if n.split(".")[0] == package.name)
    return found - {""}


def _is_module(path):
    return path.is_dir() or path.with_suffix(".py").is_file() or path.name == "_core"


def files(package=PACKAGE):
    return sorted(p for p in package.rglob("*.py") if "__pycache__" not in p.parts)


def sources(root=ROOT):
    """Every source file of the project, tests and benchmarks too."""
    found = [p for folder in FOLDERS for p in (root / folder).rglob("*") if p.suffix in SUFFIXES]
    return sorted(p for p in found if "__pycache__" not in p.parts)


def name_of(path, root=ROOT):
    return path.relative_to(root).as_posix()


def arrows(package=PACKAGE):
    """Pairs of rooms of which the first imports the second; faces of the package left out."""
    found = set()
    for path in files(package):
        if path.parent == package and path.name in ("__init__.py", "__main__.py"):
            continue
        here = room_of(module_of(path, package))
        found |= {(here, room_of(name)) for name in imports(path, package)}
    return {(a, b) for a, b in found if a != b and b != "__init__"}


def layers():
    """The layer of each room: the higher, the further up."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (contract,) = tomllib.loads(text)["tool"]["importlinter"]["contracts"]
    ordered = [re.findall(r"\w+", layer) for layer in reversed(contract["layers"])]
    return {room: height for height, rooms in enumerate(ordered) for room in rooms}


def against_layers(found, heights):
    return sorted((a, b) for a, b in found if heights.get(a, 0) <= heights.get(b, 0))


def way_of_the_losses():
    """The modules between which the losses move in one step of EPO, in their order."""
    import torch

    import pyfront

    x = torch.nn.Parameter(torch.tensor([1.0, 2.0]))
    opt = pyfront.EPO(torch.optim.SGD([x], lr=0.1), [0.5, 0.5])
    opt.step([x[0] ** 2, x[1] ** 2])
    losses = [x[0] ** 2, x[1] ** 2]
    ids = {id(loss) for loss in losses}
    moves = []

    def holds(value, depth=2):
        if id(value) in ids:
            return True
        if depth == 0:
            return False
        if isinstance(value, (list, tuple)):
            return any(holds(entry, depth - 1) for entry in value)
        fields = getattr(value, "__dict__", None)
        ours = fields is not None and type(value).__module__.startswith("pyfront")
        return ours and any(holds(entry, depth - 1) for entry in list(fields.values()))

    def profile(frame, event, _):
        caller = frame.f_back
        if event != "call" or caller is None:
            return
        names = [f.f_globals.get("__name__", "") for f in (caller, frame)]
        if not all(name.startswith("pyfront.") for name in names):
            return
        code = frame.f_code
        if any(holds(frame.f_locals.get(n)) for n in code.co_varnames[: code.co_argcount]):
            moves.append(tuple(names))

    sys.setprofile(profile)
    try:
        opt.step(losses)
    finally:
        sys.setprofile(None)
    return [(a, b) for a, b in moves if a != b]


def uses(package=PACKAGE):
    """For each module those that it imports, directly or not."""
    direct = {module_of(path, package): imports(path, package) for path in files(package)}
    found = {}
    for module in direct:
        stack, seen = [module], set()
        while stack:
            new = direct.get(stack.pop(), set()) - seen
            seen |= new
            stack += new
        found[module] = seen
    return found


def report(package=PACKAGE):
    found, heights = arrows(package), layers()
    top = [p for p in package.glob("*.py") if not p.name.startswith("__")]
    rooms = [p for p in package.iterdir() if p.is_dir() and (p / "__init__.py").exists()]
    longest = max(files(package), key=lambda p: len(p.read_text().splitlines()))
    print(f"modules at the top of the package: {len(top)}, folders: {len(rooms)}")
    print(f"import arrows between rooms: {len(found)}")
    wrong = against_layers(found, heights)
    print(f"against the layers: {len(wrong)}{': ' if wrong else ''}{wrong or ''}")
    print(f"longest file: {longest.name}, {len(longest.read_text().splitlines())} lines")
    if package == PACKAGE:
        moves, used = way_of_the_losses(), uses()
        up = [(a, b) for a, b in moves if a in used.get(b, ()) and b not in used.get(a, ())]
        between = [(a, b) for a, b in moves if room_of(a) != room_of(b)]
        print(f"moves of the losses between modules: {len(moves)}, up: {len(up)}; ", end="")
        print(f"between rooms: {len(between)}")
        for a, b in moves:
            print(f"  {a} → {b}")


if __name__ == "__main__":
    report(Path(sys.argv[1]).resolve() if sys.argv[1:] else PACKAGE)
