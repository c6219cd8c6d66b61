"""`sf2 audit` on a set with planted faults, and `sf2 pack` with the lists it writes."""

import json
import re

import numpy as np
import pytest

from sf2cli.audit import people
from sf2cli.audit.likeness import unit
from sf2cli.data.packed import PackedSet
from tests.commands.test_pack import here, sf2
from tests.evaluation.small import write_model, write_photos
from tests.pictures import encode, files_below

__all__ = ["here"]


def smooth(seed, size=48):
    """A picture of large patches, as faces have; uint8 [size, size, 3]."""
    patches = np.random.default_rng(seed).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return patches.repeat(size // 12, axis=0).repeat(size // 12, axis=1)


def write(path, picture, kind="PNG", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(picture, kind, **options))


@pytest.fixture
def photos(here):
    root = here / "photos"
    for k, name in enumerate(("anna", "bo", "carl", "dora")):
        for j in range(4):
            write(root / name / f"{j}.png", smooth(10 * k + j))
    write(root / "anna" / "again.png", smooth(0))
    write(root / "bo" / "annas.png", smooth(1))
    write(root / "carl" / "recoded.jpg", smooth(20), "JPEG", quality=70)
    write(root / "dora" / "carls.png", smooth(21, 96))
    write(root / "lone" / "1.png", smooth(90))
    assert sf2("pack", "photos", "sets/faces").exit_code == 0
    return root


def audit(*arguments, of="sets/faces"):
    shown = sf2("audit", of, "--json", *arguments)
    assert shown.exit_code == 0, shown.stderr
    return json.loads(shown.stdout)


def lines(path):
    return [line for line in path.read_text().splitlines() if not line.startswith("# ")]


def test_what_needs_no_model(photos, here):
    before = files_below(here / "sets" / "faces")
    found = audit()
    assert found["counts"] == {
        "duplicates_within": 1,
        "duplicates_across": 1,
        "near_within": 1,
        "near_across": 1,
        "unreadable": 0,
        "few_images": 1,
        "odd_size": 1,
    }
    assert found["duplicates_within"] == [
        {"identities": ["anna"], "images": ["anna/0.png", "anna/again.png"]}
    ]
    assert found["duplicates_across"] == [
        {"identities": ["anna", "bo"], "images": ["anna/1.png", "bo/annas.png"]}
    ]
    assert found["near_within"][0]["images"] == ["carl/0.png", "carl/recoded.jpg"]
    assert found["near_across"][0]["images"] == ["carl/1.png", "dora/carls.png"]
    assert found["few_images"] == [{"identity": "lone", "images": 1}]
    assert found["odd_size"] == [{"image": "dora/carls.png", "size": [96, 96]}]
    folder = here / "sets" / "faces-audit"
    assert json.loads((folder / "audit.json").read_text()) == found
    assert lines(folder / "drop.txt") == ["anna/again.png", "anna/1.png", "bo/annas.png"]
    assert lines(folder / "merge.txt") == []
    assert files_below(here / "sets" / "faces") == before


def test_the_page_stands_alone_and_shows_the_pictures(photos, here):
    shown = sf2("audit", "sets/faces")
    assert shown.exit_code == 0
    assert "warning" not in shown.stderr
    assert "One image in several identities" in shown.stdout
    page = (here / "sets" / "faces-audit" / "audit.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:image/png|#)', page) == []
    assert set(re.findall(r'alt="([^"]*)"', page)) == {
        *("anna/0.png", "anna/again.png", "anna/1.png", "bo/annas.png", "carl/0.png"),
        *("carl/recoded.jpg", "carl/1.png", "dora/carls.png"),
    }


def test_the_lists_make_a_set_without_the_faults(photos, here):
    audit("--out", "found")
    assert sf2("pack", "sets/faces", "sets/clean", "--drop", "found/drop.txt").exit_code == 0
    counts = audit(of="sets/clean")["counts"]
    assert (counts["duplicates_within"], counts["duplicates_across"]) == (0, 0)
    packed = PackedSet.open(here / "sets" / "clean")
    assert packed.manifest.samples_per_identity == [3, 4, 5, 5, 1]
    assert packed.manifest.made_by["source"]["edited"] == {
        "drop": "drop.txt",
        "images_dropped": 3,
        "identities_merged": 0,
    }


def test_an_earlier_audit_is_replaced_only_when_asked(photos, here):
    audit("--out", "found")
    before = files_below(here / "found")
    shown = sf2("audit", "sets/faces", "--out", "found")
    assert shown.exit_code == 1
    assert "--out found: a report is there already (audit.json)" in shown.stderr
    assert files_below(here / "found") == before
    audit("--out", "found", "--overwrite", "--min-images", 9)
    assert files_below(here / "found") != before


def test_an_unreadable_image_is_listed(photos, here):
    tar = here / "sets" / "faces" / "faces-000000.tar"
    packed = PackedSet.open(here / "sets" / "faces")
    whole, image = tar.read_bytes(), packed.read(7)
    at = whole.index(image)
    tar.write_bytes(whole[: at + 40] + bytes(len(image) - 40) + whole[at + len(image) :])
    found = audit("--out", "found")
    assert [one["image"] for one in found["unreadable"]] == [packed.source(7)]
    assert packed.source(7) in lines(here / "found" / "drop.txt")
    shown = sf2("audit", "sets/faces", "--model", "run")
    assert (shown.exit_code, "it cannot look at 1 images" in shown.stderr) == (1, True)
    assert all(packed.source(7) not in one["images"] for one in found["near_across"])


@pytest.fixture
def model(monkeypatch):
    """A model that sees who is in a picture, from the file's name before the first dot or digit."""
    who = {"again": "anna", "annas": "anna", "carls": "carl", "recoded": "carl"}
    names = ["anna", "bo", "carl", "dora", "lone"]

    def see(packed, model):
        random = np.random.default_rng(0)
        people_seen = []
        for i in range(len(packed)):
            folder, file = packed.source(i).split("/")
            people_seen.append(names.index(who.get(file.partition(".")[0], folder.split("-")[0])))
        noise = random.normal(size=(len(packed), 5)).astype(np.float32)
        return unit(np.eye(5, dtype=np.float32)[people_seen] + 0.02 * noise)

    monkeypatch.setattr(people, "embeddings", see)


def test_what_a_model_finds_and_the_lists_mend(photos, here, model):
    for j in range(3):
        write(photos / "anna-too" / f"{j}.png", smooth(70 + j))
    assert sf2("pack", "photos", "sets/faces", "--overwrite").exit_code == 0
    found = audit("--model", "run", "--out", "found")
    assert [one["identities"] for one in found["one_person"]] == [["anna", "anna-too"]]
    strangers = {one["image"]: one["looks_like"] for one in found["strangers"]}
    assert set(strangers) == {"bo/annas.png", "dora/carls.png"}
    assert strangers["dora/carls.png"] == "carl"
    assert lines(here / "found" / "merge.txt") == ["anna\tanna-too"]
    lists = ("--drop", "found/drop.txt", "--merge", "found/merge.txt")
    assert sf2("pack", "sets/faces", "sets/clean", *lists).exit_code == 0
    packed = PackedSet.open(here / "sets" / "clean")
    assert packed.manifest.identities == ["anna", "bo", "carl", "dora", "lone"]
    assert packed.manifest.samples_per_identity == [6, 4, 5, 4, 1]
    assert "anna-too/2.png" in [packed.source(i) for i in range(6)]
    again = audit("--model", "run", of="sets/clean")["counts"]
    assert (again["one_person"], again["strangers"], again["duplicates_across"]) == (0, 0, 0)


def test_a_model_that_was_never_trained_tells_patterns_apart(here):
    """The whole way through a model folder; its pictures are the identity's pattern with noise."""
    write_photos(here / "photos", 5, 6)
    (here / "photos" / "again").mkdir()
    for j in (1, 3, 5):
        file = f"id2_{j:04d}.png"
        (here / "photos" / "id2" / file).rename(here / "photos" / "again" / file)
    (here / "photos" / "id4" / "id4_0002.png").rename(here / "photos" / "id0" / "wrong.png")
    assert sf2("pack", "photos", "faces").exit_code == 0
    write_model(here / "model")
    shown = sf2("audit", "faces", "--json", "--model", "model")
    found = json.loads(shown.stdout)
    strangers = found["counts"]["strangers"]
    assert f"warning: to --model model {strangers} of 30 images look more like" in shown.stderr
    assert found["one_person"][0]["identities"] == ["again", "id2"]
    first = found["strangers"][0]
    assert (first["image"], first["looks_like"]) == ("id0/wrong.png", "id4")


def test_against_another_set(photos, here, model):
    write(here / "tests" / "bo" / "9.png", smooth(500))
    write(here / "tests" / "eve" / "copied.png", smooth(32))
    write(here / "tests" / "fay" / "carls.png", smooth(22, 96))
    assert sf2("pack", "tests", "sets/test").exit_code == 0
    found = audit("--against", "sets/test", "--out", "found")
    assert found["overlap_names"] == [{"identity": "bo"}]
    assert found["overlap_duplicates"] == [{"images": ["dora/2.png"], "other": "eve/copied.png"}]
    assert [one["images"] for one in found["overlap_near"]] == [["carl/2.png", "fay/carls.png"]]
    assert {"bo/", "dora/2.png", "carl/2.png"} <= set(lines(here / "found" / "drop.txt"))
    (here / "tests" / "eve" / "copied.png").unlink()
    assert sf2("pack", "tests", "sets/test", "--overwrite").exit_code == 0
    found = audit("--against", "sets/test", "--model", "run", "--one-person-from", 0.9)
    alike = sorted(one["identities"] for one in found["overlap_people"])
    assert alike == [["bo", "bo"], ["carl", "fay"]]


def test_table_page_and_lists_have_the_same_numbers(photos, here):
    write(here / "tests" / "eve" / "copied.png", smooth(0))
    write(here / "tests" / "eve" / "twice.png", smooth(0))
    assert sf2("pack", "tests", "sets/test").exit_code == 0
    shown = sf2("audit", "sets/faces", "--against", "sets/test", "--out", "found")
    cells = [line.strip("│ ").split("│") for line in shown.stdout.splitlines() if "│" in line]
    table = {what.strip(): (int(found), int(lines)) for what, found, lines in cells}
    # anna/again.png is dropped already, as a copy.
    assert table["Images that test has too"] == (1, 1)
    assert sum(count for _, count in table.values()) == len(lines(here / "found" / "drop.txt"))
    page = (here / "found" / "audit.html").read_text()
    rows = re.findall(r">([^<]*)</a></td><td>(\d+)</td>\s*<td>(\d+)</td>", page)
    assert {what: (int(found), int(count)) for what, found, count in rows} == table
    counts = json.loads((here / "found" / "audit.json").read_text())["counts"]
    assert list(counts.values()) == [found for found, _ in table.values()]
    for name in (name for name, count in counts.items() if count):
        section = re.search(rf'<h2 id="{name}">.*?(?=<h2|</body>)', page, re.DOTALL)[0]
        assert (section.count("<figure>") or section.count("<li>")) == counts[name]


def test_mistakes(photos, here):
    shown = sf2("audit", "photos")
    assert (shown.exit_code, "no manifest.json" in shown.stderr) == (1, True)
    (here / "file").write_text("")
    shown = sf2("audit", "sets/faces", "--out", "file")
    assert (shown.exit_code, "--out file: file is not a folder" in shown.stderr) == (1, True)
    shown = sf2("audit", "sets/faces", "--one-person-from", 0.5)
    assert (shown.exit_code, "--one-person-from needs --model" in shown.stderr) == (2, True)
    shown = sf2("audit", "sets/faces", "--model", "none")
    assert (shown.exit_code, "none" in shown.stderr) == (1, True)
