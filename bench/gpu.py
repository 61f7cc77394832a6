"""Builds, checks and times the CUDA core in one run of under ten minutes.

    python bench/gpu.py [--report DIR] [--quick]

Needs a machine with a CUDA device of compute capability 7.5 or newer, nvcc, CMake and torch with
CUDA. Writes DIR/report.md (default: gpu_report/) and the logs beside it. Every part runs in a
process of its own with a time limit, so that one that fails does not hide the others; what did not
run is in the report too.
"""

from __future__ import annotations

import argparse
import importlib.util
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEVICE_TESTS = ["tests/test_device.py", "tests/test_device_step.py", "tests/test_gramian.py"]
TESTS = [*DEVICE_TESTS, "tests/test_gradients.py", "tests/test_min_norm.py"]
SANITIZED = "not many and not bits and not overflow and not ten_million and not past_the_caches"


class Report:
    """What ran, for how long, and how it ended."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.lines: list[str] = []
        self.deadline = time.monotonic() + 580

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)
        (self.folder / "report.md").write_text("\n".join(self.lines) + "\n")

    def run(self, name: str, command: list[str], limit: int, tail: int = 3) -> bool:
        """Runs a part; its output goes to a file, the last lines into the report."""
        log = self.folder / f"{name}.log"
        start = time.monotonic()
        limit = max(1, min(limit, int(self.deadline - start)))
        with log.open("w") as out:
            try:
                code = subprocess.run(
                    command, cwd=ROOT, stdout=out, stderr=subprocess.STDOUT, timeout=limit
                ).returncode
                ended = "ok" if code == 0 else f"FAILED ({code})"
            except subprocess.TimeoutExpired:
                ended = f"STOPPED after {limit} s"
        self.say(f"\n## {name}: {ended}, {time.monotonic() - start:.0f} s\n")
        self.say("```\n" + "\n".join(log.read_text().splitlines()[-tail:]) + "\n```")
        return ended == "ok"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, default=ROOT / "gpu_report")
    parser.add_argument("--quick", action="store_true", help="no sanitizer, fewer timings")
    options = parser.parse_args()
    report = Report(options.report)
    python = sys.executable
    report.say("# pyfront on a CUDA device")
    query = "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem"
    report.run("device", ["nvidia-smi", query, "--format=csv"], 20)
    install = [python, "-m", "pip", "install", "-v", "--no-build-isolation", "--no-deps", "-e", "."]
    if not report.run("build", install, 200):
        return 1
    check = "import pyfront; a = pyfront.cuda_available(); print(a); assert a"
    if not report.run("available", [python, "-c", check], 60):
        return 1
    pytest = [python, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    sound = report.run("tests", [*pytest, *TESTS, "-k", "not oracle and not property"], 200, 12)
    if not options.quick:
        sanitizer = shutil.which("compute-sanitizer")
        for tool in ("memcheck", "racecheck"):
            if sanitizer is None:
                report.say(f"\n## {tool}: compute-sanitizer is not on the PATH")
                continue
            command = [sanitizer, "--tool", tool, "--error-exitcode", "9"]
            sound &= report.run(
                tool,
                [
                    *command,
                    *pytest,
                    "-x",
                    "tests/test_device.py",
                    "-k",
                    SANITIZED + " and not graph",
                ],
                90,
                6,
            )
    timings = [python, "bench/gpu_timings.py"] + (["--quick"] if options.quick else [])
    if importlib.util.find_spec("torchjd") is None:
        report.say("\nTorchJD is not installed: it is left out of the timings.")
    sound &= report.run("timings", timings, 150, 80)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
