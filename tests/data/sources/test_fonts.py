"""Characters as identities, drawn by the fonts that come with matplotlib."""

import hashlib
import importlib.util
import json
import math
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.ft2font import FT2Font, LoadFlags

from sf2cli.data.glyphs import faces
from sf2cli.data.glyphs.characters import code_points
from sf2cli.data.glyphs.coverage import coverage
from sf2cli.data.glyphs.drawing import FontFace
from sf2cli.data.glyphs.faces import find_faces
from sf2cli.data.glyphs.nuisances import disturb
from sf2cli.data.glyphs.settings import GlyphSettings, load_settings
from sf2cli.data.images import decode_image, read_header
from sf2cli.data.sources.fonts import FontsSource
from sf2cli.data.sources.registry import SourceOptions, find_source
from sf2cli.errors import Sf2Error

# Of 208 pictures stacked, uint8 (208, 32, 32, 1), with freetype-py 2.5.1.
KNOWN = "38dced3fc14ea6f64a8946548970501cd0fc6fbb2901600af0f62aaaf3ae75a1"
ROOT = Path(__file__).parents[3]
FONTS = Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data" / "fonts" / "ttf"
STYLES = ("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Italic", "DejaVuSansMono")
STILL = {"rotation": 0, "stretch": [1, 1], "shear": 0, "shift": 0, "bar": 0}
CLEAN = {**STILL, "contrast": [1, 1], "noise": [0, 0]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("fonts")
    for style in STYLES:
        shutil.copy(FONTS / f"{style}.ttf", place)
    return place


def source(folder, **settings):
    return FontsSource(GlyphSettings.model_validate({"faces": folder, **settings}))


def pictures(found):
    return {image.key: image.read() for one in found.identities() for image in one.images}


def test_letters_as_identities(folder):
    found = source(folder, unseen_share=0.4, unseen_images=2, min_unseen=1, seen_images=3)
    identities = list(found.identities())
    assert [one.name for one in identities] == [f"U+{code:04X}" for code in code_points("latin")]
    a = list(identities[0].images)
    roles = [image.key.split("/")[1].split("-")[0] for image in a]
    assert roles == ["seen"] * 3 + ["unseen"] * 2
    header = read_header(a[0].read())
    assert (header.kind, header.height, header.width, header.grey) == ("png", 32, 32, True)


def test_a_face_of_one_role_is_never_drawn_in_the_other(folder):
    chosen = {"characters": "U+0041-0048", "unseen_share": 0.4}
    found = source(folder, **chosen, unseen_images=5, min_unseen=1)
    roles = {face["number"]: face["role"] for face in found.description["faces"]}
    assert sorted(roles.values()) == ["seen"] * 3 + ["unseen"] * 2
    drawn = [key.split("/")[1].split("-")[:2] for key in pictures(found)]
    assert {int(number): role for role, number in drawn} == roles
    assert all(roles[int(number)] == role for role, number in drawn)


def test_a_face_comes_again_only_when_all_have_been_drawn(folder):
    keys = list(pictures(source(folder, unseen_share=0, seen_images=7, characters="U+0041")))
    parts = [key.split("-") for key in keys]
    assert [draw for _, _, draw in parts] == ["0"] * 5 + ["1"] * 2
    assert len({number for _, number, _ in parts[:5]}) == 5
    assert len(keys) == len(set(keys))


def test_a_picture_depends_on_its_key_and_the_seed_alone(folder):
    many = pictures(source(folder, characters="U+0041-0050", seen_images=6))
    few = pictures(source(folder, characters="U+0047", seen_images=4))
    assert few
    assert all(many[key] == data for key, data in few.items())
    found = source(folder, characters="U+0041-0050", seen_images=6)
    backwards = [image for one in reversed(list(found.identities())) for image in one.images]
    assert {image.key: image.read() for image in reversed(backwards)} == many
    other = pictures(source(folder, characters="U+0041-0050", seen_images=6, seed=1))
    assert not set(other.values()) & set(many.values())


def test_known_bytes(folder):
    """FreeType's outlines and our nuisances give what they gave when they were written."""
    found = source(folder, characters="latin", seen_images=4)
    pixels = np.stack([decode_image(data, 1) for data in pictures(found).values()])
    assert pixels.shape == (208, 32, 32, 1)
    assert hashlib.sha256(pixels.tobytes()).hexdigest() == KNOWN


def test_the_split_is_disjoint_and_stays_as_it_is_when_train_shrinks(folder):
    def names(**settings):
        found = source(folder, split_seed=3, test=10, val=5, **settings)
        return [one.name for one in found.identities()]

    test, val, train = (names(part=part) for part in ("test", "val", "train"))
    assert (len(test), len(val), len(train)) == (10, 5, 37)
    assert sorted([*test, *val, *train]) == names(part="all")
    few, fewer = (names(part="train", train=count) for count in (20, 5))
    assert set(fewer) < set(few) < set(train)
    assert test == names(part="test", train=5)


def test_the_ink_is_what_matplotlibs_own_freetype_draws():
    for style in STYLES:
        path = FONTS / f"{style}.ttf"
        face, other = FontFace(path, 0, 32), FT2Font(path)
        other.set_size(28, 72)
        for character in "AgЖ":
            other.set_text(character, flags=LoadFlags.NO_HINTING | LoadFlags.NO_BITMAP)
            other.draw_glyphs_to_bitmap(antialiased=True)
            ink, expected = face.ink(ord(character)), other.get_image()
            # Theirs stands at another fraction of a pixel, which changes no area.
            assert ink.sum() == pytest.approx(expected.sum(), rel=0.01)
            assert np.abs(np.subtract(ink.shape, expected.shape)).max() <= 2


def test_a_character_stands_in_the_middle_and_fits():
    face = FontFace(FONTS / "DejaVuSans.ttf", 0, 32)
    ink, picture = face.ink(ord("x")), face.picture(ord("x"))
    top, left = (32 - ink.shape[0]) // 2, (32 - ink.shape[1]) // 2
    assert np.array_equal(picture[top:, left:][: ink.shape[0], : ink.shape[1]], ink)
    assert picture.sum() == ink.sum()
    # The ligature of D and Z with its caron is wider than the em.
    assert face.ink(0x1C4).shape == (26, 36)
    rows, columns = np.nonzero(face.picture(0x1C4))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (4, 26, 0, 31)


def plainly_moved(picture, inverse):
    """Each pixel's value, looked up in `picture` between its four neighbours."""
    size = len(picture)
    a, b, c, d, e, f = inverse
    result = np.zeros((size, size))
    padded = np.pad(picture.astype(float), 1, mode="edge")
    for y in range(size):
        for x in range(size):
            u, v = a * (x + 0.5) + b * (y + 0.5) + c, d * (x + 0.5) + e * (y + 0.5) + f
            if not (0 <= u < size and 0 <= v < size):
                continue
            u, v = u - 0.5, v - 0.5
            j, i = math.floor(u), math.floor(v)
            p, q = u - j, v - i
            square = padded[i + 1 : i + 3, j + 1 : j + 3]
            result[y, x] = np.array([1 - q, q]) @ square @ np.array([1 - p, p])
    return result


def test_a_picture_is_moved_as_a_plain_loop_moves_it():
    from sf2cli.data.glyphs.nuisances import _inverse

    picture = FontFace(FONTS / "DejaVuSans.ttf", 0, 32).picture(ord("R"))
    settings = GlyphSettings.model_validate({"contrast": [1, 1], "noise": [0, 0], "bar": 0})
    bits = np.random.PCG64((7, 1))
    angle, wide, high, shear, across, down = (
        low + (up - low) * (int(bits.random_raw()) >> 11) / 2**53
        for low, up in (
            (-10, 10),
            (0.85, 1.1),
            (0.85, 1.1),
            (-0.1, 0.1),
            (-0.05, 0.05),
            (-0.05, 0.05),
        )
    )
    turn = math.radians(angle)
    forward = np.array(
        [[math.cos(turn), -math.sin(turn)], [math.sin(turn), math.cos(turn)]]
    ) @ np.array([[wide, shear], [0, high]])
    # Where the pixel at `forward @ (p - 16) + 16 + shift` comes from is p.
    point = np.array([20.0, 9.0])
    there = forward @ (point - 16) + 16 + 32 * np.array([across, down])
    a, b, c, d, e, f = inverse = _inverse(turn, (wide, high), shear, (32 * across, 32 * down), 16.0)
    assert np.allclose(
        [a * there[0] + b * there[1] + c, d * there[0] + e * there[1] + f], point, atol=1e-4
    )
    expected = plainly_moved(picture, inverse)
    assert np.abs(disturb(picture, settings, (7, 1)) - expected).max() <= 1


def test_no_nuisances_leave_the_picture_as_it_is():
    picture = FontFace(FONTS / "DejaVuSans.ttf", 0, 32).picture(ord("R"))
    clean = GlyphSettings.model_validate(CLEAN)
    assert np.array_equal(disturb(picture, clean, (1, 2)), picture)


def test_noise_has_the_deviation_it_is_asked_for():
    settings = GlyphSettings.model_validate(
        {**STILL, "size": 256, "contrast": [0, 0], "noise": [0.05, 0.05]}
    )
    # Grounds that clip neither end.
    deviations = [
        result.std()
        for key in range(20)
        if 80 < (result := disturb(np.zeros((256, 256), np.uint8), settings, (key,))).mean() < 170
    ]
    assert deviations
    assert np.allclose(deviations, 0.05 * 255, rtol=0.01)


def test_what_several_characters_share_is_a_picture_of_none(folder):
    found = find_faces(GlyphSettings(faces=folder, unseen_share=0))
    codes = [0x41, 0x391, 0x416, 0x20, 0x10FFFD]
    sans = next(i for i, face in enumerate(found) if face.path.name == "DejaVuSans.ttf")
    a, alpha, zhe, blank, missing = coverage(found, codes, 32)[sans]
    assert (a, alpha, zhe, blank, missing) == (False, False, True, False, False)
    assert coverage(found, [0x41], 32)[sans].all()


def test_jis_kanji_are_the_standards():
    kanji = code_points("jis-kanji")
    assert (len(kanji), kanji[0], kanji[-1]) == (6356, 0x4E00, 0x9FA0)
    assert code_points("latin,U+0391-0393,0041") == [*code_points("latin"), 0x391, 0x392, 0x393]


def write_list(path, rows):
    lines = ["number\tfile\tindex\trole\tsha256", *("\t".join(map(str, row)) for row in rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def test_a_list_of_faces(folder, tmp_path):
    rows = [
        (i * 3, f"{style}.ttf", 0, role, digest(folder / f"{style}.ttf"))
        for i, (style, role) in enumerate(
            zip(STYLES, ("seen", "unseen", "dropped", "seen", "seen"), strict=True)
        )
    ]
    listed = write_list(tmp_path / "faces.tsv", rows)
    (tmp_path / "mine.yaml").write_text("faces: faces.tsv\nseen_images: 2\ncharacters: U+0041\n")
    found = find_source(
        str(tmp_path / "mine.yaml"),
        SourceOptions(settings=(f"root={folder}", "unseen_images=1", "min_unseen=1")),
    )
    assert [(face["number"], face["role"]) for face in found.description["faces"]] == [
        (0, "seen"),
        (3, "unseen"),
        (9, "seen"),
        (12, "seen"),
    ]
    assert str(tmp_path) not in json.dumps(found.description)
    assert [key.rsplit("-", 1)[0] for key in pictures(found)][-1] == "U+0041/unseen-003"

    settings = GlyphSettings(faces=listed, root=folder)
    write_list(listed, [(0, "gone.ttf", 0, "seen", "0" * 16), *rows[1:]])
    with pytest.raises(Sf2Error, match=r"1 of 4 faces are not installed, first .*gone\.ttf"):
        find_faces(settings)
    write_list(listed, [(*rows[0][:4], "0" * 16), *rows[1:]])
    with pytest.raises(Sf2Error, match=r"DejaVuSans\.ttf has sha256 .* another version"):
        find_faces(settings)
    write_list(listed, [*rows, rows[0]])
    with pytest.raises(Sf2Error, match="a number stands twice"):
        find_faces(settings)
    for bad in ((1, "a.ttf", "x", "seen", "0" * 16), (1, "a.ttf", 0, "both", "0" * 16), (1, "a")):
        write_list(listed, [rows[0], bad])
        with pytest.raises(Sf2Error, match="line 3 is no face"):
            find_faces(settings)
    listed.write_text("a\tb\n1\t2\n")
    with pytest.raises(Sf2Error, match="no list of faces"):
        find_faces(settings)


def test_the_shipped_list_and_settings_are_good():
    for name in ("train", "test"):
        settings = load_settings(ROOT / "configs" / "glyphs" / f"{name}.yaml")
        assert settings.part == name
        lines = settings.faces.read_text().splitlines()
        roles = [line.split("\t")[7] for line in lines]
        assert [roles.count(role) for role in ("seen", "unseen", "dropped")] == [59, 14, 2]
    train, test = (
        load_settings(ROOT / f"configs/glyphs/{name}.yaml") for name in ("train", "test")
    )
    split = ("characters", "min_seen", "min_unseen", "split_seed", "test", "val")
    assert all(getattr(train, field) == getattr(test, field) for field in split)
    assert (train.unseen_images, test.seen_images, test.unseen_images) == (0, 6, 6)


def test_without_installed_fonts_those_of_matplotlib(monkeypatch):
    monkeypatch.setattr(faces, "_INSTALLED", ())
    found = find_faces(GlyphSettings())
    assert "DejaVuSans.ttf" in {face.path.name for face in found}


def test_mistakes(folder, tmp_path, monkeypatch):
    def refused(word="fonts", *settings):
        with pytest.raises(Sf2Error) as caught:
            list(find_source(word, SourceOptions(settings=settings)).identities())
        return str(caught.value)

    place = f"faces={folder}"
    assert "unknown field colour" in refused("fonts", "colour=1")
    assert "size: Input should be less" in refused("fonts", "size=1000")
    assert "noise: expected [low, high]" in refused("fonts", "noise=[1, 0]")
    assert "unseen_images: " in refused("fonts", "unseen_images=1").replace(
        "for unseen_images", "unseen_images: "
    )
    assert "both 0" in refused("fonts", "seen_images=0")
    assert "expected field=value" in refused("fonts", "size")
    assert "not YAML" in refused("fonts", "size=[")
    assert "'klingon' is neither an alphabet" in refused("fonts", place, "characters=klingon")
    assert "are drawn by 99 seen" in refused("fonts", place, "min_seen=99")
    assert "the split takes 61" in refused("fonts", place, "part=train", "test=60")
    assert "part is val, and val is 0" in refused("fonts", place, "part=val")
    assert "no such folder" in refused("fonts", f"faces={tmp_path}/none")
    assert "no font in it" in refused("fonts", f"faces={tmp_path}")
    (tmp_path / "broken.ttf").write_bytes(b"no font")
    assert "no font in it" in refused("fonts", f"faces={tmp_path}")
    (tmp_path / "bad.yaml").write_text("- 1\n")
    assert "expected fields, found list" in refused(str(tmp_path / "bad.yaml"))
    assert "cannot be read" in refused(str(tmp_path / "none.yaml"))
    assert "is not fonts but of the kind folder" in refused(str(folder), "size=8")
    monkeypatch.setitem(sys.modules, "freetype", None)
    assert "pip install 'sf2[fonts]'" in refused("fonts", place)
