"""InsightFace .bin files: every form they come in is read, and nothing in them is run."""

import os
import pickle
import struct

import numpy as np
import pytest

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.bins import open_bin, read_bin
from tests.evaluation.small import bin_images, photo

PAIRS = [True, False, False, True, True]
# Every byte value, zero and invalid UTF-8 included.
IMAGES = [bytes([i, *range(256)]) for i in range(10)]

FORMS = {
    "bytes": IMAGES,
    "arrays": [np.frombuffer(data, np.uint8) for data in IMAGES],
    "tuple": tuple(IMAGES),
}
TRUTHS = {
    "bools": PAIRS,
    "numpy bools": [np.bool_(same) for same in PAIRS],
    "array": np.array(PAIRS),
    "ints": [int(same) for same in PAIRS],
}


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("images", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("truths", TRUTHS.values(), ids=TRUTHS)
def test_every_form_is_read(tmp_path, protocol, images, truths):
    path = tmp_path / "x.bin"
    path.write_bytes(pickle.dumps((images, truths), protocol))
    found = read_bin(path)
    assert found.images == IMAGES
    assert found.issame.dtype == np.bool_
    assert found.issame.tolist() == PAIRS


def test_arrays_under_numpys_old_name_are_read(tmp_path):
    path = tmp_path / "x.bin"
    data = pickle.dumps((FORMS["arrays"], TRUTHS["numpy bools"]), 2)
    assert b"numpy._core" in data
    path.write_bytes(data.replace(b"numpy._core", b"numpy.core"))
    assert read_bin(path).images == IMAGES


def test_python_2_strings_are_read(tmp_path):
    """Protocol 2 as Python 2 wrote it: images as BINSTRING, which holds any byte."""
    strings = b"".join(b"T" + struct.pack("<i", len(data)) + data for data in IMAGES)
    truths = b"".join(b"\x88" if same else b"\x89" for same in PAIRS)
    path = tmp_path / "x.bin"
    path.write_bytes(b"\x80\x02](" + strings + b"e](" + truths + b"e\x86.")
    found = read_bin(path)
    assert found.images == IMAGES
    assert found.issame.tolist() == PAIRS


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *args):
        self.function, self.args = function, args

    def __reduce__(self):
        return self.function, self.args


def text_pickle(module, name, argument):
    return f"c{module}\n{name}\n(V{argument}\ntR.".encode()


def hostile_pickles(marker):
    shell = f"touch {marker}"
    write = f"open({str(marker)!r}, 'w')"
    dumps = pickle.dumps
    return {
        "os.system": dumps(Calls(os.system, shell)),
        "protocol 0": dumps(Calls(os.system, shell), 0),
        "eval": dumps(Calls(eval, write)),
        "in the images": dumps(([Calls(os.system, shell), *IMAGES[1:]], PAIRS)),
        "in the truths": dumps((IMAGES, [*PAIRS[1:], Calls(eval, write)])),
        "after sound content": dumps(((IMAGES, PAIRS), Calls(os.system, shell))),
        "numpy's exec": text_pickle("numpy.testing._private.utils", "runstring", write),
        "an attribute of an allowed name": (
            b"\x80\x04\x8c\x05numpy\x8c\x0edtype.__init__\x93" + b")R."
        ),
        "INST": f"(V{shell}\nios\nsystem\n.".encode(),
        "OBJ": f"(cos\nsystem\nV{shell}\no.".encode(),
    }


NAMES = list(hostile_pickles(""))


@pytest.mark.parametrize("name", NAMES)
def test_hostile_pickles_are_refused_and_nothing_runs(tmp_path, name):
    marker, path = tmp_path / "ran", tmp_path / "x.bin"
    path.write_bytes(hostile_pickles(marker)[name])
    with pytest.raises(Sf2Error, match=r"refused: the pickle asks for .*Nothing of it was run"):
        _flat(read_bin, path)
    assert not marker.exists()


