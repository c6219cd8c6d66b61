import json

import pytest

from sf2cli.data.manifest import load_manifest, write_manifest
from sf2cli.errors import Sf2Error
from tests.pictures import noise, stored, write_set


@pytest.fixture
def folder(tmp_path):
    return write_set(tmp_path / "set", [[stored(noise(4, 4))], [stored(noise(4, 4))] * 2]).folder


def edited(folder, **fields):
    """Change fields of the manifest; a value of None removes one."""
    path = folder / "manifest.json"
    tree = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({key: value for key, value in tree.items() if value is not None}))


def test_reads_back_equal(folder, tmp_path):
    manifest = load_manifest(folder)
    write_manifest(tmp_path, manifest)
    assert load_manifest(tmp_path) == manifest
    assert (tmp_path / "manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()


def test_names_of_any_script_are_kept(folder, tmp_path):
    manifest = load_manifest(folder).model_copy(update={"identities": ["王 小明", "Zoë/J. R."]})
    write_manifest(tmp_path, manifest)
    assert load_manifest(tmp_path).identities == ["王 小明", "Zoë/J. R."]
    assert "王 小明" in (tmp_path / "manifest.json").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"colour": "red"}, "colour: Extra inputs are not permitted, found 'red'"),
        ({"name": None}, "name: Field required"),
        ({"format": "other"}, "format: .*found 'other'"),
        ({"version": 2}, "version: .*found 2"),
        ({"samples": 0}, "samples: .*found 0"),
        ({"samples": 4}, "does not add up to samples"),
        ({"identities": ["a"]}, "differ in length"),
        ({"identities": ["a", "a"]}, "an identity stands twice"),
        ({"samples_per_identity": [1, 1]}, "does not add up"),
        ({"shards": []}, "the shards' samples do not add up"),
        ({"shards": [{"file": "../x.tar", "samples": 3, "bytes": 9, "sha256": ""}]}, r"shards\.0"),
    ],
)
def test_fields_that_do_not_fit_are_named(folder, fields, named):
    edited(folder, **fields)
    with pytest.raises(Sf2Error, match=rf"manifest\.json: .*{named}"):
        load_manifest(folder)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "not JSON"),
        (b'{"name": ', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"samples": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'"\xff"', "not UTF-8"),
        (b"[]", "manifest: Input should be"),
    ],
)
def test_a_file_that_is_no_manifest_is_named(folder, content, named):
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(Sf2Error, match=rf"manifest\.json: {named}"):
        load_manifest(folder)


def test_no_set_there(folder, tmp_path):
    with pytest.raises(Sf2Error, match="none: no such folder"):
        load_manifest(tmp_path / "none")
    (folder / "manifest.json").unlink()
    with pytest.raises(Sf2Error, match=r"no manifest\.json in it"):
        load_manifest(folder)
    (folder / "manifest.json").mkdir()
    with pytest.raises(Sf2Error, match="cannot be read"):
        load_manifest(folder)
