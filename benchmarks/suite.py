"""All benchmarks in order, their figures beside the targets.

usage: python -m benchmarks.suite [--only PART ...] [--save]
                                  [--official FOLDER] [--official-packages FOLDER]
                                  [--peer FILE] [--peer-python PYTHON]

`--official` and the three after it are those of benchmarks.peers; the environment
variables SER_OFFICIAL, SER_OFFICIAL_PACKAGES, SER_PEER and SER_PEER_PYTHON say the same
to `make bench`. Every part runs in a process of its own: one that fails is reported
with its error, and the others go on. `--save` writes benchmarks/results/last.json, from
which `python -m benchmarks.page` makes docs/cost.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks import fresh
from lib.files import write_json

RESULTS = fresh.REPOSITORY / "benchmarks" / "results" / "last.json"


@dataclasses.dataclass(frozen=True)
class Part:
    """A benchmark of the suite.

    Attributes:
        module: Where its function `measure` is.
        takes: Options of the suite that `measure` has as arguments.
        needs: Those of them without which there is nothing to measure.
    """

    module: str
    takes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()


FOREIGN = ("official", "official_packages", "peer", "peer_python")
PARTS: Mapping[str, Part] = {
    "step": Part("benchmarks.peers", FOREIGN),
    "study": Part("benchmarks.study", FOREIGN[:2], ("official",)),
    "features": Part("benchmarks.features", ("official",), ("official",)),
    "inference": Part("benchmarks.inference"),
    "memory": Part("benchmarks.memory"),
    "curves": Part("benchmarks.curves"),
    "folds": Part("benchmarks.folds"),
}


@dataclasses.dataclass(frozen=True)
class Target:
    """What a figure should be.

    Attributes:
        part: The part that measures it.
        key: Its name in what `measure` of the part returns.
        figure: What it is, for people.
        bound: The value to reach.
        unit: Unit of the bound; "" for a ratio.
        at_least: Whether more is better; else less is.
    """

    part: str
    key: str
    figure: str
    bound: float
    unit: str = ""
    at_least: bool = False

    def judge(self, parts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Return the target beside what was measured.

        Args:
            parts: What `run` returned, by name.

        Returns:
            `part`, `figure`, `target`, `unit`, `at_least`; `measured`, `ratio`
            (measured over target) and `met`, all three None if it was not measured.
        """
        measured = parts.get(self.part, {}).get("figures", {}).get(self.key)
        known = measured is not None
        better = known and (
            measured >= self.bound if self.at_least else measured <= self.bound
        )
        return {
            "part": self.part,
            "figure": self.figure,
            "target": self.bound,
            "unit": self.unit,
            "at_least": self.at_least,
            "measured": measured,
            "ratio": measured / self.bound if known else None,
            "met": better if known else None,
        }


TARGETS = (
    Target("step", "ours_over_official", "training step, ours / official", 0.55),
    Target("step", "ours_over_pytorch", "training step, ours / PyTorch", 1.0),
    Target("study", "ratio", "whole study, ours / official", 0.35),
    Target("features", "ratio", "clips per second, ours / official", 10.0, "", True),
    Target("features", "largest_difference", "largest difference of features", 1e-4),
    Target("inference", "total_ms", "one clip, from file to answer", 25.0, "ms"),
    Target("inference", "network_ms", "one clip, the network alone", 8.0, "ms"),
    Target("inference", "first_prediction_s", "import and first answer", 6.0, "s"),
    Target("memory", "peak_gib", "peak memory of a training run", 2.5, "GiB"),
)


def run(part: Part, options: Mapping[str, str]) -> dict[str, Any]:
    """Run a part in a process of its own.

    Args:
        part: The part.
        options: Values of the suite's options; "" where one is not given.

    Returns:
        `status`: "measured", "failed", "not there" or "left out"; `figures`, what
        it measured; `error`, why it did not; `started`, `seconds`; `load`, how many
        processes ran or waited in the minute before; `code`, the commit and whether
        files differed from it.
    """
    record = {
        "started": now(),
        "seconds": 0.0,
        "load": round(os.getloadavg()[0], 2),
        "code": code(),
        "figures": {},
    }
    if importlib.util.find_spec(part.module) is None:
        return record | {"status": "not there", "error": f"no module {part.module}"}
    if missing := [name for name in part.needs if not options.get(name)]:
        asked = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        return record | {"status": "left out", "error": f"it needs {asked}"}
    given = {name: options[name] for name in part.takes if options.get(name)}
    begun = time.perf_counter()
    try:
        figures = fresh.call(f"{part.module}:measure", **given)
        record |= {"status": "measured", "error": "", "figures": figures}
    except RuntimeError as error:
        record |= {"status": "failed", "error": str(error)}
    return record | {"seconds": round(time.perf_counter() - begun, 1)}


