"""The losses study in small: characters of matplotlib's own fonts, three losses, two seeds.

What it shows is that SphereFace2 as it is by default trains from a random start to where softmax
losses of the same few steps come, and that a study is the same when it is done again.
"""

import importlib.util
import json
import shutil
from pathlib import Path
from statistics import mean

import pytest
import yaml

from tests.command import sf2
from tests.training.small import CONFIGS

FONTS = Path(importlib.util.find_spec("matplotlib").origin).parent / "mpl-data" / "fonts" / "ttf"
STYLES = ("Sans", "Sans-Bold", "Sans-Oblique", "Serif", "Serif-Bold", "Serif-Italic", "SansMono")
GLYPHS = {
    "faces": "fonts",
    "characters": "U+0430-0451,U+0531-0586,U+2190-21FF,U+2200-22FF,U+2500-257F,U+25A0-25FF",
    "min_seen": 4,
    "min_unseen": 1,
    "unseen_share": 0.25,
    "split_seed": 1,
    "test": 80,
}
PARTS = {
    "train": {"part": "train", "seen_images": 12},
    "test": {"part": "test", "seen_images": 4, "unseen_images": 2},
}
LOSSES = {
    "sphereface2": {},
    "normface": {"head": {"loss": "normface", "scale": 10}, "optimizer.lr": 0.3},
    "arcface": {"head": {"loss": "arcface", "scale": 16, "margin": 0.5}},
}
SEEDS = [1, 2]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("losses")
    (place / "fonts").mkdir()
    for style in STYLES:
        shutil.copy(FONTS / f"DejaVu{style}.ttf", place / "fonts")
    for part, own in PARTS.items():
        (place / f"{part}.yaml").write_text(yaml.safe_dump({**GLYPHS, **own}))
        packed = sf2("pack", f"{part}.yaml", f"shards/{part}", "--workers", "1", cwd=place)
        assert packed.code == 0, packed.err
    recipe = yaml.safe_load((CONFIGS / "studies" / "glyphs.yaml").read_text())
    recipe["data"]["shards"] = "shards/train"
    recipe["schedule"] = {"kind": "cosine", "steps": 120, "warmup_steps": 10}
    recipe |= {"batch_size": 64, "precision": "fp32"}
    recipe["backbone"]["embedding_size"] = 64
    (place / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    shutil.copy(CONFIGS / "ds_zero0.json", place / "ds.json")
    study = {
        "name": "losses",
        "recipe": "recipe.yaml",
        "deepspeed": "ds.json",
        "test": "shards/test",
        "seeds": SEEDS,
        "compare": "loss",
        "baseline": "normface",
        "axes": {"loss": LOSSES},
    }
    (place / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return place


def metrics(place, loss, seed):
    result = place / "studies" / "losses" / "runs" / loss / f"seed-{seed}" / "result.json"
    return json.loads(result.read_text())["metrics"]


def test_sphereface2_trains_from_the_start_as_softmax_losses_do(place):
    found = sf2("study", "study.yaml", "--jobs", "2", cwd=place)
    assert found.code == 0, found.err
    eer = {loss: mean(metrics(place, loss, seed)["EER"] for seed in SEEDS) for loss in LOSSES}
    # Chance is 50; the three lie between 13 and 19 here.
    assert max(eer.values()) < 25
    assert eer["sphereface2"] < 1.4 * min(eer.values())

    first = metrics(place, "sphereface2", 1)
    shutil.rmtree(place / "studies" / "losses" / "runs" / "sphereface2" / "seed-1")
    again = sf2("study", "study.yaml", "--jobs", "2", cwd=place)
    assert again.code == 0, again.err
    assert metrics(place, "sphereface2", 1) == first
    assert again.out == found.out
