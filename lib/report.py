"""A study as a table, sentences and files that can be handed in."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from lib import compare, files, runs
from lib.sweeps import Study

CELL = ["corpus", "protocol", "system"]
# Marks of `runs.caveats` that a row shows; data warnings are in the CSV alone.
SPOILT = "synthetic|transductive|chosen|ignored|clips|unknown|shared|untrain|checked"
SIGNS = {"−": "$-$", "–": "--", "<": "$<$", ">": "$>$", "|": "$|$"}
NOTE = "UAR in per cent, difference from the reference in points, means over the seeds "
NOTE += "[95 % interval over test speakers; with seeds: over speakers and seeds]."


def variants(study: Study) -> pd.DataFrame:
    """Return `compare.systems` of the variants in a study, in the order of its file.

    `planned` counts the seeds; a variant without a finished run has a row and a note.
    """
    plan, results = study.read(), study.workspace.results
    plan = plan.rename(columns={"variant": "system"})
    done = plan[plan["state"] == "done"].set_index("id")["system"]
    board = runs.leaderboard(runs.load_runs(results, done.index))
    board["system"] = board["run_id"].map(done)
    found = compare.systems(results, board, study.sweep().reference)
    planned = plan.groupby(CELL, sort=False).size().rename("planned").reset_index()
    table = planned.merge(found, "left", CELL)
    table[["seeds", "matched"]] = table[["seeds", "matched"]].fillna(0).astype(int)
    return table.fillna({"note": "no run is done", "label": "", "warning": ""})


def sentence(row: Mapping[str, Any]) -> str:
    """Return in words what a row of `variants` shows, and what it cannot show."""
    name = f"{row['system']} ({row['corpus']}, {_protocol(row)})"
    if pd.isna(row["uar"]):
        return f"{name}: {row['note']}."
    seeds = f"{row['seeds']} of {row['planned']} seeds"
    told = f"{name}: UAR {_span(row, 'uar', 'uar_')} %, {seeds}"
    if row["system"] == row["reference"]:
        return f"{told}; the reference."
    if pd.isna(row["difference"]):
        return f"{told}; {row['note']}."
    known = f"{row['speakers']:.0f}" if row["speakers"] else "unknown"
    end, over = "", f"{known} speakers, one seed"
    if row["matched"] > 1:
        over = f"{known} speakers and {row['matched']:.0f} seeds that both have"
        end = "_seeds"
    told += f"; {_span(row, 'difference', '', end, '+')} points against "
    told += f"{row['reference']}, over {over}. "
    low, high = 100 * row[f"low{end}"], 100 * row[f"high{end}"]
    if clear := low > 0 or high < 0:
        kind, size = ("gain", low) if low > 0 else ("loss", -high)
        told += f"A {kind} of less than {size:.1f} points lies outside the interval"
    else:
        told += f"A loss of more than {-low:z.1f} points is ruled out, and a gain of "
        told += f"more than {high:z.1f} (95 %); which is better is not shown"
        told += ", and the interval is too wide to be of use" * (high - low > 50)
    hint = "" if row["reliable"] else " (an indication only: few or unknown speakers)"
    test = "corrected t" if row["protocol"] in compare.RANDOM else "sign-flip"
    p = row["note"] or f"p = {row['holm_p']:.3f} ({test} test, corrected by Holm)"
    p += ", above 5 %: not settled" * (clear and row["holm_p"] > 0.05)
    p += ", for these seeds alone" * (not clear and row["holm_p"] <= 0.05)
    return f"{told}{hint}; {p}.".replace("p = 0.000", "p < 0.001")


def _protocol(row: Mapping[str, Any]) -> str:
    """Return the protocol with what spoils a score of this row."""
    marks = [mark for mark in row["warning"].split("; ") if re.search(SPOILT, mark)]
    return ", ".join([row["protocol"], *marks])


def _span(row, value: str, start: str, end: str = "", sign: str = "") -> str:
    """Return a value with its interval in per cent, "" where there is none."""
    names = value, f"{start}low{end}", f"{start}high{end}"
    if any(pd.isna(row[name]) for name in names):
        return ""
    point, low, high = (f"{100 * row[n]:{sign}z.1f}".replace("-", "−") for n in names)
    return f"{point} [{low}, {high}]"


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table of `variants` as text, in per cent and percentage points."""
    rows = table.to_dict("records")
    number = {"p (Holm)": "holm_p", "smallest p": "smallest_p"}
    columns = {
        "seeds": [f"{row['seeds']} of {row['planned']}" for row in rows],
        "UAR": [_span(row, "uar", "uar_") for row in rows],
        "difference": [_span(row, "difference", "", "", "+") for row in rows],
        "with seeds": [_span(row, "difference", "", "_seeds", "+") for row in rows],
        **{name: table[n].map("{:.3f}".format, "ignore") for name, n in number.items()},
        "parameters": table["parameters"].map(lambda n: f"{n:,.0f}" if n > 0 else ""),
        "trainers": table["trainers"],
    }
    if "epoch_seconds" in table:  # from the logs, where a notebook has read them
        columns["s per epoch"] = table["epoch_seconds"].map("{:.2f}".format, "ignore")
    found = table[CELL].assign(protocol=[*map(_protocol, rows)], **columns)
    found = found.rename(columns={"system": "variant"}).astype(object).fillna("")
    return found.replace({"": "–", "0.000": "< 0.001"})


def write(folder: Path, table: pd.DataFrame, title: str) -> None:
    """Write the table of `variants` as Markdown, LaTeX, CSV and xlsx into a folder."""
    text = readable(table)
    lines = [[*text], ["---"] * len(text.columns), *text.to_numpy().tolist()]
    lines = [[cell.replace("|", "\\|") for cell in line] for line in lines]
    parts = [f"# {title}", NOTE, "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    parts += [f"- {sentence(row)}" for row in table.to_dict("records")]
    files.write_text(folder / "variants.md", "\n\n".join(parts) + "\n")
    layout = "l" * len(CELL) + "r" * (len(text.columns) - len(CELL))
    latex = text.to_latex(index=False, escape=True, column_format=layout)
    for sign, command in SIGNS.items():
        latex = latex.replace(sign, command)
    latex = f"\\resizebox{{\\linewidth}}{{!}}{{%\n{latex}}}\n"
    latex += f"\\par{{\\footnotesize {NOTE}}}\n".replace("%", "\\%")
    told = "% for a page in landscape, with booktabs and graphicx; Greek: LuaLaTeX\n"
    files.write_text(folder / "variants.tex", told + latex)
    files.write_text(folder / "variants.csv", table.to_csv(index=False))
    with files.atomic_path(folder / "variants.xlsx") as target:
        table.to_excel(target, index=False)
