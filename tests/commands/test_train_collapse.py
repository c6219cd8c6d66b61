"""A run that has collapsed says so while it runs: once, and anew where it goes on with a remedy."""

import pytest

from tests.command import sf2
from tests.training.small import lines_of, write_place

# Rows and bias stay where they began, which is worse than the best that knows nothing.
SETTINGS = (
    *("optimizer.lr=1e-9", "schedule={kind: step, steps: 100}"),
    "head={loss_weight: 50, bias: learned, curriculum: null}",
    "backbone={name: sfnet4_slim_bn, embedding_size: 2}",
)
TOLD = "warning: the run has collapsed: in steps "


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return write_place(tmp_path_factory.mktemp("collapse"))


def going(place, *changes, resume=True):
    """What a run says that it trains; later settings win over earlier ones."""
    settings = [part for value in (*SETTINGS, *changes) for part in ("--set", value)]
    line = ("train", "recipe.yaml", "--deepspeed", "ds.json", "--out", "run", *settings)
    done = sf2(*line, *["--resume"] * resume, cwd=place)
    assert done.code == 0, done.err
    return done.err


def collapses(place):
    return [(n["step"], n["collapsed"]) for n in lines_of(place / "run") if "collapsed" in n]


def test_a_collapse_is_told_once_and_watched_for_anew_where_a_remedy_is_tried(place):
    first = going(place, resume=False)
    assert f"{TOLD}51 to 100 " in first
    assert "lower optimizer.lr (1e-09) or head.loss_weight (50)" in first
    assert collapses(place) == [(100, 1.0)]
    assert "collapsed by step 100" in sf2("watch", "run", cwd=place).out

    longer = "schedule.steps=150"
    assert TOLD not in going(place, longer)
    assert collapses(place) == [(100, 1.0)]

    tried = going(place, "schedule.steps=160", "optimizer.lr=1e-10")
    assert "optimizer.lr 1e-09 -> 1e-10" in tried
    assert TOLD not in tried
    assert collapses(place) == [(100, 1.0), (150, 0.0)]
    assert "collapsed" not in sf2("watch", "run", cwd=place).out
    assert "had collapsed" not in (place / "run" / "training.html").read_text()

    # The remedy's first 50 steps are not judged, on whichever side of a resume they are.
    kept = ("schedule.steps=250", "optimizer.lr=1e-10")
    assert f"{TOLD}201 to 250 " in going(place, *kept)
    assert collapses(place) == [(100, 1.0), (150, 0.0), (250, 1.0)]
    assert "By step 250 the run had collapsed" in (place / "run" / "training.html").read_text()
