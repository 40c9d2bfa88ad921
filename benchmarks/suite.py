"""All benchmarks in order, their figures beside the targets.

usage: python -m benchmarks.suite [--only PART ...] [--official FOLDER]
          [--official-packages FOLDER] [--peer FILE] [--peer-python PYTHON]

The environment variables SER_OFFICIAL, SER_OFFICIAL_PACKAGES, SER_PEER and
SER_PEER_PYTHON say the same to `make bench`. The figures are printed as JSON and
written to benchmarks/results/last.json, with the machine and the versions.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import platform
import sys

from benchmarks.contest import REPOSITORY
from lib import runs
from lib.files import write_json

FOREIGN = ("official", "official_packages", "peer", "peer_python")
# The options that each part takes.
PARTS = {
    "step": FOREIGN,
    "study": FOREIGN[:2],
    "features": FOREIGN[:1],
    "inference": (),
}
# part, figure, bound, whether more is better
TARGETS = (
    ("step", "ours_over_official", 0.55, False),
    ("step", "ours_over_pytorch", 1.0, False),
    ("study", "ratio", 0.35, False),
    ("features", "ratio", 5.0, True),
    ("features", "largest_difference", 1e-4, False),
    ("inference", "total_ms", 25.0, False),
    ("inference", "first_prediction_s", 10.0, False),
)


def judged(figures: dict[str, dict[str, float]]) -> list[str]:
    """Return a line for every target: what was measured, and whether it is met."""
    lines = []
    for part, name, bound, more_is_better in TARGETS:
        value = figures.get(part, {}).get(name)
        sign = ">=" if more_is_better else "<="
        said = "not measured"
        if value is not None:
            met = value >= bound if more_is_better else value <= bound
            said = f"{value:.3g} ({'met' if met else 'MISSED'})"
        lines.append(f"{part:10s} {name:22s} {sign} {bound:<8g} {said}")
    return lines


def main() -> int:
    """Measure, print and save; return 1 if a part failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.suite")
    for name in FOREIGN:
        default = os.environ.get(f"SER_{name.upper()}", "")
        parser.add_argument(f"--{name.replace('_', '-')}", default=default)
    parser.add_argument("--only", nargs="+", choices=PARTS, default=[*PARTS])
    chosen = vars(parser.parse_args())
    figures, failed = {}, {}
    for part in chosen["only"]:
        module = importlib.import_module(f"benchmarks.{part}")
        given = {name: chosen[name] for name in PARTS[part] if chosen[name]}
        try:
            figures[part] = module.measure(**given)
        except RuntimeError as error:
            failed[part] = str(error)
        print(part, json.dumps(figures.get(part, failed.get(part)), indent=1))
    print("\n".join(judged(figures)))
    document = {
        "finished": runs.now(),
        "machine": [platform.machine(), platform.system(), os.cpu_count()],
        "versions": runs.environment(),
        "code": runs.git_state(),
        "figures": figures,
        "failed": failed,
    }
    write_json(REPOSITORY / "benchmarks" / "results" / "last.json", document)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
