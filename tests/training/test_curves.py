"""metrics.jsonl as curves, and the curves on paper."""

import json
import xml.etree.ElementTree as ET

import pytest

from sf2cli.training.curves import Metrics, panels, thinned
from sf2cli.training.svg_plot import svg_plot
from sf2cli.training.watch import watch


def lines(*steps, **values):
    return "".join(json.dumps({"step": step, **values}) + "\n" for step in steps)


def test_new_lines_are_added_and_a_torn_one_waits(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 2, loss=3.0) + '{"step": 3, "lo')
    metrics = Metrics(path)
    metrics.read()
    assert metrics.curves == {"loss": [(1, 3.0), (2, 3.0)]}
    with path.open("a") as stream:
        stream.write('ss": 1.5, "what": "text"}\nno json\n[1]\n')
    metrics.read()
    assert metrics.curves == {"loss": [(1, 3.0), (2, 3.0), (3, 1.5)]}


def test_a_file_that_was_cut_is_read_anew(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text(lines(1, 2, 3, loss=3.0))
    metrics = Metrics(path)
    metrics.read()
    path.write_text(lines(1, loss=2.0))
    metrics.read()
    assert metrics.curves == {"loss": [(1, 2.0)]}


def test_panels_are_what_there_is_and_logs_have_no_zero():
    shown = panels(
        {
            "loss": [(1, 2.0)],
            "negatives_above": [(1, 0.0), (2, 0.5)],
            "bias": [],
            "validation/a/b/eer": [(2, 0.1)],
            "validation/c/eer": [(2, 0.3)],
            "validation/eer": [(2, 0.2)],
            "validation/c/auc": [(2, 0.9)],
            "validation/auc": [(2, 0.9)],
        }
    )
    assert [(panel.title, panel.log, dict(panel.curves)) for panel in shown] == [
        ("loss", True, {"loss": [(1, 2.0)]}),
        ("validation: EER", False, {"a/b": [(2, 0.1)], "c": [(2, 0.3)], "mean": [(2, 0.2)]}),
        ("validation: AUC", False, {"c": [(2, 0.9)]}),
        ("share above the boundary", True, {"of negatives": [(2, 0.5)]}),
    ]


@pytest.mark.parametrize("points", [2, 7, 40, 99, 100, 200])
def test_thinned_curves_keep_their_course_and_end(points):
    curve = [(float(x), 2.0 * x) for x in range(100)]
    thin = thinned(curve, points)
    assert len(thin) == min(points, 100)
    assert thin[-1] == curve[-1]
    assert all(y == pytest.approx(2 * x) for x, y in thin)
    assert [x for x, _ in thin] == sorted({x for x, _ in thin})


@pytest.mark.parametrize(
    ("values", "log", "ticks"),
    [
        ([0.0, 1.0], False, ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]),
        ([14.3371, 14.3379], False, ["14.3372", "14.3374", "14.3376", "14.3378"]),
        ([5.0, 5.0], False, ["4.6", "4.8", "5.0", "5.2", "5.4"]),
        ([-30000.0, 10000.0], False, ["-30,000", "-20,000", "-10,000", "0", "10,000"]),
        ([1e-6, 10.0], True, ["1e-06", "1e-05", "0.0001", "0.001", "0.01", "0.1", "1", "10"]),
        ([3.0, 70.0], True, ["5", "10", "20", "50"]),
        ([7.0, 7.0], True, ["5", "10"]),
    ],
)
def test_ticks_tell_values_apart(values, log, ticks):
    tree = ET.fromstring(svg_plot({"<a>": list(enumerate(values, 1))}, "a & b", log=log))
    texts = [text for text in tree.iter("text") if text.get("text-anchor") == "end"]
    assert [text.text for text in texts] == ticks
    heights = [float(text.get("y")) for text in texts]
    assert heights == sorted(heights, reverse=True)
    assert 0 < min(heights) < max(heights) < 250


def test_curves_stand_where_their_values_are():
    tree = ET.fromstring(svg_plot({"a": [(1, 0), (3, 10)], "b": [(2, 5)]}, "title"))
    (first, last), (middle,) = (
        [c for c in tree.iter("circle") if c.get("fill") == colour]
        for colour in ("#0072b2", "#d55e00")
    )
    for axis in ("cx", "cy"):
        ends = float(first.get(axis)), float(last.get(axis))
        assert float(middle.get(axis)) == pytest.approx(sum(ends) / 2, abs=0.11)
    assert float(first.get("cy")) > float(last.get("cy"))


def test_watching_goes_on_until_the_model_is_there(tmp_path):
    metrics = tmp_path / "metrics.jsonl"
    metrics.touch()
    shown, waited = [], []

    def wait():
        waited.append(1)
        if len(waited) == 1:
            metrics.write_text(lines(1, loss=3.0))
        elif len(waited) == 2:
            metrics.write_text(lines(1, 2, loss=3.0))
            (tmp_path / "model").mkdir()
            (tmp_path / "model" / "model.json").touch()
        assert len(waited) < 3

    watch(tmp_path, shown.append, wait, (80, 24))
    heads = [text.splitlines()[0] for text in shown]
    assert heads == [
        f"{tmp_path}: no step was measured yet",
        f"{tmp_path}: step 1, loss 3.0000",
        f"{tmp_path}: step 2, finished, loss 3.0000",
    ]


def test_a_screen_is_filled_and_not_overrun(tmp_path):
    fields = ("loss", "positive_similarity", "bias", "gradient_norm", "lr", "images_per_s")
    (tmp_path / "metrics.jsonl").write_text(lines(*range(1, 90), **dict.fromkeys(fields, 1.0)))
    for size, panels_shown in (((120, 40), 4), ((80, 24), 1), ((200, 60), 6), ((40, 10), 1)):
        shown = []
        watch(tmp_path, shown.append, None, size)
        assert shown[0].count("└") == panels_shown
        assert all(len(line) <= size[0] for line in shown[0].splitlines()[1:])
        assert len(shown[0].splitlines()) <= max(size[1], 16)
