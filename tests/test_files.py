"""Files are whole or absent."""

import errno
import json
import os

import numpy as np
import pytest

from lib import files


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "a" / "value.json"
    files.write_json(target, {"old": 1})
    with pytest.raises(RuntimeError), files.atomic_path(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError("cut")
    assert json.loads(target.read_text()) == {"old": 1}
    assert [path.name for path in target.parent.iterdir()] == ["value.json"]


def test_a_full_disk_is_named_with_the_way_out(tmp_path):
    target = tmp_path / "value.txt"
    with pytest.raises(OSError, match="disk is full.*free some space") as caught:
        with files.atomic_path(target):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(target) in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_device_without_room_leaves_no_file(tmp_path):
    # /dev/full refuses every byte, as a full disk does.
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with pytest.raises(OSError, match="disk is full"):
        with files.atomic_path(tmp_path / "x.bin"), open("/dev/full", "wb") as full:
            full.write(b"x" * 10_000)
            full.flush()
    assert list(tmp_path.iterdir()) == []


def test_npz_holds_an_array_called_file_and_no_objects(tmp_path):
    target = tmp_path / "a.npz"
    files.write_npz(target, {"file": np.array(["x", "yz"]), "x": np.eye(2)})
    with np.load(target, allow_pickle=False) as read:
        assert read["file"].tolist() == ["x", "yz"]
        np.testing.assert_array_equal(read["x"], np.eye(2))
    with pytest.raises(ValueError, match="[Oo]bject"):
        files.write_npz(target, {"x": np.array([{}], dtype=object)})


def test_files_take_the_mode_that_the_umask_asks_for(tmp_path):
    old = os.umask(0o027)
    try:
        files.write_text(tmp_path / "a.txt", "a")
    finally:
        os.umask(old)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


def test_a_file_is_no_workspace(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="workspace: .*file.*give a folder"):
        files.find_workspace(str(tmp_path / "file"))


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".partial-x-fold_01.keras").write_text("half")
    (tmp_path / "run" / "fold_01.keras").write_text("whole")
    files.remove_leftovers(tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["fold_01.keras"]
