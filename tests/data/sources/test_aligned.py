"""Alignment on the way from a source into a set."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from sf2cli.data.align import SIZE, TEMPLATE, align
from sf2cli.data.images import decode_image
from sf2cli.data.packed import PackedSet
from sf2cli.data.sources import aligned
from sf2cli.data.sources.att import AttSource
from tests.commands.test_pack import here, refused, sf2
from tests.pictures import encode, make_photos, noise

__all__ = ["here"]

SHIFTED = TEMPLATE * 0.5 + 10


@pytest.fixture
def photos(here):
    """Two photos to align, one that is aligned, one without a face."""
    root = make_photos(here / "photos", {"anna": 2, "bo": 1}, size=100)
    (root / "bo" / "done.jpg").write_bytes(encode(noise(SIZE, SIZE), "JPEG"))
    points = {"anna/0.jpg": SHIFTED, "anna/1.jpg": SHIFTED + 3, "bo/done.jpg": TEMPLATE + 0.1}
    rows = {name: one.tolist() for name, one in points.items()}
    (here / "points.json").write_text(json.dumps(rows))
    return root


def pack(*arguments):
    shown = sf2("pack", "photos", "faces", *arguments)
    assert shown.exit_code == 0, shown.stderr
    packed = PackedSet.open(Path("faces"))
    return shown, packed, {packed.source(i): packed.read(i) for i in range(len(packed))}


def test_dropped_without_a_face(photos):
    shown, packed, images = pack("--align", "points.json", "--no-face", "drop")
    assert list(images) == ["anna/0.jpg", "anna/1.jpg", "bo/done.jpg"]
    for name, points in (("anna/0.jpg", SHIFTED), ("anna/1.jpg", SHIFTED + 3)):
        face = align(decode_image((photos / name).read_bytes(), 3), points)
        assert np.array_equal(decode_image(images[name], 3), face)
    assert images["bo/done.jpg"] == (photos / "bo" / "done.jpg").read_bytes()
    assert packed.manifest.image.size == (SIZE, SIZE)
    assert packed.manifest.made_by["alignment"] == {
        "template": "112 x 112, five points",
        "landmarks": "points.json",
        "no_face": {"rule": "drop", "images": ["bo/0.jpg"]},
    }
    assert "warning: 1 images have no face and are dropped:\n  bo/0.jpg" in shown.stderr
    assert shown.stderr.count("no face") == 1


def test_kept_without_a_face(photos):
    shown, packed, images = pack("--align", "points.json", "--no-face", "keep")
    assert images["bo/0.jpg"] == (photos / "bo" / "0.jpg").read_bytes()
    assert packed.manifest.image.size is None
    assert packed.manifest.made_by["alignment"]["no_face"]["images"] == ["bo/0.jpg"]
    assert "kept as they are:\n  bo/0.jpg" in shown.stderr


def test_an_identity_without_any_face_is_left_out(photos, here):
    rows = json.loads((here / "points.json").read_text())
    del rows["bo/done.jpg"]
    # By the file's name alone, as lists of one folder have it.
    (here / "points.csv").write_text(
        "\n".join(
            ",".join(map(str, [name.partition("/")[2], *np.ravel(points)]))
            for name, points in rows.items()
        )
    )
    (photos / "bo" / "0.jpg").rename(photos / "bo" / "7.jpg")
    _, packed, images = pack("--align", "points.csv", "--no-face", "drop")
    assert packed.manifest.identities == ["anna"]
    assert len(images) == 2


def test_mistakes(photos, here):
    assert "1 of 4 images have no face, first bo/0.jpg" in refused(
        here, "photos", "x", "--align", "points.json"
    )
    assert "--align none.csv: cannot be read" in refused(here, "photos", "x", "--align", "none.csv")
    (here / "other.csv").write_text("carl/1.jpg" + ",1" * 10)
    message = refused(here, "photos", "x", "--align", "other.csv", "--no-face", "keep")
    assert "none of the 4 images has landmarks; an image is called 'anna/0.jpg'" in message
    rows = {**json.loads((here / "points.json").read_text()), "bo/0.jpg": [5.0] * 10}
    (here / "points.json").write_text(json.dumps(rows))
    assert "bo/0.jpg: landmarks that all lie in one place" in refused(
        here, "photos", "x", "--align", "points.json"
    )
    shown = sf2("pack", "photos", "x", "--no-face", "drop")
    assert (shown.exit_code, "--no-face needs --align" in shown.stderr) == (2, True)


def test_a_detector_in_place_of_a_file(photos, monkeypatch):
    class Fake:
        def landmarks(self, image):
            return SHIFTED if image.shape == (100, 100, 3) else None

    monkeypatch.setattr(aligned, "Detector", Fake)
    _, packed, images = pack("--align", "mtcnn", "--no-face", "keep")
    face = align(decode_image((photos / "anna" / "0.jpg").read_bytes(), 3), SHIFTED)
    assert np.array_equal(decode_image(images["anna/0.jpg"], 3), face)
    assert images["bo/done.jpg"] == (photos / "bo" / "done.jpg").read_bytes()
    assert packed.manifest.made_by["alignment"]["landmarks"] == "mtcnn"


def test_without_facenet_pytorch(photos, here, monkeypatch):
    monkeypatch.setitem(sys.modules, "facenet_pytorch", None)
    assert "facenet-pytorch, which finds the faces, cannot be imported" in refused(
        here, "photos", "x", "--align", "mtcnn"
    )


def test_mtcnn_finds_the_eyes_of_the_att_faces():
    pytest.importorskip(
        "facenet_pytorch",
        reason="facenet-pytorch pins an older torch: install it with --no-deps to run this",
        exc_type=ImportError,
    )
    detector = aligned.Detector()
    for identity in list(AttSource().identities())[:5]:
        image = decode_image(next(iter(identity.images)).read(), 3)
        left, right, nose, mouth, other = detector.landmarks(image)
        assert left[0] < nose[0] < right[0]
        assert max(left[1], right[1]) < nose[1] < min(mouth[1], other[1])
        assert mouth[0] < other[0]
