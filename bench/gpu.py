"""Builds, checks and times the CUDA core in one run of under ten minutes.

    python bench/gpu.py [--report DIR] [--quick]

Needs a machine with a CUDA device of compute capability 7.5 or newer, nvcc, CMake, torch with CUDA
and the Python packages that it names where they are missing. Writes DIR/report.md (default:
gpu_report/) and the logs beside it. Every part runs in a process of its own with a time limit, so
that one that fails does not hide the others; what did not run is in the report too.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parent.parent
DEFAULT_CUDA = "/usr/local/cuda"
NEEDED = {  # module: package
    "torch": "torch",
    "scikit_build_core": "scikit-build-core",
    "pybind11": "pybind11",
    "numpy": "numpy",
    "scipy": "scipy",
    "hypothesis": "hypothesis",
    "pytest": "pytest",
}
OPTIONAL = {"highspy": "EPO fails in the tests and in the timings", "torchjd": "it is not timed"}
TESTS = [
    f"tests/{name}.py"
    for name in (
        "cuda/test_device",
        "cuda/test_device_step",
        "cuda/test_device_manners",
        "backend/test_gramian",
        "backend/test_gramian_numbers",
        "backend/test_min_norm",
        "gradients/test_engines",
        "gradients/test_losses",
    )
]
PROGRAMS = ("cmake", "ninja", "g++")  # that the build needs
# every kernel, at sizes that a sanitizer gets through; a graph needs the cache that memcheck turns
# off to see the ends of tensors
SANITIZED = "memory_that or no_step_waits or generic-8 or rank_deficient-20 or 4-7-"
UNCACHED = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}


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

    def run(
        self,
        name: str,
        command: list[str],
        limit: int,
        tail: int = 3,
        variables: Mapping[str, str] | None = None,
    ) -> bool:
        """Runs a part; its output goes to a file, the last lines into the report.

        Args:
            name: of the part and of its file.
            command: program and arguments.
            limit: seconds, after which it is stopped with all that it has started.
            tail: lines for the report; more where the part fails.
            variables: of its environment, beside ours.
        """
        log = self.folder / f"{name}.log"
        start = time.monotonic()
        limit = max(1, min(limit, int(self.deadline - start)))
        with log.open("w") as out:
            ended = _outcome(command, limit, out, {**os.environ, **(variables or {})})
        self.say(f"\n## {name}: {ended}, {time.monotonic() - start:.0f} s\n")
        lines = log.read_text(errors="replace").splitlines()
        self.say(
            "```\n" + "\n".join(lines[-(tail if ended == "ok" else max(tail, 60)) :]) + "\n```"
        )
        return ended == "ok"


def _outcome(command: list[str], limit: int, out: IO[str], variables: Mapping[str, str]) -> str:
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            stdout=out,
            stderr=subprocess.STDOUT,
            env=variables,
            start_new_session=True,
        )
    except OSError as error:
        return f"NOT STARTED ({error})"
    try:
        code = process.wait(limit)
    except subprocess.TimeoutExpired:
        return f"STOPPED after {limit} s"
    finally:
        if process.poll() is None:  # what it has started would go on using the GPU
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return "ok" if code == 0 else f"FAILED ({code})"


def ready(report: Report) -> bool:
    """Whether what the build and the tests need is there; the report says what is not."""
    if shutil.which("nvcc") is None:
        os.environ.setdefault("CUDA_HOME", DEFAULT_CUDA)
    nvcc = shutil.which("nvcc") or shutil.which("nvcc", path=f"{os.environ['CUDA_HOME']}/bin")
    if nvcc is None:
        report.say(f"\nnvcc is neither on the PATH nor in {os.environ['CUDA_HOME']}/bin.")
    missing = [package for module, package in NEEDED.items() if not _installed(module)]
    if missing:
        report.say(f"\nNot installed in {sys.executable}: {', '.join(missing)}.")
    absent = [program for program in PROGRAMS if shutil.which(program) is None]
    if absent:
        report.say(f"\nNot on the PATH: {', '.join(absent)}.")
    for module, consequence in OPTIONAL.items():
        if not _installed(module):
            report.say(f"\n{module} is not installed: {consequence}.")
    return nvcc is not None and not missing and not absent


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def sanitize(report: Report, pytest: list[str]) -> bool:
    """The kernels under compute-sanitizer, which may be missing."""
    sanitizer = shutil.which("compute-sanitizer") or shutil.which(
        "compute-sanitizer", path=f"{os.environ.get('CUDA_HOME', DEFAULT_CUDA)}/bin"
    )
    sound = True
    for tool in ("memcheck", "racecheck"):
        if sanitizer is None:
            report.say(f"\n## {tool}: compute-sanitizer is not on the PATH")
            continue
        command = [sanitizer, "--tool", tool, "--error-exitcode", "9", *pytest, "-x"]
        command += ["tests/cuda/test_device.py", "-k", SANITIZED]
        sound &= report.run(tool, command, 90, 6, UNCACHED)
    return sound


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--report", type=Path, default=ROOT / "gpu_report")
    parser.add_argument("--quick", action="store_true", help="no sanitizer, fewer timings")
    options = parser.parse_args()
    report = Report(options.report.resolve())
    python = sys.executable
    report.say("# pyfront on a CUDA device")
    query = "--query-gpu=name,driver_version,memory.total,clocks.sm,clocks.mem"
    report.run("device", ["nvidia-smi", query, "--format=csv"], 20)
    if not ready(report):
        return 1
    install = [python, "-m", "pip", "install", "-v", "--no-build-isolation", "--no-deps", "-e", "."]
    if not report.run("build", install, 200):
        return 1
    check = "import pyfront; a = pyfront.cuda_available(); print(a); assert a"
    if not report.run("available", [python, "-c", check], 60):
        return 1
    # a kernel that does not end shows where; an error that stays fails every test after it
    pytest = [python, "-u", "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o"]
    pytest += ["faulthandler_timeout=60", "--maxfail=20", "--tb=short"]
    sound = report.run("tests", [*pytest, *TESTS, "-k", "not oracle and not property"], 200, 12)
    timings = [python, "-u", "bench/gpu_timings.py"] + (["--quick"] if options.quick else [])
    sound &= report.run("timings", timings, 110, 90)
    sound &= report.run("steps", [python, "-u", "bench/gpu_steps.py"], 90, 40)
    if not options.quick:  # last: of all parts it can miss its time with the least loss
        sound &= sanitize(report, pytest)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
