import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from sf2cli.data import staging
from sf2cli.data.staging import clear_stage, staged
from sf2cli.errors import Sf2Error
from tests.pictures import files_below


def fill(folders, text):
    for folder in folders:
        (folder / "manifest.json").write_text(text)


def make(targets, text, overwrite=False, then=lambda: None):
    """Stage folders that hold a manifest with `text`; `then` happens before they are moved."""
    with staged(targets, overwrite, lambda stage: "") as folders:
        fill(folders, text)
        then()


def throw(failure):
    raise failure


@pytest.fixture
def targets(tmp_path):
    return [tmp_path / "sets" / "a", tmp_path / "sets" / "b"]


def test_folders_appear_at_the_end(targets, tmp_path):
    with staged(targets, False, lambda stage: "") as folders:
        fill(folders, "1")
        assert not any(target.exists() for target in targets)
    assert files_below(tmp_path) == {"sets/a/manifest.json": b"1", "sets/b/manifest.json": b"1"}
    assert sorted(os.listdir(tmp_path / "sets")) == ["a", "b"]


@pytest.mark.parametrize("failure", [Sf2Error("no"), OSError("full"), KeyboardInterrupt()])
def test_a_failure_leaves_nothing_not_even_parents(targets, tmp_path, failure):
    with pytest.raises(type(failure)):
        make(targets, "1", then=lambda: throw(failure))
    assert os.listdir(tmp_path) == []


def test_parents_that_were_there_stay(tmp_path):
    (tmp_path / "sets").mkdir()
    with pytest.raises(OSError, match="full"):
        make([tmp_path / "sets" / "deep" / "a"], "1", then=lambda: throw(OSError("full")))
    assert os.listdir(tmp_path / "sets") == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_unwinds(targets, tmp_path, number, status):
    with pytest.raises(SystemExit) as caught:
        make(targets, "1", then=lambda: os.kill(os.getpid(), number))
    assert caught.value.code == status
    assert os.listdir(tmp_path) == []
    assert signal.getsignal(number) == signal.SIG_DFL


def test_nohup_is_respected(targets):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        make(targets, "1", then=lambda: os.kill(os.getpid(), signal.SIGHUP))
        assert all(target.exists() for target in targets)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_what_is_there_is_not_replaced_unasked(targets, tmp_path):
    make(targets[1:], "old")
    with pytest.raises(Sf2Error, match=r"b exists already") as caught:
        make(targets, "new")
    assert "--overwrite" in str(caught.value.remedy)
    assert files_below(tmp_path) == {"sets/b/manifest.json": b"old"}


def test_overwrite_replaces_sets(targets, tmp_path):
    make(targets[1:], "old")
    make(targets, "new", overwrite=True)
    assert set(files_below(tmp_path).values()) == {b"new"}
    assert sorted(os.listdir(tmp_path / "sets")) == ["a", "b"]


def test_overwrite_leaves_all_else_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "1.jpg").touch()
    (tmp_path / "file").touch()
    make([tmp_path / "set"], "old")
    (tmp_path / "link").symlink_to(tmp_path / "set")
    (tmp_path / "dangling").symlink_to(tmp_path / "none")
    before = files_below(tmp_path)
    for name in ("photos", "file", "link", "dangling"):
        with pytest.raises(Sf2Error, match=rf"{name} exists and is not a packed set"):
            make([tmp_path / name], "new", overwrite=True)
    assert files_below(tmp_path) == before


def test_a_failure_keeps_the_old_set(targets, tmp_path):
    make(targets, "old")
    before = files_below(tmp_path)
    with pytest.raises(OSError, match="full"):
        make(targets, "new", overwrite=True, then=lambda: throw(OSError("full")))
    assert files_below(tmp_path) == before


