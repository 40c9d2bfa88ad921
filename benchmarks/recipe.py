"""Does the workbook's short recipe score as well as the published 500 epochs?

usage: python -m benchmarks.recipe [--corpora NAME ...] [--seeds N ...] [--folds N]
                                   [--recipe FILE] [--datasets FOLDER]
                                   [--workspace FOLDER]

Both recipes train TIM-Net on the same folds with the same seeds, under the protocol
`speaker`, as notebook 02 does; only what the recipe's file says differs. Printed are
the UAR of every seed, the mean difference with its 95 % interval over the seeds
(Student's t), and with that over the speakers. The runs stay in the workspace: a
measurement that was cut off goes on, and more seeds can be added later.

The published recipe takes hours on a laptop. On a GPU all seeds train at once:
    KERAS_BACKEND=jax python -m benchmarks.recipe --seeds 46 47 48 49 50
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Sequence
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).resolve().parent.parent
RECIPE = REPOSITORY / "notebooks" / "recipes" / "workbook" / "timnet.yaml"


def scores(parameters: dict, seeds: Sequence[int]) -> dict[int, dict]:
    """Train a recipe with some seeds; return each run's predictions and figures.

    Args:
        parameters: Parameters of notebook 02.
        seeds: The seeds.

    Returns:
        By seed: `uar`, `epochs` and `seconds` of all folds, and `table`, the
        predictions.
    """
    from lib import config, features, runs, training
    from lib.device import select

    given = [config.validated(parameters | {"seed": seed}) for seed in seeds]
    machine = select(given[0].device, side_by_side=given[0].folds_side_by_side)
    corpus, data = features.obtain(given[0])
    plans = [
        training.Plan(
            training.resolve(params, data),
            training.make_folds(params, data),
        )
        for params in given
    ]
    folders = training.train_seeds(
        plans, data, given[0].folders, device=machine, verbose=given[0].verbose
    )
    found = {}
    for seed, made in zip(seeds, folders, strict=True):
        document = runs.manifest.read(made.manifest)
        found[seed] = {
            "uar": document["metrics"]["pooled"]["uar"],
            "epochs": document["config"]["epochs"],
            "seconds": document["seconds"],
            "table": runs.predictions.read(made.predictions),
        }
    return found


def over_seeds(differences: Sequence[float]) -> tuple[float, float]:
    """Return the 95 % interval of the mean of some differences, by Student's t.

    One difference has no interval: (-inf, inf).
    """
    import scipy.stats

    if len(differences) < 2:
        return -float("inf"), float("inf")
    interval = scipy.stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    return float(interval.low), float(interval.high)


def compare(short: dict[int, dict], published: dict[int, dict]) -> dict[str, float]:
    """Return the difference of UAR, short minus published, with both intervals.

    Args:
        short: What `scores` returned for the short recipe.
        published: The same of the published one, with the same seeds.
    """
    from lib import metrics

    gains = [short[seed]["uar"] - published[seed]["uar"] for seed in published]
    low, high = over_seeds(gains)
    by_speaker = metrics.compare_predictions(
        [published[seed]["table"] for seed in published],
        [short[seed]["table"] for seed in published],
    )
    return {
        "difference": statistics.mean(gains),
        "seeds_low": low,
        "seeds_high": high,
        "speakers_low": by_speaker.interval.low,
        "speakers_high": by_speaker.interval.high,
    }


def main() -> None:
    """Train, compare and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.recipe")
    parser.add_argument("--corpora", nargs="+", default=["EMOVO", "RAVDESS"])
    parser.add_argument("--seeds", nargs="+", type=int, default=[46, 47, 48])
    parser.add_argument("--folds", type=int, default=0)
    parser.add_argument("--recipe", default=str(RECIPE))
    parser.add_argument("--datasets", default="")
    parser.add_argument("--workspace", default="")
    chosen = parser.parse_args()
    recipe = yaml.safe_load(Path(chosen.recipe).read_text("utf-8"))
    for corpus in chosen.corpora:
        common = {
            "workspace": chosen.workspace,
            "datasets_dir": chosen.datasets,
            "corpus": corpus,
            "model": recipe["model"],
            "protocol": "speaker",
            "folds": chosen.folds,
            "verbose": 2,
        }
        short = scores(recipe | common, chosen.seeds)
        published = scores(common, chosen.seeds)
        for name, found in (("short", short), ("published", published)):
            each = ", ".join(f"{s}: {f['uar']:.1%}" for s, f in found.items())
            first = next(iter(found.values()))
            seconds = sum(f["seconds"] for f in found.values())
            print(f"{corpus} {name}, {first['epochs']} epochs: UAR {each}")
            print(f"{corpus} {name}: {seconds:.0f} s of training")
        found = compare(short, published)
        print(
            f"{corpus} short - published: {found['difference']:+.1%}; 95 % interval "
            f"over {len(short)} seeds {found['seeds_low']:+.1%} to "
            f"{found['seeds_high']:+.1%}, over speakers {found['speakers_low']:+.1%} "
            f"to {found['speakers_high']:+.1%}",
            flush=True,
        )


if __name__ == "__main__":
    main()
