"""Names short enough for a figure: what tells runs apart, and nothing else."""

from __future__ import annotations

import json

import pandas as pd


def system_names(board: pd.DataFrame) -> pd.Series:
    """Return the names of the runs' systems, without their seeds.

    A setting is named where the runs of a corpus and model differ in it, the
    number of folds only where they differ under one protocol.

    Args:
        board: What `lib.runs.table.load_runs` or `leaderboard` returned.

    Returns:
        E.g. "timnet, 4 epochs, dilations 3", with the index of `board`.
    """
    settings = [json.loads(text or "{}") for text in board["settings"]]
    table = pd.DataFrame(
        {
            "data": board["data"].map("data {}".format),
            "features": board["features"].map("features {}".format),
            "epochs": board["epochs"].map("{} epochs".format, na_action="ignore"),
            **{
                name: [_written(name, chosen) for chosen in settings]
                for name in dict.fromkeys(key for chosen in settings for key in chosen)
            },
        },
        index=board.index,
    )
    folds = board["folds"].map("{} folds".format)
    systems = [board["corpus"], board["model"], board["kind"]]
    apart = {name: _differs(column, systems) for name, column in table.items()}
    apart["folds"] = _differs(folds, [*systems, board["protocol"]])
    table = table.assign(folds=folds)
    names = []
    for place, (model, kind) in enumerate(
        zip(board["model"], board["kind"], strict=True)
    ):
        parts = [model if kind == "trained" else f"{model}, {kind}"]
        parts += [table[name].iloc[place] for name in table if apart[name].iloc[place]]
        names.append(", ".join(part for part in parts if isinstance(part, str)))
    return pd.Series(names, index=board.index, dtype="object")


def short_names(board: pd.DataFrame) -> pd.Series:
    """Return a name for every run, unique inside its corpus and protocol.

    Args:
        board: What `lib.runs.table.load_runs` or `leaderboard` returned.

    Returns:
        The name of the system and the seed, and the end of the run id where that
        is not enough; with the index of `board`.
    """
    seeds = board["seed"].map("seed {}".format)
    names = system_names(board) + ", " + seeds.astype("object")
    keys = [board["corpus"], board["protocol"], names]
    several = names.groupby(keys).transform("size") > 1
    return names.where(~several, names + " (" + board["run_id"].str[-8:] + ")")


def _written(name: str, settings: dict[str, object]) -> str | None:
    if name not in settings:
        return None
    return f"{name.replace('_', ' ')} {settings[name]}"


def _differs(column: pd.Series, groups: list[pd.Series]) -> pd.Series:
    """Tell for every row whether its group holds more than one value."""
    return column.groupby(groups).transform("nunique") > 1
