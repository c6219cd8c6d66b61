"""What an earlier run left in its folder is never lost to a new one."""

from pathlib import Path

import pytest

from sf2cli.errors import Sf2Error
from sf2cli.training.run_folder import RunFolder
from tests.pictures import files_below


@pytest.mark.parametrize("made", ["checkpoints/step-00000004", "best", "model"])
def test_a_run_that_ended_while_a_new_one_waited_for_its_folder_is_not_set_aside(tmp_path, made):
    run = RunFolder(tmp_path)
    run.metrics.write_text('{"step": 1, "loss": 2.0}\n')
    run.recipe.write_text("name: tiny\n")
    # What the new run asks first, while the old one is still at work.
    run.require_no_results()
    (tmp_path / made).mkdir(parents=True)
    before = files_below(tmp_path)
    with pytest.raises(Sf2Error, match="holds a run already"):
        run.set_aside(resume=False)
    assert files_below(tmp_path) == before


def test_checkpoints_that_cannot_be_read_are_told(tmp_path, monkeypatch):
    run = RunFolder(tmp_path)
    run.metrics.touch()
    run.checkpoints.mkdir()

    def refused(path):
        raise PermissionError(13, "Permission denied")

    # Not by the folder's mode: whoever runs the tests may be allowed everything.
    monkeypatch.setattr(Path, "iterdir", refused)
    for look in (run.require_no_results, lambda: run.strange):
        with pytest.raises(Sf2Error, match=r"cannot be read \(Permission denied\)"):
            look()