@pytest.mark.parametrize("name", ["os.system", "protocol 0", "eval", "INST", "OBJ"])
def test_the_same_pickles_do_run_without_the_whitelist(tmp_path, name):
    """Or the test above would prove nothing."""
    marker = tmp_path / "ran"
    pickle.loads(hostile_pickles(marker)[name])
    assert marker.exists()


def _flat(function, path):
    """Message and remedy of a failure on one line, for `match`."""
    try:
        return function(path)
    except Sf2Error as failure:
        raise Sf2Error(str(failure).replace("\n", " ")) from None


UNSOUND = {
    "empty file": (b"", "not a pickle of image bytes"),
    "text": (b"these are not the pairs\n", "not a pickle of image bytes"),
    "an image": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "not a pickle of image bytes"),
    "cut short": (pickle.dumps((IMAGES, PAIRS))[:-300], "not a pickle of image bytes"),
    "persistent id": (b"Pos.system\n.", "not a pickle of image bytes"),
    "a state for a stand-in": (
        b"cnumpy\ndtype\n}(Vx\nVy\nub.",
        "not a pickle of image bytes",
    ),
    "wrong kind": (
        pickle.dumps({"bins": IMAGES}),
        "the operation EMPTY_DICT, which no list of images needs",
    ),
    "three parts": (pickle.dumps((IMAGES, PAIRS, 1)), "found a tuple of 3"),
    "one image too few": (
        pickle.dumps((IMAGES[:-1], PAIRS)),
        "9 images for 5 pairs, expected 10",
    ),
    "more truths": (pickle.dumps((IMAGES, [*PAIRS, True])), "10 images for 6 pairs, expected 12"),
    "a path for an image": (
        pickle.dumps(([None, *IMAGES[1:]], PAIRS)),
        "image 0: found a NoneType, expected bytes",
    ),
    "a truth of 2": (pickle.dumps((IMAGES, [2, *PAIRS[1:]])), "entry 0: found 2"),
    "truths in words": (pickle.dumps((IMAGES, ["yes"] * 5)), "entry 0: found a str"),
    "float pixels": (
        pickle.dumps(([np.zeros(3)] * 10, PAIRS)),
        "where u1 or b1 is expected",
    ),
    "rows of pixels": (
        pickle.dumps(([np.zeros((3, 3), np.uint8)] * 10, PAIRS)),
        "not one row of bytes",
    ),
}


@pytest.mark.parametrize(("content", "message"), UNSOUND.values(), ids=UNSOUND)
def test_unsound_files_are_refused_by_name(tmp_path, content, message):
    path = tmp_path / "x.bin"
    path.write_bytes(content)
    with pytest.raises(Sf2Error, match=message) as failure:
        read_bin(path)
    assert failure.value.message.startswith(str(path))
    assert failure.value.remedy


def test_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(Sf2Error, match=r"x\.bin: cannot be read \(No such file"):
        read_bin(tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ([], r"no pairs to compare \(0 image"),
        ([True] * 3, "none of the 3 pairs is impostor"),
        ([False] * 3, "none of the 3 pairs is genuine"),
    ],
)
def test_pairs_of_one_kind_are_refused(tmp_path, pairs, message):
    path = tmp_path / "x.bin"
    path.write_bytes(pickle.dumps((bin_images(pairs), pairs)))
    with pytest.raises(Sf2Error, match=message):
        open_bin(path)


def test_pairs_are_images_in_order(tmp_path):
    path = tmp_path / "lfw.bin"
    path.write_bytes(pickle.dumps((bin_images(PAIRS), PAIRS)))
    pairs = open_bin(path)
    assert (pairs.name, pairs.folds, len(pairs.faces)) == ("lfw", "contiguous", 10)
    assert pairs.first.tolist() == [0, 2, 4, 6, 8]
    assert pairs.second.tolist() == [1, 3, 5, 7, 9]
    assert pairs.issame.tolist() == PAIRS
    np.testing.assert_array_equal(pairs.faces.decode(3, 16, 1), photo(1, 3))
