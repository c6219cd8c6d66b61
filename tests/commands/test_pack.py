"""`sf2 pack` as its user meets it: messages, exit statuses, and what is left behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
from click.testing import CliRunner

from sf2cli.cli import cli
from sf2cli.data.packed import PackedSet
from sf2cli.data.workers import MOST
from tests.pictures import encode, files_below, make_photos, noise


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty folder to work in, with relative names as a user types them."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def photos(here):
    return make_photos(here / "photos", {"anna": 2, "bo": 1, "carl": 3})


def sf2(*arguments):
    """Run a command; whatever comes out is no traceback."""
    shown = CliRunner().invoke(cli, [*map(str, arguments)])
    assert shown.exception is None or isinstance(shown.exception, SystemExit), shown.exception
    return shown


def refused(here, *arguments):
    """The one message of `sf2 pack ARGUMENTS --on-bad fail`, which changes nothing."""
    before, tree = files_below(here), sorted(here.rglob("*"))
    shown = sf2("pack", "--on-bad", "fail", *arguments)
    assert shown.exit_code == 1
    assert shown.stdout == ""
    assert (files_below(here), sorted(here.rglob("*"))) == (before, tree)
    # Progress may stand before it.
    lines = shown.stderr.splitlines()
    message, *rest = (line for line in lines if not line.startswith(("read ", "pack: ")))
    assert message.startswith("error: ")
    # A remedy at most.
    assert len(rest) <= 1
    assert all(line.startswith("  ") for line in rest)
    return shown.stderr


def test_a_table_on_standard_output(photos, here):
    shown = sf2("pack", "photos", "sets/faces", "--holdout", 1, "--size", 8)
    assert shown.exit_code == 0
    rows = [line.split() for line in shown.stdout.splitlines() if "sets/" in line]
    assert [row[1::2][:4] for row in rows] == [
        ["sets/faces-train", "2", "3", "1"],
        ["sets/faces-test", "1", "3", "1"],
    ]
    assert shown.stderr == "pack: 6/6 images  0 s\n"
    assert PackedSet.open(here / "sets" / "faces-test").manifest.image.size == (8, 8)


def test_json_on_standard_output(photos, here):
    (photos / "anna" / "1.jpg").write_bytes(b"")
    shown = sf2("pack", "photos", "faces", "--json", "--on-bad", "skip", "--min-images", 2)
    assert shown.exit_code == 0
    tree = json.loads(shown.stdout)
    assert tree["sets"][0].items() >= {"folder": "faces", "identities": 1, "images": 3}.items()
    assert tree["skipped"] == [{"source": "anna/1.jpg", "reason": "empty file"}]
    assert [one["identity"] for one in tree["dropped"]] == ["bo", "anna"]


def test_what_is_left_out_is_told(photos, here):
    (photos / "anna" / "notes.txt").touch()
    for j in range(12):
        (photos / "carl" / f"bad{j:02d}.png").write_bytes(b"no image")
    shown = sf2("pack", "photos", "faces", "--on-bad", "skip", "--min-images", 2)
    assert shown.exit_code == 0
    assert "warning: 12 images or parts of the source could not be read and were skipped:\n" in (
        shown.stderr
    )
    assert "  carl/bad00.png: " in shown.stderr
    assert "  carl/bad09.png: not a JPEG, PNG, PNM, BMP or WebP image\n" in shown.stderr
    assert "carl/bad10" not in shown.stderr
    assert "  and 2 more, listed in the manifest\n" in shown.stderr
    assert "warning: 1 identities had too few images and were dropped:\n  bo (1)" in shown.stderr
    assert "warning: 1 files or samples are not images of an identity" in shown.stderr


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda here: None, "SOURCE photos: no such folder"),
        (lambda here: (here / "photos").touch(), "SOURCE photos: not a folder"),
        (lambda here: (here / "photos").mkdir(), "SOURCE photos: no image in it"),
        (
            lambda here: make_photos(here, {"photos": 3}),
            "SOURCE photos: 3 images, but none in a sub-folder of an identity",
        ),
        (
            lambda here: make_photos(here, {"photos/a\nb": 1}),
            "SOURCE: in photos the name 'a\\nb' holds a line break",
        ),
        (
            lambda here: make_photos(here, {os.fsdecode(b"photos/\xff"): 1}),
            "SOURCE: in 'photos' the name b'\\xff' is not UTF-8",
        ),
    ],
)
def test_a_source_that_cannot_be_packed(here, make, named):
    make(here)
    assert named in refused(here, "photos", "faces")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (encode(noise(64, 64), "JPEG")[:-20], "corrupt JPEG"),
        (b"", "empty file"),
        (b"<html>not found</html>", "not a JPEG, PNG, PNM, BMP or WebP image"),
    ],
)
def test_a_bad_image_fails_or_is_skipped(photos, here, content, reason):
    (photos / "bo" / "1.jpg").write_bytes(content)
    named = refused(here, "photos", "faces")
    assert f"photos/bo/1.jpg: {reason}" in named
    shown = sf2("pack", "photos", "faces")
    assert shown.exit_code == 0
    assert f"bo/1.jpg: {reason}" in shown.stderr
    assert len(PackedSet.open(here / "faces")) == 6


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["photos", "photos"], "OUT photos and SOURCE photos: one lies within the other"),
        (["photos", "photos/faces"], "one lies within the other"),
        (["photos", "."], "OUT .: a set cannot be called ''"),
        (["photos", "a:b:"], "OUT a:b:: a set cannot be called 'a:b:'"),
        (["", "faces"], "SOURCE '': no name"),
        (["photos", "there"], "OUT there exists already"),
        (["photos", "there", "--overwrite"], "OUT there exists and is not a packed set"),
        (["photos", "there/faces"], "OUT there/faces: cannot be written"),
        (["photos", "/proc/faces"], "OUT /proc/faces: cannot be written"),
        (["photos", "faces", "--holdout", "3"], "--holdout 3: there are only 3 identities"),
        (["photos", "faces", "--min-images", "4"], "--min-images 4: no identity has as many"),
        (
            ["photos", "faces", "--holdout", "2", "--min-images", "2"],
            "--holdout 2: there are only 2 identities",
        ),
    ],
)
def test_a_request_that_cannot_be_met(photos, here, arguments, named):
    (here / "there").touch()
    assert named in refused(here, *arguments)


def test_one_identity_of_one_image(here):
    make_photos(here / "photos", {"anna": 1})
    assert sf2("pack", "photos", "faces").exit_code == 0
    assert len(PackedSet.open(here / "faces")) == 1
    assert "--holdout 1: there are only 1 identities" in refused(
        here, "photos", "more", "--holdout", 1
    )


def test_names_of_every_kind(here):
    names = ["J. R. Oppenheimer", "王 小明", "[/red] :b: 🙂", "a{1..2}", "-rf", "%s"]
    make_photos(here / "photos", dict.fromkeys(names, 2))
    shown = sf2("pack", "photos", "my [/b] faces")
    assert shown.exit_code == 0
    assert "my [/b] faces" in shown.stdout
    assert sorted(PackedSet.open(here / "my [/b] faces").manifest.identities) == sorted(names)
    (here / "photos" / "[/red] :b: 🙂" / "bad.jpg").touch()
    named = refused(here, "photos", "x")
    assert "photos/[/red] :b: 🙂/bad.jpg: empty file" in named


def test_odd_but_good_images_make_no_noise(here):
    """Pillow warns of palettes with transparency; nobody can do anything about it."""
    from PIL import Image

    (here / "photos" / "anna").mkdir(parents=True)
    palette = Image.fromarray(noise(8, 8)).quantize(16)
    data = encode(palette, "PNG", transparency=bytes(range(16)))
    (here / "photos" / "anna" / "1.png").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-m", "sf2cli.cli", "pack", "photos", "faces"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "pack: 1/1 images  0 s\n")


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_packing_that_is_stopped_makes_no_set(photos, here, number, status):
    # Nothing ever comes out of a pipe without a writer, so packing stops here for good.
    os.mkfifo(photos / "carl" / "never.jpg")
    running = subprocess.Popen(
        [sys.executable, "-m", "sf2cli.cli", "pack", "photos", "sets/faces"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 60
    while not list(here.glob("sets/.faces.partial/journal.jsonl")):
        assert running.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    running.send_signal(number)
    out, err = running.communicate(timeout=60)
    assert running.returncode == status
    assert (out, err) == ("", "error: interrupted\n" if number == signal.SIGINT else "")
    assert not (here / "sets" / "faces").exists()
    if number == signal.SIGKILL:
        (photos / "carl" / "never.jpg").unlink()
        shown = sf2("pack", "photos", "sets/faces")
        assert shown.exit_code == 0
        assert not list((here / "sets").glob(".*"))
    else:
        assert not (here / "sets").exists()


def test_training_on_a_set_whose_tar_was_cut_is_refused(photos, here):
    assert sf2("pack", "photos", "faces").exit_code == 0
    tar = here / "faces" / "faces-000000.tar"
    tar.write_bytes(tar.read_bytes()[:-700])
    (here / "ds.json").write_text("{}")
    (here / "recipe.yaml").write_text(
        "{name: t, data: {shards: faces}, backbone: {name: sfnet4}, schedule: {steps: 1}}"
    )
    shown = sf2("train", "recipe.yaml", "--deepspeed", "ds.json")
    assert shown.exit_code == 1
    assert "faces/faces-000000.tar has " in shown.stderr
    assert "cut short" in shown.stderr
    assert not (here / "runs").exists()


def test_a_dry_run_counts_by_the_same_rules(here):
    photos = make_photos(here / "photos", {"anna": 5, "bo": 1, "carl": 4, "dora": 2, "emil": 2})
    (photos / "carl" / "1.jpg").write_bytes(b"")
    (photos / "dora" / "0.jpg").write_bytes(b"")
    arguments = ["--holdout", 1, "--min-images", 2, "--size", 12, "--json"]
    before = files_below(here)
    counted = sf2("pack", "photos", "sets/faces", "--dry-run", *arguments)
    assert counted.exit_code == 0
    assert files_below(here) == before
    assert not (here / "sets").exists()
    packed = sf2("pack", "photos", "sets/faces", *arguments)
    assert json.loads(counted.stdout) == json.loads(packed.stdout)
    assert counted.stderr == packed.stderr
    assert "dora (1)" in counted.stderr
    shown = sf2("pack", "photos", "sets/faces", "--dry-run").stdout
    assert shown.startswith("would be packed")


def test_verify(photos, here):
    assert sf2("pack", "photos", "faces").exit_code == 0
    shown = sf2("pack", "--verify", "faces")
    assert shown.exit_code == 0
    assert [line.split()[1::2] for line in shown.stdout.splitlines() if "faces" in line] == [
        ["faces", "3", "6", "1"]
    ]
    tar = here / "faces" / "faces-000000.tar"
    content = bytearray(tar.read_bytes())
    content[1700] ^= 1
    tar.write_bytes(content)
    shown = sf2("pack", "--verify", "faces", "--workers", 2)
    assert (shown.exit_code, shown.stdout) == (1, "")
    assert "error: packed set faces: " in shown.stderr
    assert "  faces-000000.tar: its sha256 is " in shown.stderr
    assert "packed set none: no such folder" in sf2("pack", "--verify", "none").stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["photos"], "Missing argument 'OUT'"),
        (["faces", "out", "--verify"], "--verify takes one packed set and no OUT"),
        (["photos", "faces", "--workers", "0"], "--workers"),
        (["photos", "faces", "--workers", str(MOST + 1)], f"1<=x<={MOST}"),
    ],
)
def test_usage(photos, here, arguments, named):
    shown = sf2("pack", *arguments)
    assert shown.exit_code == 2
    assert named in shown.stderr


def test_ctrl_c_and_again(here):
    """Interrupted after a shard of many, told so, and the same command makes the same set."""
    picture = encode(noise(64, 64), "PNG")
    for i in range(30):
        (here / "photos" / f"{i}").mkdir(parents=True)
        for j in range(60):
            (here / "photos" / f"{i}" / f"{j:02d}.png").write_bytes(picture)
    arguments = ["photos", "sets/faces", "--shard-size", "1", "--workers", "2"]
    assert sf2("pack", *arguments).exit_code == 0
    expected = files_below(here / "sets")
    (here / "sets").rename(here / "undisturbed")
    running = subprocess.Popen(
        [sys.executable, "-m", "sf2cli.cli", "pack", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        journal = here / "sets" / ".faces.partial" / "journal.jsonl"
        deadline = time.monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.002)
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=60)
    finally:
        running.kill()
    assert (running.returncode, out) == (130, "")
    assert "kept in sets/.faces.partial: " in err
    assert err.endswith("error: interrupted\n")
    assert not (here / "sets" / "faces").exists()
    other = sf2("pack", *arguments, "--size", 32)
    assert "holds an interrupted packing with another option: --size none" in other.stderr
    again = sf2("pack", *arguments)
    assert again.exit_code == 0
    assert "going on after " in again.stderr
    assert files_below(here / "sets") == expected
