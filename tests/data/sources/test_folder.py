import os
from pathlib import Path

import pytest

from sf2cli.data.sources.folder import FolderSource
from sf2cli.data.sources.registry import SourceOptions, find_source
from sf2cli.errors import Sf2Error


def touch(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return root


def listed(root):
    """The identities with files, and how many other files were told of."""
    found = list(FolderSource(root).identities())
    identities = {
        one.name: tuple(image.key.removeprefix(f"{one.name}/") for image in one.images)
        for one in found
        if len(one.images)
    }
    return identities, sum(one.ignored for one in found)


def test_the_folder_is_the_identity_in_the_order_of_the_bytes(tmp_path):
    touch(
        tmp_path, "b/2.JPG", "b/10.png", "a/x.jpeg", "Zoë/é.bmp", "2019/anna/1.webp", "2019/0.pgm"
    )
    identities, ignored = listed(tmp_path)
    assert list(identities.items()) == [
        ("2019", ("0.pgm",)),
        ("2019/anna", ("1.webp",)),
        ("Zoë", ("é.bmp",)),
        ("a", ("x.jpeg",)),
        ("b", ("10.png", "2.JPG")),
    ]
    assert ignored == 0


def test_what_is_no_image_of_an_identity_is_counted(tmp_path):
    touch(tmp_path, "a/1.jpg", "a/notes.txt", "a/.hidden.jpg", "loose.jpg", "README", "empty/x.txt")
    touch(tmp_path, ".cache/b/1.jpg")
    assert listed(tmp_path) == ({"a": ("1.jpg",)}, 5)


def test_spaces_dots_and_unicode_are_names_like_others(tmp_path):
    touch(
        tmp_path, "J. R. Oppenheimer/a b.v2.jpg", "王 小明/一.png", "🙂/:b:.jpg", "[/a]/{1..2}.jpg"
    )
    assert set(listed(tmp_path)[0]) == {"J. R. Oppenheimer", "王 小明", "🙂", "[/a]"}


def test_links_are_followed(tmp_path):
    touch(tmp_path / "elsewhere", "1.jpg")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "anna").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "link").symlink_to(tmp_path / "photos")
    assert listed(tmp_path / "link") == ({"anna": ("1.jpg",)}, 0)


def test_a_link_to_a_parent_is_refused(tmp_path):
    touch(tmp_path, "a/1.jpg")
    (tmp_path / "a" / "again").symlink_to(tmp_path)
    with pytest.raises(Sf2Error, match=r"a/again leads back to a folder above it"):
        listed(tmp_path)


@pytest.mark.parametrize(
    ("files", "named"),
    [
        ([], "no image in it"),
        (["a/notes.txt"], "no image in it"),
        (["1.jpg", "2.jpg"], "2 images, but none in a sub-folder"),
        (["a/1\n2.jpg"], r"'1\\n2.jpg' holds a line break"),
        (["a\nb/1.jpg"], r"'a\\nb' holds a line break"),
        ([b"a/\xff.jpg"], "is not UTF-8"),
        ([b"\xff/1.jpg"], "is not UTF-8"),
    ],
)
def test_a_layout_that_cannot_be_packed_is_named(tmp_path, files, named):
    touch(tmp_path, *(os.fsdecode(file) for file in files))
    with pytest.raises(Sf2Error, match=named):
        listed(tmp_path)


def test_no_folder(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for name in ("none", "loop"):
        with pytest.raises(Sf2Error, match=rf"SOURCE .*{name}: no such folder"):
            listed(tmp_path / name)
    with pytest.raises(Sf2Error, match=r"file: not a folder"):
        listed(touch(tmp_path, "file") / "file")


def test_the_manifest_learns_a_name_without_the_path(tmp_path):
    assert FolderSource(tmp_path).description == {"kind": "folder", "name": tmp_path.name}
    odd = tmp_path / os.fsdecode(b"ph\xff")
    assert FolderSource(odd).description["name"] == "ph\ufffd"


def test_the_word_names_the_source():
    folder = find_source("./att", SourceOptions())
    assert isinstance(folder, FolderSource)
    assert folder.root == Path("att")
    assert find_source("att", SourceOptions()).description["kind"] == "att"
    with pytest.raises(Sf2Error, match="SOURCE ''"):
        find_source("", SourceOptions())
