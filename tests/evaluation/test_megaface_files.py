"""MegaFace's folder: which photos count, what the noise lists take out, what does not fit."""

import json

import numpy as np
import pytest

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.megaface_files import read_megaface
from sf2cli.evaluation.megaface_task import open_megaface
from tests.evaluation.protocols import write_megaface


@pytest.fixture
def root(tmp_path):
    return write_megaface(tmp_path / "megaface")


def test_photos_and_people(root):
    found = read_megaface(root)
    assert len(found.photos) == 8 + 7
    assert found.people.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    assert found.photos.source(0) == "facescrub_images/Ann_0/Ann_0_0.png"
    assert found.photos.source(8) == "megaface_images/00/7@N00/0_0.png"
    assert (found.noisy_probes, found.noisy_distractors, found.cleaned) == (1, 1, True)
    assert found.photos.decode(0, 16, 1).shape == (16, 16, 1)


def test_without_noise_lists_all_count_and_the_report_says_so(root):
    for name in ("facescrub", "megaface"):
        (root / f"{name}_noises.txt").unlink()
    task = open_megaface(root)
    assert len(task.faces) == 9 + 8
    (finding,) = task.measure({"model": np.ones((17, 3), np.float32)})
    assert "There is no noise list: mislabelled photos count as errors." in finding.notes


def test_devkit_lists_choose_the_probes_and_the_most_distractors(root):
    lists = root / "devkit" / "templatelists"
    lists.mkdir(parents=True)
    names = (root / "megaface_lst").read_text().split()
    for count in (2, 5):
        path = lists / f"megaface_features_list.json_{count}_1"
        path.write_text(json.dumps({"path": names[:count]}))
    probes = {"path": ["Ann_1/Ann_1_0.png", "Ann_1/Ann_1_2.png"], "id": ["Ann_1"] * 2}
    (lists / "facescrub_features_list.json").write_text(json.dumps(probes))
    found = read_megaface(root)
    assert found.people.tolist() == [0, 0]
    assert len(found.photos) == 2 + 5


def test_dropping_noise_gives_the_ranks_of_the_published_cleaning(root):
    """InsightFace keeps noisy distractors with an extra coordinate that matches nothing."""
    generator = np.random.default_rng(0)
    rows = generator.normal(size=(15, 4)).astype(np.float32)
    (finding,) = open_megaface(root).measure({"model": rows.copy()})
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    people, hits, trials = [0, 0, 0, 1, 1, 1, 2, 2], 0, 0
    # The eighth distractor, taken out, would stand at distance 100 in the extra coordinate.
    distractors = [*(np.append(d, 0) for d in unit[8:]), np.append(unit[8], 100)]
    for i in range(8):
        for j in range(8):
            if i != j and people[i] == people[j]:

                def distance(other, j=j):
                    return np.linalg.norm(np.append(unit[j], 0) - other)

                trials += 1
                hits += distance(np.append(unit[i], 0)) < min(map(distance, distractors))
    found = finding.numbers["results"]["model"]["rank_rates"][0]
    assert (found["hits"], found["probes"]) == (hits, trials)
    assert finding.numbers["noisy_distractors"] == 1


def test_a_person_with_one_photo_is_a_probe_without_a_mate(root):
    (root / "facescrub_noises.txt").write_text("Ann_2_2.png\nAnn_2/Ann_2_1.png\n")
    (finding,) = open_megaface(root).measure({"model": np.eye(14, dtype=np.float32)})
    assert "People with one photo: 1; each is a probe without a mate." in finding.notes
    assert finding.numbers["results"]["model"]["rank_rates"][0]["probes"] == 12


def test_photos_that_are_listed_again_count_once_and_are_told(root):
    with (root / "facescrub_lst").open("a") as stream:
        stream.write("Ann_0/Ann_0_0.png\n")
    (finding,) = open_megaface(root).measure({"model": np.eye(15, dtype=np.float32)})
    assert "Lines that name a photo again: 1; each counts once." in finding.notes
    assert finding.numbers["probes"] == 8


UNSOUND = {
    "missing photos": (
        lambda root: (root / "megaface_images/01/7@N01/1_0.png").unlink(),
        "1 of 15 photos is missing: megaface_images/01/7@N01/1_0.png",
    ),
    "no lists": (lambda root: (root / "facescrub_lst").unlink(), "neither facescrub_lst nor"),
    "no distractors": (lambda root: (root / "megaface_lst").write_text("\n"), "no distractor on"),
    "nobody with two photos": (
        lambda root: (root / "facescrub_lst").write_text("Ann_0/Ann_0_0.png\n"),
        "nobody with two probe photos",
    ),
    "no folder": (lambda root: (root / "megaface_lst").write_text("a.png\n"), "found 'a.png'"),
    "outside": (lambda root: (root / "megaface_lst").write_text("../a.png\n"), "'../a.png'"),
    "no JSON": (
        lambda root: (root / "facescrub_features_list.json").write_text("{"),
        "expected JSON with a list `path`",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), UNSOUND.values(), ids=UNSOUND)
def test_what_does_not_fit_is_refused_by_name(root, spoil, message):
    spoil(root)
    with pytest.raises(Sf2Error, match=message):
        read_megaface(root)