def now() -> str:
    """Return the time in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def code() -> dict[str, Any]:
    """Return the commit, and whether other files than the results differ from it."""
    from lib.runs import manifest

    # They are written after every part, and make no other code of the next.
    return manifest.git_state(RESULTS.relative_to(fresh.REPOSITORY).as_posix())


def machine() -> dict[str, Any]:
    """Return processor, number of cores, GiB of memory, and operating system."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "processor": processor(),
        "architecture": platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / (1 << 30), 1),
        "system": system(),
    }


def processor() -> str:
    """Return the model of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text("utf-8").splitlines():
            if line.lower().startswith("model name"):
                return line.split(":", 1)[1].strip()
    if sys.platform == "darwin":
        command = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    return platform.processor() or "unknown"


def system() -> str:
    """Return the operating system and its version."""
    if sys.platform == "darwin":
        return f"macOS {platform.mac_ver()[0]}"
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return f"{platform.system()} {platform.release()}"


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that the figures depend on."""
    from lib.runs import manifest

    found = manifest.environment()
    # One package or the other, as the platform has it.
    found["tensorflow"] = found.get("tensorflow") or found.get("tensorflow-cpu", "")
    names = ("python", "tensorflow", "keras", "jax", "numpy", "librosa")
    return {name: found.get(name, "") for name in names}


def document(
    parts: Mapping[str, Mapping[str, Any]], former: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all that is saved.

    Args:
        parts: What `run` returned, by name.
        former: What was saved before; its other parts are kept if they are of the
            same machine and versions, each with its own commit and time.
    """
    here = {"machine": machine(), "versions": versions()}
    if all(former.get(name) == value for name, value in here.items()):
        parts = {**former["parts"], **parts}
    ordered = {name: parts[name] for name in PARTS if name in parts}
    return {
        **here,
        "started": min(part["started"] for part in ordered.values()),
        "targets": [target.judge(ordered) for target in TARGETS],
        "parts": ordered,
    }


def read(path: Path = RESULTS) -> dict[str, Any]:
    """Return what was saved, {} if nothing was."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def number(value: float | None, unit: str = "") -> str:
    """Return a number with three digits and its unit, for people."""
    if value is None:
        return "-"
    if value and (abs(value) < 1e-3 or not math.isfinite(value)):
        return f"{value:.0e} {unit}".strip()
    digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:.{digits}f} {unit}".strip()


def rows(judged: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """Return the table: part, figure, target, measured, met.

    Args:
        judged: What `Target.judge` returned, for each target.
    """
    verdicts = {True: "yes", False: "NO", None: "not measured"}
    return [
        (
            one["part"],
            one["figure"],
            f"{'>=' if one['at_least'] else '<='} {number(one['target'], one['unit'])}",
            number(one["measured"], one["unit"]),
            verdicts[one["met"]],
        )
        for one in judged
    ]


HEADS = ("part", "figure", "target", "measured", "met")


def table(lines: Sequence[Sequence[str]]) -> str:
    """Return rows of text as columns."""
    widths = [max(map(len, column)) for column in zip(HEADS, *lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) for cell, width in zip(line, widths, strict=True)
        ).rstrip()
        for line in (HEADS, *lines)
    )


def run_all(
    names: Sequence[str], options: Mapping[str, str], target: Path | None = None
) -> dict[str, Any]:
    """Run parts in order and say how each went.

    Args:
        names: Of `PARTS`.
        options: Values of the suite's options; "" where one is not given.
        target: Where the figures are saved, after every part; None for nowhere.

    Returns:
        What `run` returned, by name.
    """
    former = read(target) if target else {}
    done: dict[str, Any] = {}
    for name in names:
        print(f"{name} ...", flush=True)
        done[name] = part = run(PARTS[name], options)
        said = part["error"] or json.dumps(part["figures"], indent=1)
        print(f"{name}: {part['status']} in {part['seconds']} s\n{said}", flush=True)
        if target:
            write_json(target, document(done, former))
    return done


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options of the command line, or else of the environment."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite")
    for name in FOREIGN:
        default = os.environ.get(f"SER_{name.upper()}", "")
        parser.add_argument(f"--{name.replace('_', '-')}", default=default)
    parser.add_argument("--only", nargs="+", action="extend", choices=PARTS)
    parser.add_argument("--save", action="store_true")
    return parser.parse_args(given)


def main() -> int:
    """Measure, print and save; return 1 if a part failed."""
    chosen = arguments()
    given = {name: getattr(chosen, name) for name in FOREIGN}
    # The parts run in the repository's folder, wherever this was called from. The
    # Python of an environment is a link that must not be followed.
    options = {
        name: os.path.abspath(value) if os.path.exists(value) else value
        for name, value in given.items()
    }
    names = [name for name in PARTS if name in (chosen.only or PARTS)]
    parts = run_all(names, options, RESULTS if chosen.save else None)
    judged = [target.judge(parts) for target in TARGETS if target.part in parts]
    print(table(rows(judged)))
    if chosen.save:
        print(f"written: {RESULTS.relative_to(fresh.REPOSITORY)}")
    return int(any(part["status"] == "failed" for part in parts.values()))


if __name__ == "__main__":
    sys.exit(main())
