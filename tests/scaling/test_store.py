import pytest
from pydantic import BaseModel

from sf2cli.errors import Sf2Error
from sf2cli.scaling.store import Store, write_whole


class Kept(BaseModel):
    x: int


def test_found_again_by_its_settings(tmp_path):
    Store(tmp_path).save("cosface fp32-100", "settings", Kept(x=1))
    assert Store(tmp_path).find("cosface fp32-100", "settings", Kept) == Kept(x=1)
    assert Store(tmp_path).find("cosface fp32-100", "others", Kept) is None
    assert [path.suffix for path in (tmp_path / "points").iterdir()] == [".json"]


def test_nothing_is_kept_without_a_folder():
    Store(None).save("a", "b", Kept(x=1))
    assert Store(None).find("a", "b", Kept) is None


def test_another_machine_measures_anew(tmp_path, monkeypatch):
    Store(tmp_path).save("a", "b", Kept(x=1))
    monkeypatch.setattr("sf2cli.scaling.store.machine", lambda: {"processor": "another"})
    assert Store(tmp_path).find("a", "b", Kept) is None


@pytest.mark.parametrize("text", ["{", "{}", '{"x": "one"}'])
def test_a_damaged_file_is_named(tmp_path, text):
    store = Store(tmp_path)
    store.save("a", "b", Kept(x=1))
    (path,) = (tmp_path / "points").iterdir()
    path.write_text(text)
    with pytest.raises(Sf2Error, match=str(path)):
        store.find("a", "b", Kept)


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(Sf2Error, match="--out"):
        write_whole(tmp_path / "file" / "scale.json", "{}")
