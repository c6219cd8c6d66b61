import pytest

from sf2cli.errors import Sf2Error
from sf2cli.training import hosts
from sf2cli.training.hosts import launch_on_hosts, read_hostfile, without_hostfile


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


def programs(folder, monkeypatch, **scripts):
    """A PATH of nothing but these shell scripts."""
    for name, text in scripts.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_what_many_hosts_need_is_named(tmp_path, monkeypatch):
    path = tmp_path / "hosts"
    path.write_text("first slots=1\nsecond slots=1\n")
    programs(tmp_path, monkeypatch)
    with pytest.raises(Sf2Error, match="hosts: ssh is not installed"):
        launch_on_hosts(path, [])
    programs(tmp_path, monkeypatch, ssh="echo Host key verification failed. >&2; exit 255")
    with pytest.raises(Sf2Error, match="hosts: pdsh is not installed"):
        launch_on_hosts(path, [])
    programs(tmp_path, monkeypatch, pdsh="exit 1")
    named = (
        r"2 of 2 hosts are not reached by ssh without a password"
        r" \(first: Host key verification failed\.; second: Host key verification failed\.\)"
    )
    with pytest.raises(Sf2Error, match=named):
        launch_on_hosts(path, [])


def test_every_host_is_asked_and_all_that_fail_are_named(tmp_path, monkeypatch):
    path = tmp_path / "hosts"
    names = ("first", "mute", "silent", "barred", "second")
    path.write_text("".join(f"{host} slots=1\n" for host in names))
    # Three options, each behind its -o, stand before the host. Two answer only when both are asked.
    ssh = """cd "${0%/*}"
case "$7" in
first) : > one; until [ -e two ]; do :; done ;;
second) : > two; until [ -e one ]; do :; done ;;
mute) exit 3 ;;
silent) exec /bin/sleep 60 ;;
*) echo Warning: added. >&2; echo Permission denied. >&2; exit 255 ;;
esac"""
    programs(tmp_path, monkeypatch, ssh=ssh, pdsh="exit 1")
    monkeypatch.setattr(hosts, "_ANSWER_S", 3)
    with pytest.raises(Sf2Error) as failure:
        launch_on_hosts(path, [])
    assert failure.value.message == (
        f"--hostfile {path}: 3 of 5 hosts are not reached by ssh without a password"
        " (mute: exit status 3; silent: no answer in 3 s; barred: Permission denied.)"
    )
    assert failure.value.remedy == "Make `ssh mute hostname` work; on one machine use --nproc."


def test_one_host_that_is_this_machine_needs_no_ssh(tmp_path, monkeypatch):
    path = tmp_path / "hosts"
    path.write_text("localhost slots=2\n")
    programs(tmp_path, monkeypatch, deepspeed='echo "$@" > "${0%/*}/said"; exit 7')
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert launch_on_hosts(path, ["train", "r.yaml"]) == 1
    said = (tmp_path / "said").read_text().split()
    assert said[:2] == ["--hostfile", str(path)]
    assert said[said.index("--master_addr") + 1] == "127.0.0.1"
    assert said[-3:] == [str(tmp_path / "sf2"), "train", "r.yaml"]


def test_one_host_that_is_another_machine_is_where_the_ranks_start(tmp_path, monkeypatch):
    path = tmp_path / "hosts"
    path.write_text("elsewhere slots=2\n")
    answers = {"ssh": "exit 0", "pdsh": "exit 0"}
    programs(tmp_path, monkeypatch, deepspeed='echo "$@" > "${0%/*}/said"', **answers)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    assert launch_on_hosts(path, ["train", "r.yaml"]) == 0
    said = (tmp_path / "said").read_text().split()
    assert "--force_multi" in said
    assert "--master_addr" not in said


def test_ranks_do_not_see_the_option():
    line = ["train", "r.yaml", "--hostfile", "hosts", "--out", "o", "--hostfile=other"]
    assert without_hostfile(line) == ["train", "r.yaml", "--out", "o"]
