"""A collapsed run is told from one that is slow to start."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest

from sf2cli.heads.softmax import MarginSoftmax
from sf2cli.recipe import Recipe
from sf2cli.training.collapse import CollapseWatch
from sf2cli.training.head import head_settings
from sf2cli.training.page import write_page
from sf2cli.training.run_folder import RunFolder
from sf2cli.training.watch import watch

CLASSES = 1000


def recipe(warmup=50, **head):
    return Recipe.model_validate(
        {
            "name": "t",
            "data": {"shards": "s"},
            "backbone": {"name": "glyphnet", "embedding_size": 128},
            "head": head if "loss" in head else {"loss_weight": 50, **head},
            "optimizer": {"lr": 0.3},
            "schedule": {"steps": 900, "warmup_steps": warmup},
        }
    )


LEARNED = {"bias": "learned", "curriculum": None}


def told(recipe, series, classes=CLASSES):
    """What is told, by step; `series` gives loss, own and other similarity and scale of a step."""
    watch, hp = CollapseWatch(recipe, classes), head_settings(recipe)
    found = {}
    for step in range(1, 901):
        loss, own, others, scale = series(step)
        values = {"positive_similarity": own, "negative_similarity": others, "bias": -step / 100}
        text = watch.see(step, loss, values, replace(hp, r=scale))
        if text is not None:
            found[step] = text
    return found


def test_a_run_that_was_told_so_before_it_was_resumed_is_not_told_again():
    watch = CollapseWatch(recipe(), CLASSES)
    watch.rest()
    values = {"positive_similarity": 0.5, "negative_similarity": 0.5, "bias": 0.0}
    seen = [watch.see(step, 1e9, values, head_settings(recipe())) for step in range(1, 301)]
    assert set(seen) == {None}


def between(points, step):
    """Linear between recorded (step, value) points."""
    (x0, y0), (x1, y1) = next((a, b) for a, b in pairwise(points) if step <= b[0])
    return y0 + (y1 - y0) * (step - x0) / (x1 - x0)


# Recorded: published form, r 30, m 0.3, lr 0.1, seed 4, the slowest to start of five.
SLOW_LOSS = [(0, 41.2), (6, 32.6), (11, 31.1), (21, 32.8), (51, 30.4), (101, 30.6), (201, 27.1),
             (401, 13.5), (900, 2.3)]  # fmt: skip
SLOW_OWN = [(0, 0.0), (101, 0.011), (151, 0.109), (201, 0.234), (401, 0.603), (900, 0.78)]
# Recorded: our defaults, r from 10.
GROWING_LOSS = [(0, 53.6), (21, 49.9), (51, 44.3), (101, 37.0), (301, 18.6), (900, 4.0)]
GROWING_OWN = [(0, 0.0), (21, 0.01), (51, 0.103), (101, 0.277), (301, 0.628), (900, 0.81)]
# Recorded: published form, r 40, m 0.4, lr 0.3.
LOST_LOSS = [(0, 60.3), (5, 36.3), (21, 44.7), (49, 53.5), (77, 48.4), (133, 59.2), (175, 48.3),
             (231, 40.3), (300, 36.9), (900, 36.9)]  # fmt: skip


def test_a_slow_start_is_no_collapse():
    series = lambda step: (between(SLOW_LOSS, step), between(SLOW_OWN, step), 0.0, 30.0)  # noqa: E731
    assert told(recipe(r=30, m=0.3, **LEARNED), series) == {}


def test_a_curriculum_is_no_collapse():
    def series(step):
        scale = min(10 + 30 * step / 360, 40.0)
        return between(GROWING_LOSS, step), between(GROWING_OWN, step), 0.0, scale

    assert told(recipe(), series) == {}


@pytest.mark.parametrize(("warmup", "first"), [(50, 100), (80, 130)])
def test_a_collapse_is_told_once_with_what_to_change(warmup, first):
    series = lambda step: (between(LOST_LOSS, step), 0.045, 0.04, 40.0)  # noqa: E731
    found = told(recipe(warmup, **LEARNED), series)
    assert list(found) == [first]
    (text,) = found.values()
    assert f"the run has collapsed: in steps {first - 49} to {first} images are as similar" in text
    assert "(mean cosines 0.040 and 0.045)" in text
    assert "a head that tells nobody apart has 38.46" in text
    assert f"the bias went between -{first / 100:g}" in text
    assert "lower optimizer.lr (0.3) or head.loss_weight (50), or let r grow" in text
    assert text.endswith("(here: learned, none).")


def test_a_run_that_learnt_and_lost_it_is_told():
    def series(step):
        return (10.0, 0.6, 0.0, 40.0) if step < 500 else (60.0, 0.02, 0.01, 40.0)

    (step, text), *more = told(recipe(), series).items()
    assert (step, more) == (550, [])
    assert "a larger head.curriculum.share (0.4) or a smaller head.curriculum.r (10)" in text


def test_a_high_loss_with_similarities_apart_is_no_collapse():
    assert told(recipe(), lambda step: (80.0, 0.3, 0.0, 40.0)) == {}


def test_a_unified_loss_is_told_its_own_settings():
    said = recipe(loss="uce", scale=64)
    (text,) = told(said, lambda step: (68.0, 0.19, 0.185, 64.0)).values()
    assert text.endswith("lower optimizer.lr (0.3) or head.scale (64).")


def test_the_page_of_a_collapsed_run_says_so(tmp_path):
    lines = ({"step": 100, "loss": 48.0}, {"step": 100, "collapsed": 1.0})
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    summary = {"steps": 100, "images_per_s": 1.0, "data_wait": 0.0}
    write_page(RunFolder(tmp_path), recipe(), summary)
    page = (tmp_path / "training.html").read_text()
    assert "By step 100 the run had collapsed" in page
    assert "lower optimizer.lr (0.3)" in page
    shown = []
    watch(tmp_path, shown.append, None, (80, 0))
    assert f"{tmp_path}: step 100, collapsed by step 100, loss 48.0000" in shown[0]


def test_a_softmax_is_not_watched():
    watch = CollapseWatch(recipe(), CLASSES)
    for step in range(1, 300):
        assert watch.see(step, 99.0, {}, MarginSoftmax("normface")) is None
