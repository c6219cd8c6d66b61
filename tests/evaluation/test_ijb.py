"""IJB from its lists to the numbers, against plain loops; and lists that do not fit."""

import shutil

import numpy as np
import pytest

from sf2cli.data.align import align
from sf2cli.errors import Sf2Error
from sf2cli.evaluation.ijb import open_ijb
from sf2cli.evaluation.ijb_files import read_ijb
from tests.evaluation.protocols import crop, write_ijb


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    return write_ijb(tmp_path_factory.mktemp("ijb") / "IJBC")


@pytest.fixture
def root(sound, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(sound, tmp_path / "IJBC")


def features(n=24, d=5):
    generator = np.random.default_rng(0)
    people = generator.normal(size=(-(-n // 4), d)).repeat(4, axis=0)[:n]
    return (people + generator.normal(size=(n, d))).astype(np.float32)


def plain_templates(rows, weighted=True):
    """Template id to unit embedding, written out for the packaging of `write_ijb`."""
    found = {}
    for k in range(6):
        a, b, c, d = rows[4 * k : 4 * k + 4].astype(np.float64)
        if weighted:
            a, b, c, d = 0.9 * a, 0.8 * b, 0.7 * c, 0.6 * d
        for template, total in ((10 * k, (a + b) / 2 + c), (10 * k + 1, d)):
            found[template] = total / np.linalg.norm(total)
    return found


def test_lists(sound):
    found = read_ijb(sound)
    assert (found.name, len(found.crops), len(found.pairs)) == ("IJB-C", 24, 66)
    assert found.template[:4].tolist() == [0, 0, 0, 1]
    assert found.medium[:4].tolist() == [1, 1, 2, 3]
    assert found.score[:4].tolist() == [0.9, 0.8, 0.7, 0.6]
    assert {name: one.subjects.tolist() for name, one in found.galleries.items()} == {
        "G1": [0, 2],
        "G2": [1, 3],
    }
    assert found.galleries["G1"].repeated == 4
    assert found.probes.templates.tolist() == [1, 11, 21, 31, 41, 51]


def test_crops_are_aligned_when_they_are_read(sound):
    found = read_ijb(sound).crops
    np.testing.assert_array_equal(found.decode(5, 112, 3), crop(1, 1))
    assert found.decode(5, 16, 1).shape == (16, 16, 1)
    moved = found.landmarks + np.array([3, -2])
    shifted = type(found)(found.root, found.names, moved)
    np.testing.assert_array_equal(shifted.decode(5, 112, 3), align(crop(1, 1), moved[5]))


@pytest.mark.parametrize("convention", ["sf2", "insightface", "opensphere"])
def test_one_to_one(sound, convention):
    rows = features()
    finding = open_ijb(sound, convention).measure({"model": rows})[0]
    templates = plain_templates(rows, weighted=convention != "opensphere")
    ids = sorted(templates)
    genuine, impostor = [], []
    for i, a in enumerate(ids):
        for b in ids[i + 1 :]:
            kind = genuine if a // 10 == b // 10 else impostor
            kind.append(float(templates[a] @ templates[b]))
    assert (finding.numbers["genuine"], finding.numbers["impostor"]) == (6, 60)
    tar, strict, *unsupported = finding.numbers["results"]["model"]["tar_at_far"]
    if convention == "sf2":
        best = max(
            sum(g >= t for g in genuine)
            for t in [*genuine, *impostor]
            if sum(s >= t for s in impostor) <= 6
        )
        assert tar["tar"] == best / 6
        assert tar["interval"]["low"] < tar["tar"] <= tar["interval"]["high"]
    assert tar["tar"] is not None
    for one in (strict, *unsupported):
        assert one["tar"] is None
    assert any("needs at least 100 impostor pairs; there are 60" in note for note in finding.notes)


def test_one_to_many_averages_the_galleries(sound):
    rows = features()
    finding = open_ijb(sound, "sf2").measure({"model": rows})[1]
    templates = plain_templates(rows)
    rates = []
    for name, members in (("G1", (0, 2)), ("G2", (1, 3))):
        hits = sum(
            all(
                templates[10 * k + 1] @ templates[10 * k]
                > templates[10 * k + 1] @ templates[10 * e]
                for e in members
                if e != k
            )
            for k in members
        )
        found = finding.numbers["results"][f"gallery {name}"]["rank_rates"][0]
        assert (found["hits"], found["probes"]) == (hits, 2)
        rates.append(hits / 2)
    assert finding.table.rows[-1][:2] == ["mean", f"{sum(rates) / 2:.2%}"]
    assert "Probes of people in no gallery: 2; they are non-mated." in finding.notes


def test_peers_search_both_galleries_as_one(sound):
    finding = open_ijb(sound, "insightface").measure({"model": features()})[1]
    assert list(finding.numbers["results"]) == ["gallery G1 + G2"]
    assert finding.numbers["results"]["gallery G1 + G2"]["rank_rates"][0]["probes"] == 4
    assert "not the open-set definition" in finding.definitions["TPIR at FPIR"]


def test_what_is_absent_or_repeated_is_told(root):
    def notes(k=0):
        found = open_ijb(root, "sf2").measure({"model": features(len(read_ijb(root).crops))})
        return " ".join(found[k].notes)

    for name in (FACES, POINTS):
        path = root / "meta" / name
        path.write_text(path.read_text() + path.read_text().splitlines()[-1] + "\n")
    with (root / "meta" / PAIRS).open("a") as stream:
        stream.write("0 0 1\n1 0 0\n")
    told = notes()
    assert "Lines that name an image of a template again: 1; each counts." in told
    assert "Pairs of an image or template with itself: 1; each counts." in told
    assert "repeat a pair: 1; each counts, and 1 pair is called both genuine and impostor" in told
    (root / "meta/ijbc_1N_gallery_G2.csv").unlink()
    assert "There is one gallery, where IJB-C has two, averaged." in notes(1)
    (root / "meta" / PAIRS).unlink()
    assert "There is no list of template pairs: 1:1 is not measured." in notes()


def test_probes_without_a_mate_are_told(root):
    path = root / "meta" / PROBES
    path.write_text("TEMPLATE_ID,SUBJECT_ID\n41,4\n51,5\n")
    finding = open_ijb(root, "sf2").measure({"model": features()})[1]
    assert finding.table.rows[-1][1:] == ["-"] * 5
    assert any("G1: No probe has a mate" in note for note in finding.notes)


def test_kept_for_a_comparison(sound):
    one_to_one, one_to_many = open_ijb(sound, "sf2").measure({"model": features()})
    pairs, searches = one_to_one.kept, one_to_many.kept
    # Genuine pairs join the two templates of each person; other pairs are of two people.
    assert len(np.unique([pairs.first, pairs.second])) == 6
    np.testing.assert_array_equal(pairs.first == pairs.second, pairs.issame)
    assert searches.people.tolist() == [0, 1, 2, 3, 4, 5]
    assert list(searches.galleries) == ["gallery G1", "gallery G2"]


def test_templates_that_cancel_are_counted(sound):
    rows = features()
    rows[3] = 0
    assert any(
        "Templates whose features cancel: 1;" in note
        for finding in open_ijb(sound, "sf2").measure({"model": rows})
        for note in finding.notes
    )


def replaced(name, old, new):
    def spoil(root):
        path = root / "meta" / name
        text = path.read_bytes().decode()
        assert old in text
        path.write_bytes(text.replace(old, new, 1).encode())

    return spoil


FACES, POINTS = "ijbc_face_tid_mid.txt", "ijbc_name_5pts_score.txt"
PAIRS, PROBES = "ijbc_template_pair_label.txt", "ijbc_1N_probe_mixed.csv"
UNSOUND = {
    "no packaging": (lambda root: shutil.rmtree(root / "meta"), "neither meta/ijbb_face_tid_mid"),
    "no pairs and no probes": (
        lambda root: [(root / "meta" / name).unlink() for name in (PAIRS, PROBES)],
        "neither ijbc_template_pair_label.txt nor ijbc_1N_probe_mixed.csv",
    ),
    "missing images": (
        lambda root: [(root / "loose_crop" / f"{n}.jpg").unlink() for n in (2, 7)],
        "2 of 24 images are missing: 2.jpg, 7.jpg",
    ),
    "odd columns": (replaced(FACES, "3.jpg 0 2", "3.jpg 0"), "line 3: found '3.jpg 0'"),
    "a landmark that is no number": (
        replaced(POINTS, "2.jpg 38", "2.jpg nan"),
        "line 2: found '2.jpg nan",
    ),
    "a template that is no whole number": (
        replaced(FACES, "3.jpg 0 2", "3.jpg 0.5 2"),
        "1 of 24 lines without whole numbers, the first of 3.jpg",
    ),
    "a score below 0": (
        replaced(POINTS, " 0.8", " -0.8"),
        "1 of 24 scores is below 0, the first of 2.jpg: -0.8",
    ),
    "an image elsewhere": (replaced(FACES, "3.jpg", "../3.jpg"), "line 3: '../3.jpg' leads out"),
    "an empty list of pairs": (
        lambda root: (root / "meta" / PAIRS).write_text(""),
        "ijbc_template_pair_label.txt: no pairs in it",
    ),
    "other names": (replaced(POINTS, "3.jpg", "4.jpg"), "image 3: 3.jpg, where .* has 4.jpg"),
    "fewer names": (
        lambda root: (root / "meta" / POINTS).write_text(
            "\n".join((root / "meta" / POINTS).read_text().splitlines()[:-1])
        ),
        "24 images, where .* has 23",
    ),
    "a pair of three": (replaced(PAIRS, "0 10 0", "0 10 0 1"), "line 2: found '0 10 0 1'"),
    "a pair of words": (replaced(PAIRS, "0 10 0", "0 x 0"), "line 2: found '0 x 0'"),
    "another label": (
        replaced(PAIRS, "0 10 0", "0 10 2"),
        "1 pair with another label than 0 or 1, the first of templates 0 and 10: 2",
    ),
    "a template without images": (
        replaced(PAIRS, "0 10 0", "0 77 0"),
        "1 of its 13 templates has no image: 77",
    ),
    "a probe without images": (
        replaced(PROBES, "11,1", "77,1"),
        "1 of its 6 templates has no image: 77",
    ),
    "a template of two people": (
        replaced("ijbc_1N_gallery_G1.csv", "0,0,img/0_1", "0,5,img/0_1"),
        "line 3: template 0 is of subject 5, and of 0 before",
    ),
    "no heading": (replaced(PROBES, "TEMPLATE_ID", "FILE"), "line 1: expected TEMPLATE_ID"),
    "a subject that is no number": (replaced(PROBES, "11,1", "11,x"), "line 3: found '11,x"),
    "an empty gallery": (
        lambda root: (root / "meta/ijbc_1N_gallery_G2.csv").write_text("TEMPLATE_ID,SUBJECT_ID\n"),
        "no templates in it",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), UNSOUND.values(), ids=UNSOUND)
def test_lists_that_do_not_fit_are_refused_by_name(root, spoil, message):
    spoil(root)
    with pytest.raises(Sf2Error, match=message):
        open_ijb(root, "sf2")


def test_pairs_of_one_kind_are_refused(root):
    (root / "meta" / PAIRS).write_text("0 10 0\n0 20 0\n")
    with pytest.raises(Sf2Error, match="none of the 2 template pairs is genuine"):
        open_ijb(root, "sf2")


def test_two_templates_of_a_person_in_a_gallery_count_as_one_person(root):
    with (root / "meta/ijbc_1N_gallery_G1.csv").open("a") as stream:
        stream.write("\n1,0,img/x.jpg\n")
    finding = open_ijb(root, "sf2").measure({"model": features()})[1]
    assert any("people who have another one there: 1;" in n for n in finding.notes)
    # Probe 1 is that template itself.
    assert finding.numbers["results"]["gallery G1"]["rank_rates"][0]["hits"] >= 1


def test_an_unreadable_crop_is_named(root):
    (root / "loose_crop/5.jpg").write_bytes(b"no image")
    with pytest.raises(Sf2Error, match=r"5\.jpg: "):
        read_ijb(root).crops.decode(4, 112, 3)
