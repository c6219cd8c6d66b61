import pytest

from sf2cli.errors import Sf2Error
from sf2cli.scaling.store import Store, write_whole


def test_found_again_by_its_settings(tmp_path):
    Store(tmp_path).save("cosface fp32-100", "settings", {"x": 1})
    assert Store(tmp_path).find("cosface fp32-100", "settings") == {"x": 1}
    assert Store(tmp_path).find("cosface fp32-100", "others") is None
    assert [path.suffix for path in (tmp_path / "points").iterdir()] == [".json"]


def test_nothing_is_kept_without_a_folder():
    Store(None).save("a", "b", 1)
    assert Store(None).find("a", "b") is None


def test_another_machine_measures_anew(tmp_path, monkeypatch):
    Store(tmp_path).save("a", "b", 1)
    monkeypatch.setattr("sf2cli.scaling.store.machine", lambda: {"processor": "another"})
    assert Store(tmp_path).find("a", "b") is None


def test_a_damaged_file_is_named(tmp_path):
    store = Store(tmp_path)
    store.save("a", "b", 1)
    (path,) = (tmp_path / "points").iterdir()
    path.write_text("{")
    with pytest.raises(Sf2Error, match=str(path)):
        store.find("a", "b")


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Sf2Error, match="--out"):
        write_whole(tmp_path / "file" / "scale.json", "{}")
