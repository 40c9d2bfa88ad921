"""Tables in the shape that the forest plots take."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from lib.protocols import PROTOCOLS
from lib.runs.names import short_names


def runs_by_protocol(board: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """Return runs for `lib.plots.leaderboard`.

    Args:
        board: What `lib.runs.table.leaderboard` returned.
        labels: By run id, the protocol as figures call it.
    """
    return pd.DataFrame(
        {
            "name": short_names(board),
            "uar": board["uar"],
            "low": board["uar_low"],
            "high": board["uar_high"],
            "protocol": board["run_id"].map(labels),
            "synthetic": board["synthetic"],
            "reliable": ~board["warning"].str.contains("interval indicative only"),
        }
    )


def published_beside(
    pairs: pd.DataFrame, names: Mapping[str, str], labels: Mapping[str, str]
) -> pd.DataFrame:
    """Return published numbers and ours for `lib.plots.published_versus_ours`.

    Variants of a system (ablations, re-implementations) are left out where the
    system itself has a number; published numbers without UAR always.

    Args:
        pairs: What `lib.runs.published.beside` returned.
        names: By run id, its short name.
        labels: By run id, the protocol as figures call it.
    """
    known = pairs[pairs["published_uar"].notna()]
    plain = known[known["variant"] == ""]
    known = known if plain.empty else plain
    theirs = known.drop_duplicates(
        ["system", "corpus", "variant", "source", "published_protocol"]
    )
    rows = [
        (f"{row.system} on {row.corpus}", row.source, _title(row), row.published_uar)
        for row in theirs.itertuples()
    ]
    published = pd.DataFrame(rows, columns=["name", "source", "protocol", "value"])
    rows = [
        (
            f"{row.system} on {row.corpus}",
            names[row.run_id],
            labels[row.run_id],
            row.uar,
        )
        for row in known.drop_duplicates("run_id").itertuples()
    ]
    ours = pd.DataFrame(rows, columns=published.columns)
    both = pd.concat([published.assign(ours=False), ours.assign(ours=True)])
    return both.assign(value=both["value"] / 100).reset_index(drop=True)


def _title(row) -> str:
    protocol = row.published_protocol
    label = PROTOCOLS[protocol].label if protocol else "protocol not stated"
    return f"{label}; {row.variant}" if row.variant else label


def differences(table: pd.DataFrame) -> pd.DataFrame:
    """Return comparisons for `lib.plots.differences`; impossible ones are left out.

    Args:
        table: What `lib.runs.comparisons.as_table` returned.

    Returns:
        The same columns, name (the system, or else the protocol) and label.
    """
    done = table[table["note"] == ""]
    titles = done["protocol"].map({name: PROTOCOLS[name].label for name in PROTOCOLS})
    return done.assign(
        name=done["system"].where(done["system"] != "", titles),
        label=done["first"] + " minus " + done["second"],
    )
