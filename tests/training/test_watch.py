"""`sf2 watch` before a run's first step."""

import json

from sf2cli.training.watch import watch


def test_a_run_without_a_step_is_waited_for(tmp_path):
    metrics, shown = tmp_path / "metrics.jsonl", []
    metrics.write_text("")

    def wait():
        metrics.write_text(json.dumps({"step": 1, "loss": 2.0}) + "\n")
        (tmp_path / "model").mkdir()
        (tmp_path / "model" / "model.json").write_text("{}")

    watch(tmp_path, shown.append, wait, (80, 24))
    assert shown[0] == f"{tmp_path}: no step was measured yet"
    assert shown[1].startswith(f"{tmp_path}: step 1, finished")
