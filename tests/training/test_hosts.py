import pytest

from sf2cli.errors import Sf2Error
from sf2cli.training.hosts import read_hostfile, without_hostfile


def test_hosts_and_their_slots(tmp_path):
    path = tmp_path / "hosts"
    path.write_text("# the cluster\na slots=2\n\n10.0.0.2  slots=4  # the new one\n")
    assert read_hostfile(path) == {"a": 2, "10.0.0.2": 4}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("a\n", "line 1: expected HOST slots=N, found 'a'"),
        ("a slots=0\n", "line 1"),
        ("a slots=1\nb slots=two\n", "line 2"),
        ("a slots=1\na slots=1\n", "a is named twice"),
        ("# none\n", "names no host"),
    ],
)
def test_a_bad_hostfile_is_named(text, named, tmp_path):
    path = tmp_path / "hosts"
    path.write_text(text)
    with pytest.raises(Sf2Error, match=named):
        read_hostfile(path)


def test_a_missing_hostfile_is_named(tmp_path):
    with pytest.raises(Sf2Error, match="none: cannot be read"):
        read_hostfile(tmp_path / "none")


def test_ranks_do_not_see_the_option():
    line = ["train", "r.yaml", "--hostfile", "hosts", "--out", "o", "--hostfile=other"]
    assert without_hostfile(line) == ["train", "r.yaml", "--out", "o"]
