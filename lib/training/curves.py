"""The curves of a fold: rows in memory, a CSV file, TensorBoard events."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from lib import files

Row = Mapping[str, float]


class Curves:
    """One row of figures per epoch, kept on disk as they come.

    Args:
        csv: The CSV file.
        events: Folder of the TensorBoard events.
        rows: Rows of an earlier, interrupted training to go on from.
    """

    def __init__(self, csv: Path, events: Path, rows: Sequence[Row] = ()) -> None:
        self.csv = csv
        self.rows = list(rows)
        # Events are only ever appended; those of epochs that a cut has undone
        # would stand twice, so they are written anew.
        shutil.rmtree(events, ignore_errors=True)
        events.mkdir(parents=True)
        self._writer = EventFileWriter(str(events))
        for row in self.rows:
            self._add_event(row)

    def add(self, row: Row) -> None:
        """Append the figures of an epoch; they must name their "epoch"."""
        self.rows.append(row)
        self._add_event(row)

    def save(self) -> None:
        """Bring the files on disk up to date."""
        frame = pd.DataFrame(self.rows)
        files.write_text(self.csv, frame.to_csv(index=False, lineterminator="\n"))
        self._writer.flush()

    def close(self) -> None:
        """Write what is left and close the event file."""
        self.save()
        self._writer.close()

    def _add_event(self, row: Row) -> None:
        values = [
            Summary.Value(tag=_tag(name), simple_value=value)
            for name, value in row.items()
            if name not in ("epoch", "seconds") and value == value
        ]
        summary = Summary(value=values)
        self._writer.add_event(Event(step=int(row["epoch"]), summary=summary))


def _tag(name: str) -> str:
    """Return TensorBoard's tag, so that both curves share one chart's group."""
    if name.startswith("val_"):
        return f"{name.removeprefix('val_')}/validation"
    return f"{name}/train"
