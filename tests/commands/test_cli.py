import re
import subprocess
import sys
from importlib.metadata import version

import pytest
from click.testing import CliRunner

from sf2cli import cli as cli_module
from sf2cli.cli import COMMANDS, cli
from sf2cli.errors import Sf2Error

HEAVY = {"torch", "deepspeed", "numpy", "PIL", "pydantic", "matplotlib", "rich"}


def imported_by(*arguments):
    """The heavy modules that `sf2 ARGUMENTS` has imported when it ends well."""
    code = (
        "import sys\n"
        "from sf2cli.cli import main\n"
        f"sys.argv = ['sf2', *{list(arguments)!r}]\n"
        "try:\n    main()\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        f"print('|', *sorted({HEAVY!r} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("|")[2].split())


def test_help_imports_nothing_heavy():
    assert imported_by("--help") == set()
    assert imported_by("--version") == set()


@pytest.mark.parametrize("name", COMMANDS)
def test_the_help_of_a_command_imports_only_the_console(name):
    assert imported_by(name, "--help") <= {"rich"}


def test_packing_needs_no_torch(tmp_path):
    assert "torch" not in imported_by("pack", "att", str(tmp_path / "att"))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_and_options_with_help(name):
    shown = CliRunner().invoke(cli, [name, "--help"])
    assert shown.exit_code == 0
    assert re.search(rf"Examples?:\n +sf2 {name} ", shown.output)
    assert CliRunner().invoke(cli, [name, "-h"]).output == shown.output


def test_the_group_lists_its_commands():
    shown = CliRunner().invoke(cli, ["--help"])
    assert shown.exit_code == 0
    for name in COMMANDS:
        assert re.search(rf"^  {name} ", shown.output, re.MULTILINE)
        assert re.search(rf"^ +sf2 {name} ", shown.output, re.MULTILINE)


def test_version():
    shown = CliRunner().invoke(cli, ["--version"])
    assert (shown.exit_code, shown.output) == (0, f"sf2, version {version('sf2')}\n")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["nonsense"], "No such command 'nonsense'"),
        (["trian"], "No such command 'trian'. Did you mean 'train'?"),
        (["--nonsense"], "No such option"),
        (["train", "r.yaml", "--deepsped", "d.json"], "Did you mean '--deepspeed'?"),
        (["pack"], "Missing argument 'SOURCE'"),
        (["pack", "photos"], "Missing argument 'OUT'"),
        (["pack", "photos", "out", "--holdout", "0"], "0 is not in the range"),
        (["pack", "photos", "out", "--size", "big"], "'big' is not a valid integer"),
        (["pack", "photos", "out", "--holdout-seed", "1"], "--holdout-seed needs --holdout N"),
    ],
)
def test_wrong_usage_exits_2(arguments, named):
    shown = CliRunner().invoke(cli, arguments)
    assert shown.exit_code == 2
    assert named in shown.stderr
    assert shown.stdout == ""


def failing(monkeypatch, failure):
    """`sf2 pack` whose work raises `failure`."""

    def fail(*_):
        raise failure

    monkeypatch.setattr("sf2cli.data.pack.pack", fail)
    return CliRunner().invoke(cli, ["pack", "photos", "out"])


def test_a_mistake_is_one_message_and_exits_1(monkeypatch):
    shown = failing(monkeypatch, Sf2Error("[/a]:b: is wrong", "Mend it."))
    assert shown.exit_code == 1
    assert shown.stderr == "error: [/a]:b: is wrong\n  Mend it.\n"


def test_ctrl_c_exits_130(monkeypatch):
    shown = failing(monkeypatch, KeyboardInterrupt())
    assert (shown.exit_code, shown.stderr) == (130, "error: interrupted\n")


def test_ctrl_c_may_say_more(monkeypatch):
    shown = failing(monkeypatch, KeyboardInterrupt("ended at once"))
    assert (shown.exit_code, shown.stderr) == (130, "error: ended at once\n")


def test_a_defect_of_ours_is_not_hidden(monkeypatch):
    assert isinstance(failing(monkeypatch, ZeroDivisionError()).exception, ZeroDivisionError)


def test_the_console_entry_is_the_group(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sf2", "nonsense"])
    with pytest.raises(SystemExit) as end:
        cli_module.main()
    assert end.value.code == 2
