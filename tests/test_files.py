"""Files are whole or absent."""

import errno
import json
import os
from pathlib import Path
from unittest.mock import Mock

import pytest

from lib import files, runs


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "a" / "value.json"
    files.write_json(target, {"old": 1})
    with pytest.raises(RuntimeError), files.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("cut")
    assert json.loads(target.read_text()) == {"old": 1}
    assert [path.name for path in target.parent.iterdir()] == ["value.json"]


def test_a_disk_that_takes_no_file_is_named_with_the_way_out(tmp_path, monkeypatch):
    target = tmp_path / "value.txt"
    ways = {errno.ENOSPC: "free some space", errno.EACCES: "set `workspace`"}
    for fault, way in ways.items():
        said = rf"{target}.*; {way}"
        with pytest.raises(OSError, match=said), files.atomic_path(target) as temporary:
            temporary.write_text("half")
            raise OSError(fault, os.strerror(fault))
        assert list(tmp_path.iterdir()) == []
    refused = Mock(side_effect=OSError(errno.EROFS, "read-only"))
    monkeypatch.setattr(Path, "mkdir", refused)
    folders = runs.RunFolders(files.Workspace(tmp_path), "RUN")
    told = "logs/RUN: .*read-only; set `workspace`"
    with pytest.raises(OSError, match=told), runs.only_one(folders):
        pass
    monkeypatch.undo()
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="workspace: .*file.*give a folder"):
        files.Workspace(str(tmp_path / "file"))
