"""What the scripts of the papers share: command line, runs that are kept, tables and pictures.

Each finished run is a line of JSON in `<out>/runs.jsonl`, and a run that is there is not repeated:
after a kill, start the script again. Tables (Markdown) and pictures go to `<out>`.
"""

import argparse
import datetime
import json
import sys
import textwrap
from pathlib import Path

import torch
from _training import SETS, train

__all__ = ["Bench", "main"]

RESULTS = Path(__file__).resolve().parent / "results"


class Bench:
    """The settings of a script, its finished runs, and where its tables and pictures go.

    Args:
        script: the name of the script; its tables and pictures are named after it.
        data: the folder with the data files, or None for embedded sets.
        out: where to write.
        steps: of each training run; None: what each figure has in its short form.
        seeds: how many, 1, 2, …
        full: the papers' length.
        names: use these sets in place of a figure's own.
    """

    def __init__(self, script, data=None, out=RESULTS, steps=None, seeds=3, full=False, names=None):
        self.script, self.data, self.out, self.full = script, data, Path(out), full
        self.steps_given, self.names = steps, names
        self.seeds = tuple(range(1, seeds + 1))
        self.out.mkdir(parents=True, exist_ok=True)
        self.path = self.out / "runs.jsonl"
        self.finished = finished(self.path)

    def sets(self, embedded, real):
        """Those that were asked for; else the real ones where there is a folder."""
        return self.names or (real if self.data is not None else embedded)

    def steps(self, short, full):
        """The steps of a run."""
        return self.steps_given or (full if self.full else short)

    def run(self, run):
        """The result of a `Run`, which is trained unless that has been done."""
        return self.kept(run._asdict(), lambda: train(run, self.data))

    def kept(self, settings, make):
        """What `make` returned for these settings, now or in an earlier call of the script."""
        settings = json.loads(json.dumps(settings))
        key = json.dumps(settings, sort_keys=True)
        if key not in self.finished:
            result = make() | {"settings": settings, "torch": torch.__version__}
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            self.finished[key] = result
        return self.finished[key]

    def write(self, name, lines, figure=None):
        """Write a table and a picture, and print the table."""
        today = datetime.date.today().isoformat()
        made = f"{today}, torch {torch.__version__}, {torch.get_num_threads()} thread"
        text = "\n".join(map(wrapped, [*lines, "", f"`{self.script}.py`, {made}.", ""]))
        path = self.out / f"{self.script}-{name}.md"
        path.write_text(text, "utf-8")
        print(f"\n{path}\n\n{text}", flush=True)
        if figure is not None:
            figure.savefig(path.with_suffix(".png"), dpi=70)


def wrapped(line):
    """A line of prose at 100 columns; rows of tables as they are."""
    table = line.startswith("|")
    return line if table else textwrap.fill(line, 100, break_on_hyphens=False)


def finished(path):
    """Results by the settings of their runs; a line that a kill has cut off is left out."""
    found = {}
    if not path.is_file():
        return found
    text = path.read_text("utf-8")
    if text and not text.endswith("\n"):
        with path.open("a", encoding="utf-8") as file:
            file.write("\n")
    for place, line in enumerate(text.splitlines(), 1):
        try:
            result = json.loads(line)
            found[json.dumps(result["settings"], sort_keys=True)] = result
        except (ValueError, KeyError, TypeError) as error:
            print(f"{path}: line {place} is no run ({error!r}); it is repeated", file=sys.stderr)
    return found


# ------------------------------------------------------------------------------------ command line


def main(script, doc, figures, arguments=None):
    """Parse the command line and make the figures {name: function of a Bench}."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", metavar="DIR", help="folder of the data files; else embedded sets"
    )
    parser.add_argument("--only", nargs="+", choices=list(figures), default=list(figures))
    parser.add_argument("--steps", type=count, help="of each training run")
    parser.add_argument("--seeds", type=count, default=3, help="how many")
    parser.add_argument("--sets", nargs="+", choices=list(SETS), metavar="SET")
    parser.add_argument("--full", action="store_true", help="the paper's length: not tried")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="DIR")
    args = parser.parse_args(arguments)
    torch.set_num_threads(1)
    bench = Bench(script, args.data, args.out, args.steps, args.seeds, args.full, args.sets)
    for name in args.only:
        figures[name](bench)


def count(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number ≥ 1")
    return value
