"""A packing that was interrupted goes on where it was, and ends as if nothing had happened."""

import errno
import json
import multiprocessing as mp
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sf2cli.data import check
from sf2cli.data.journal import _difference, progress_in
from sf2cli.data.pack import PackOptions, pack
from sf2cli.errors import Sf2Error
from tests.data.recordio_writer import insightface, write_rec
from tests.pictures import encode, files_below, make_photos, noise

# Two sets, identities over several shards, some dropped, some images bad.
COUNTS = {"anna": 9, "bo": 1, "carl": 14, "dora": 4, "emil": 3, "fay": 6}
OPTIONS = {"holdout": 2, "holdout_seed": 3, "min_images": 3, "shard_bytes": 7000}


@pytest.fixture(autouse=True)
def _no_waiting_for_the_disk(monkeypatch):
    """A killed process loses nothing that it has written; only a machine that fails does."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def photos(tmp_path):
    root = make_photos(tmp_path / "photos", COUNTS)
    for name in ("anna/0", "anna/4", "carl/1", "carl/13", "dora/2", "emil/0", "fay/5"):
        (root / f"{name}.jpg").write_bytes(b"")
    return root


@pytest.fixture
def undisturbed(photos, tmp_path):
    pack(str(photos), tmp_path / "undisturbed" / "set", PackOptions(**OPTIONS))
    return files_below(tmp_path / "undisturbed")


def interrupt_at(monkeypatch, number, failure=KeyboardInterrupt):
    """The packing is interrupted before it reads its image of this number."""
    read, made = check.check_image, 0

    def interrupted(*arguments):
        nonlocal made
        made += 1
        if made > number:
            raise failure
        return read(*arguments)

    monkeypatch.setattr(check, "check_image", interrupted)
    monkeypatch.setattr(check, "BATCH", 1)


def stopped(monkeypatch, photos, out, number, **options):
    """A packing that ends at image `number`."""
    with monkeypatch.context() as patch:
        interrupt_at(patch, number)
        with pytest.raises(KeyboardInterrupt):
            pack(str(photos), out, PackOptions(**{**OPTIONS, **options}))


def test_every_moment(photos, undisturbed, tmp_path, monkeypatch):
    resumed = 0
    for number in range(0, sum(COUNTS.values()) - 1, 2):
        place = tmp_path / str(number)
        stopped(monkeypatch, photos, place / "set", number)
        resumed += place.exists()
        pack(str(photos), place / "set", PackOptions(**OPTIONS))
        assert files_below(place) == undisturbed
    assert resumed > 10


def test_again_and_again(photos, undisturbed, tmp_path, monkeypatch):
    """Each run comes a few images further than the last finished shard."""
    place = tmp_path / "slow"
    for _ in range(3):
        stopped(monkeypatch, photos, place / "set", 14)
    pack(str(photos), place / "set", PackOptions(**OPTIONS))
    assert files_below(place) == undisturbed


def test_after_a_full_disk(photos, undisturbed, tmp_path, monkeypatch):
    full = OSError(errno.ENOSPC, "No space left on device")
    with monkeypatch.context() as patch:
        interrupt_at(patch, 30, full)
        with pytest.raises(Sf2Error, match="the disk is full; finished shards were kept") as caught:
            pack(str(photos), tmp_path / "out" / "set", PackOptions(**OPTIONS))
    assert "give the same command again" in str(caught.value.remedy)
    pack(str(photos), tmp_path / "out" / "set", PackOptions(**OPTIONS))
    assert files_below(tmp_path / "out") == undisturbed


def test_a_finished_shard_is_not_read_again(photos, tmp_path, monkeypatch):
    stopped(monkeypatch, photos, tmp_path / "set", 30, holdout=None)
    (journal,) = tmp_path.glob(".set.partial/journal.jsonl")
    done = json.loads(journal.read_text().splitlines()[-1])["row"]
    assert done > 15
    read = []
    with monkeypatch.context() as patch:
        whole = check.check_image
        patch.setattr(check, "check_image", lambda *given: read.append(given) or whole(*given))
        pack(str(photos), tmp_path / "set", PackOptions(**{**OPTIONS, "holdout": None}))
    # Of the source's images but bo's.
    assert len(read) == sum(COUNTS.values()) - 1 - done


def test_it_is_told(photos, tmp_path, monkeypatch, capsys):
    stopped(monkeypatch, photos, tmp_path / "set", 30, holdout=None)
    said = capsys.readouterr().err
    assert f"kept in {tmp_path}/.set.partial: " in said
    assert "the same command goes on from there, --restart begins anew" in said
    pack(str(photos), tmp_path / "set", PackOptions(**{**OPTIONS, "holdout": None}))
    assert "going on after " in capsys.readouterr().err


def test_the_number_of_workers_may_change(photos, undisturbed, tmp_path, monkeypatch):
    stopped(monkeypatch, photos, tmp_path / "out" / "set", 25)
    monkeypatch.setattr(check, "BATCH", 2)
    monkeypatch.setattr("sf2cli.data.fill.BATCH", 2)
    pack(str(photos), tmp_path / "out" / "set", PackOptions(**OPTIONS, workers=3))
    assert files_below(tmp_path / "out") == undisturbed


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"size": 8}, "another option: --size none, where this one has 8"),
        ({"min_images": 2}, r"another option: --min-images \d, where this one has 2"),
        ({"holdout_seed": 4}, "another split: --holdout-seed 3, where this one has 4"),
        (
            {"shard_bytes": 8000, "min_images": 2},
            "another option: --min-images 3, where this one has 2; --shard-size 0.007, where this"
            " one has 0.008",
        ),
    ],
)
def test_other_options_are_refused(photos, tmp_path, monkeypatch, change, named):
    place = tmp_path / "out"
    stopped(monkeypatch, photos, place / "set", 30)
    before = files_below(place)
    options = PackOptions(**{**OPTIONS, **change})
    with pytest.raises(Sf2Error, match=rf"holds an interrupted packing with {named}") as caught:
        pack(str(photos), place / "set", options)
    assert "--restart" in str(caught.value.remedy)
    left = files_below(place)
    assert {name: left[name] for name in before if ".tar" in name} == {
        name: before[name] for name in before if ".tar" in name
    }
    pack(str(photos), place / "set", PackOptions(**{**OPTIONS, **change, "restart": True}))
    assert sorted(os.listdir(place)) == ["set-test", "set-train"]


def test_another_list_of_as_many_images_is_said_to_be_one():
    said = _difference("list of images", "36 of 5, 1a2b", "36 of 5, 3c4d")
    assert said == "another list of images: as many, 36 of 5 identities, but not the same"


def changed_bytes(photos):
    path = photos / "carl" / "3.jpg"
    path.write_bytes(path.read_bytes())


def removed(photos):
    (photos / "fay" / "1.jpg").unlink()


def added(photos):
    (photos / "zoe").mkdir()
    for j in range(3):
        (photos / "zoe" / f"{j}.jpg").write_bytes(encode(noise(8, 8, seed=j), "JPEG"))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (changed_bytes, r"carl/3\.jpg has changed since the packing began"),
        (removed, "another list of images: 36 of . identities, where this one has 35 of"),
        (added, "another list of images: 36 of . identities, where this one has 39 of"),
    ],
)
def test_another_source_is_refused(photos, tmp_path, monkeypatch, change, named):
    stopped(monkeypatch, photos, tmp_path / "set", 30)
    time.sleep(0.02)
    change(photos)
    with pytest.raises(Sf2Error, match=named):
        pack(str(photos), tmp_path / "set", PackOptions(**OPTIONS))
    pack(str(photos), tmp_path / "set", PackOptions(**OPTIONS, restart=True))


def test_on_bad_may_change_while_nothing_is_bad(photos, tmp_path, monkeypatch):
    stopped(monkeypatch, photos, tmp_path / "set", 30)
    with pytest.raises(Sf2Error, match=r"anna/0\.jpg: empty file"):
        pack(str(photos), tmp_path / "set", PackOptions(**OPTIONS, on_bad="fail"))
    pack(str(photos), tmp_path / "set", PackOptions(**OPTIONS))
    good = make_photos(tmp_path / "good", COUNTS)
    stopped(monkeypatch, good, tmp_path / "other", 30, on_bad="fail")
    pack(str(good), tmp_path / "other", PackOptions(**OPTIONS))


@pytest.mark.parametrize("spoil", [b'{"shard": {"fi', b"\x00" * 40])
def test_a_torn_line_of_the_journal_is_no_line(photos, undisturbed, tmp_path, monkeypatch, spoil):
    place = tmp_path / "out"
    stopped(monkeypatch, photos, place / "set", 30)
    for path in place.glob(".*/journal.jsonl"):
        path.write_bytes(path.read_bytes() + spoil)
    pack(str(photos), place / "set", PackOptions(**OPTIONS))
    assert files_below(place) == undisturbed


def test_a_journal_of_something_else_is_refused(photos, tmp_path, monkeypatch):
    stopped(monkeypatch, photos, tmp_path / "set", 30)
    (path,) = tmp_path.glob(".set-train.partial/journal.jsonl")
    path.write_text(path.read_text() + '{"shard": {"samples": 3}}\n')
    with pytest.raises(Sf2Error, match="not the journal of a packing"):
        pack(str(photos), tmp_path / "set", PackOptions(**OPTIONS))


def test_a_finished_shard_that_is_gone_is_named(photos, tmp_path, monkeypatch):
    stopped(monkeypatch, photos, tmp_path / "set", 30)
    (tmp_path / ".set-train.partial" / "set" / "set-train-000001.tar").unlink()
    with pytest.raises(Sf2Error, match=r"set-train-000001\.tar is missing or has another length"):
        pack(str(photos), tmp_path / "set", PackOptions(**OPTIONS))


def killed_at_random(tmp_path, kills):
    """Kill a packing by two workers at random moments, go on, and compare; every time anew."""
    images = [
        [encode(noise(16, 16, seed=100 * label + j), "JPEG") for j in range(20)]
        for label in range(60)
    ]
    images[7][3] = images[30][0] = b"no image"
    rec = tmp_path / "source" / "train.rec"
    rec.parent.mkdir()
    write_rec(rec, insightface(images))
    options = PackOptions(shard_bytes=40_000, holdout=9, holdout_seed=1, workers=2)
    started = time.monotonic()
    pack(str(rec), tmp_path / "undisturbed" / "set", options)
    usual = time.monotonic() - started
    expected = files_below(tmp_path / "undisturbed")
    rng = np.random.default_rng(0)
    resumed = 0
    for number in range(kills):
        place = tmp_path / str(number)
        for _ in range(1 + number % 2):
            process = mp.get_context("fork").Process(
                target=pack, args=(str(rec), place / "set", options)
            )
            process.start()
            time.sleep(rng.uniform(0, usual))
            process.kill()
            process.join()
        ended = all((place / f"set-{part}").exists() for part in ("train", "test"))
        resumed += any(map(progress_in, place.glob(".*.partial")))
        # Killed between its last two moves, it has only the second to make; see `staging`.
        overwrite = any((place / f"set-{part}").exists() for part in ("train", "test"))
        if not ended:
            pack(str(rec), place / "set", replace(options, overwrite=overwrite))
        assert {k: v for k, v in files_below(place).items() if k[0] != "."} == expected
    return resumed


def test_kill_9_at_three_moments(tmp_path):
    killed_at_random(tmp_path, 3)


@pytest.mark.slow
def test_kill_9_at_thirty_moments(tmp_path):
    assert killed_at_random(tmp_path, 30) > 10


def test_no_worker_outlives_a_kill(photos, tmp_path):
    make_photos(tmp_path / "more", {f"{i:02d}": 4 for i in range(40)})
    os.mkfifo(tmp_path / "more" / "00" / "never.jpg")
    process = mp.get_context("fork").Process(
        target=pack, args=(str(tmp_path / "more"), tmp_path / "set", PackOptions(workers=2))
    )
    process.start()
    workers = []
    deadline = time.monotonic() + 60
    while len(workers) < 2 and time.monotonic() < deadline:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
        workers = [int(child) for child in children.split()]
    process.kill()
    process.join()
    assert len(workers) == 2
    while any(map(runs, workers)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