@pytest.mark.parametrize("had", [0, 1, 2])
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("nth", [0, 1, 2, 3])
def test_a_move_that_fails_or_is_interrupted_undoes_the_others(
    targets, tmp_path, monkeypatch, had, moment, nth
):
    """Each of up to four renames is interrupted, just before and just after it happened."""
    if had:
        make(targets[:had], "old")
    before = files_below(tmp_path)
    moves = 0
    rename = Path.rename

    def interrupted(self, place):
        nonlocal moves
        moves += 1
        if moves - 1 != nth:
            return rename(self, place)
        if moment == "after":
            rename(self, place)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "rename", interrupted)
    needed = len(targets) + had
    if nth < needed:
        with pytest.raises(KeyboardInterrupt):
            make(targets, "new", overwrite=True)
        assert files_below(tmp_path) == before
    else:
        make(targets, "new", overwrite=True)
        assert set(files_below(tmp_path).values()) == {b"new"}
        assert moves == needed


def test_a_set_that_was_being_replaced_at_a_kill_is_told(targets, capsys):
    targets[0].parent.mkdir()
    left = targets[0].with_name(".a.old-1")
    left.mkdir()
    make(targets, "1")
    assert f"warning: {left} is a set that was being replaced" in capsys.readouterr().err
    assert left.is_dir()


def progress(stage):
    return "a half" if (stage / "half").exists() else ""


def test_progress_is_kept_and_told(targets, tmp_path, capsys):
    def half(folders):
        (folders[0].parent / "half").touch()
        fill(folders[:1], "1")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), staged(targets, False, progress) as folders:
        half(folders)
    stage = tmp_path / "sets" / ".a.partial"
    assert f"kept in {stage}: a half; the same command goes on" in capsys.readouterr().err
    assert not any(target.exists() for target in targets)
    with staged(targets, False, progress) as folders:
        assert files_below(folders[0]) == {"manifest.json": b"1"}
        assert files_below(folders[1]) == {}
        fill(folders, "2")
    assert files_below(tmp_path) == {"sets/a/manifest.json": b"2", "sets/b/manifest.json": b"2"}
    assert sorted(os.listdir(tmp_path / "sets")) == ["a", "b"]


def test_what_a_kill_left_without_progress_is_cleared(targets, tmp_path):
    folder = tmp_path / "sets" / ".a.partial" / "set"
    folder.mkdir(parents=True)
    (folder / "a-000000.tar").touch()
    with staged(targets, False, progress) as folders:
        assert files_below(folders[0]) == {}
        fill(folders, "1")


def hold(place, ready, ended):
    with staged([place], False, progress) as folders:
        fill(folders, "first")
        ready.set()
        ended.wait(60)


def test_one_packing_at_a_time(targets, tmp_path):
    context = multiprocessing.get_context("fork")
    ready, ended = context.Event(), context.Event()
    other = context.Process(target=hold, args=(targets[0], ready, ended))
    other.start()
    assert ready.wait(60)
    with pytest.raises(Sf2Error, match=r"\.a\.partial: another `sf2 pack` is writing there"):
        make(targets, "second")
    with pytest.raises(Sf2Error, match="is writing there"):
        clear_stage(targets[0])
    ended.set()
    other.join(60)
    assert files_below(tmp_path) == {"sets/a/manifest.json": b"first"}


def test_the_folders_are_beside_their_place(targets, monkeypatch):
    """A rename within one file system is atomic; one across file systems is a copy."""
    seen = []
    monkeypatch.setattr(staging, "sync", seen.append)
    make(targets, "1")
    assert [path.parent.parent for path in seen[:2]] == [target.parent for target in targets]
    assert seen[2:] == [target.parent for target in targets]


def test_overwrite_keeps_a_set_that_lies_in_a_set(tmp_path):
    make([tmp_path / "set"], "outer")
    make([tmp_path / "set" / "inner"], "inner")
    before = files_below(tmp_path)
    with pytest.raises(Sf2Error, match="set also holds inner, which is not of the set"):
        make([tmp_path / "set"], "new", overwrite=True)
    assert files_below(tmp_path) == before
