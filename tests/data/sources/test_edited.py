"""Lists of what to drop and to merge, applied to any source."""

import pytest

from sf2cli.data.edits import drop_text, load_drop, load_merge, merge_text
from sf2cli.data.sources.registry import SourceOptions, find_source
from sf2cli.errors import Sf2Error
from tests.pictures import make_photos


@pytest.fixture
def photos(tmp_path):
    return make_photos(tmp_path / "photos", {"anna": 2, "bo": 3, "carl": 1, "dora": 2})


@pytest.fixture
def edited(photos, tmp_path):
    """What is left of the photos under lists of these lines."""

    def edit(drop=None, merge=None):
        files = {"drop": drop, "merge": merge}
        for name, text in files.items():
            if text is not None:
                (tmp_path / name).write_bytes(text.encode())
        options = {name: tmp_path / name for name, text in files.items() if text is not None}
        source = find_source(str(photos), SourceOptions(**options))
        found = {one.name: [image.key for image in one.images] for one in source.identities()}
        assert found.pop("") == []
        for one in source.identities():
            for image in one.images:
                assert image.read() == (photos / image.key).read_bytes()
        return found, source.description.get("edited")

    return edit


def test_images_and_identities_are_dropped(edited):
    found, done = edited(drop="# why\nbo/1.jpg\r\ncarl/\n\nanna/0.jpg\n")
    assert found == {
        "anna": ["anna/1.jpg"],
        "bo": ["bo/0.jpg", "bo/2.jpg"],
        "carl": [],
        "dora": ["dora/0.jpg", "dora/1.jpg"],
    }
    assert done == {"drop": "drop", "images_dropped": 3, "identities_merged": 0}


def test_a_merged_identity_stands_where_its_first_part_does(edited):
    found, done = edited(merge="dora\tbo\tcarl\n", drop="bo/1.jpg\ncarl/\n")
    assert list(found) == ["anna", "dora"]
    assert found["dora"] == ["dora/0.jpg", "dora/1.jpg", "bo/0.jpg", "bo/2.jpg"]
    assert done == {"drop": "drop", "merge": "merge", "images_dropped": 2, "identities_merged": 2}


def test_an_image_of_an_identity_that_is_listed_too_counts_as_found(edited, capsys):
    found, _ = edited(drop="bo/1.jpg\nbo/\n")
    assert found["bo"] == []
    assert "not in SOURCE" not in capsys.readouterr().err


def test_lines_that_name_nothing_are_told(edited, capsys):
    edited(drop="bo/1.jpg\nbo/99.jpg\neve/\n", merge="anna\teve\n")
    told = capsys.readouterr().err
    assert told.count("2 of its 3 names are not in SOURCE") == 1
    assert told.count("1 of its 2 names are not in SOURCE") == 1
    for lists in ({"drop": "bo/99.jpg\n"}, {"merge": "eve\tfay\n"}):
        with pytest.raises(Sf2Error, match="names are not in SOURCE"):
            edited(**lists)


def test_the_lists_read_back(tmp_path):
    text = drop_text({"twice": ["a/1", "b/2"], "none": [], "strange": ["b/2", "# c/3"[2:]]})
    (tmp_path / "drop.txt").write_text(text)
    assert load_drop(tmp_path / "drop.txt") == {"a/1", "b/2", "c/3"}
    assert text.count("b/2") == 1
    assert "none" not in text
    (tmp_path / "merge.txt").write_text(merge_text([["a", "b c"], ["d", "e"]]))
    assert load_merge(tmp_path / "merge.txt") == {"a": "a", "b c": "a", "d": "d", "e": "d"}


def test_a_name_that_no_line_can_hold_is_left_out_and_told(tmp_path):
    text = merge_text([["a", "b\tc"], ["d", "e"]])
    (tmp_path / "merge.txt").write_text(text)
    assert load_merge(tmp_path / "merge.txt") == {"d": "d", "e": "d"}
    assert "Left out, for a name has a tab" in text
    text = drop_text({"odd": ["# bo/1.jpg", "a\nb/2.jpg", "c/3.jpg"]})
    (tmp_path / "drop.txt").write_text(text)
    assert load_drop(tmp_path / "drop.txt") == {"c/3.jpg"}
    assert text.count("as no line can hold it") == 2


def test_mistakes(tmp_path):
    with pytest.raises(Sf2Error, match=r"--drop .*none: cannot be read \(No such"):
        load_drop(tmp_path / "none")
    (tmp_path / "merge").write_text("a\tb\nc\tb\n")
    with pytest.raises(Sf2Error, match="'b' stands in it twice"):
        load_merge(tmp_path / "merge")
    (tmp_path / "merge").write_bytes(b"\xff\n")
    with pytest.raises(Sf2Error, match="not UTF-8"):
        load_merge(tmp_path / "merge")
