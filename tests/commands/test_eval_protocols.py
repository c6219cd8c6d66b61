"""`sf2 eval` on every protocol beyond pairs, as a user types it."""

import json
import sys

import numpy as np
import pytest

from sf2cli.backbones.registry import build_backbone
from sf2cli.backbones.saved import save_model
from sf2cli.cli import main
from sf2cli.evaluation import all_pairs
from sf2cli.evaluation.tenfold import tenfold_accuracy
from tests.evaluation.protocols import write_ijb, write_megaface
from tests.evaluation.small import EDGE, write_bin, write_photos, write_set

HEAD = {"loss": "sphereface2", "lambda": 0.7, "r": 30.0, "m": 0.3, "t": 3.0, "bias": 1.0}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("protocols")
    write_set(folder / "set", write_photos(folder / "photos", identities=6, images=4))
    write_ijb(folder / "IJBC")
    write_megaface(folder / "mega")
    write_bin(folder / "a.bin", [True, False] * 10)
    write_bin(folder / "b.bin", [True, True, False] * 7)
    card = {"name": "sfnet4_bn", "embedding_size": 8, "image_size": EDGE, "channels": 1}
    state = build_backbone(**card).state_dict()
    for name, head in (
        ("run", {**HEAD, "num_classes": 30}),
        ("softmax", {"loss": "arcface", "num_classes": 30}),
    ):
        save_model(folder / name, state, backbone=card, head=head, training={})
    return folder


@pytest.fixture
def sf2(place, monkeypatch, capsys):
    """Runs `sf2 eval` in `place`; exit status, standard output, standard error."""
    monkeypatch.chdir(place)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["sf2", "eval", *args])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return run


@pytest.fixture
def evaluated(sf2, tmp_path):
    """The content of report.json, by the names of its sets, and the page."""

    def run(*args):
        code, out, err = sf2(*args, "--no-cache", "--out", str(tmp_path / "report"))
        assert code == 0, err
        report = json.loads((tmp_path / "report" / "report.json").read_text())
        page = (tmp_path / "report" / "report.html").read_text()
        return {entry["name"]: entry for entry in report["sets"]}, report, page, out

    return run


def test_one_command_takes_every_protocol(evaluated):
    sets, report, page, out = evaluated(
        *("run", "--set", "set", "--bin", "a.bin", "--bin", "b.bin", "--combined"),
        *("--identify", "set", "--ijb", "IJBC", "--megaface", "mega"),
    )
    assert list(sets) == [
        *("set", "a", "b", "combined"),
        *("set: calibration", "a: calibration", "b: calibration"),
        *("set: identification", "IJB-C: 1:1", "IJB-C: 1:N", "MegaFace"),
    ]
    for name, entry in sets.items():
        assert f">{name}</h2>" in page
        assert f"{name}: " in out
        assert len(entry["data_sha256"]) == 64
    # Whatever a table heads is defined.
    for word in ("TAR at FAR", "template", "rank-k", "TPIR at FPIR", "ECE", "combined"):
        assert word in report["definitions"]
    assert "Infinity" not in json.dumps(report)
    assert "NaN" not in json.dumps(report)


def test_combined_is_the_pool_under_one_threshold(evaluated):
    sets, *_ = evaluated("run", "--bin", "a.bin", "--bin", "b.bin", "--combined")
    combined = sets["combined"]
    assert "21 genuine" not in combined["counts"]
    assert "24 genuine and 17 impostor pairs" in combined["counts"]
    model = combined["results"]["model"]
    weights = {"a": 20, "b": 21}
    each = model["accuracy_of_each"]
    pooled = sum(each[name] * pairs for name, pairs in weights.items()) / 41
    assert model["best_accuracy"] == pytest.approx(pooled, abs=1e-12)
    assert combined["results"]["trained"]["accuracy"] <= model["best_accuracy"]
    for name in weights:
        assert each[name] <= sets[name]["results"]["model"]["best_accuracy"]


def test_calibration_is_of_sphereface2_alone(evaluated):
    sets, *_ = evaluated("run", "--bin", "a.bin")
    found = sets["a: calibration"]["results"]
    assert set(found) == {"tuned", "trained", "prior"}
    assert found["trained"]["accuracy"] <= found["tuned"]["accuracy"]
    sets, *_ = evaluated("softmax", "--bin", "a.bin", "--overwrite")
    assert list(sets) == ["a"]
    assert sets["a"]["results"]["model"]["best_accuracy"] is not None


def test_a_set_beyond_the_limit_is_counted_with_the_same_numbers(evaluated, monkeypatch):
    few, *_ = evaluated("run", "--set", "set")
    monkeypatch.setattr(all_pairs, "MAX_IMAGES", 10)
    many, *_ = evaluated("run", "--set", "set", "--overwrite")
    one, other = few["set"], many["set: all pairs"]
    assert other["protocol"] == "all pairs, counted"
    assert (one["genuine"], one["impostor"]) == (other["genuine"], other["impostor"])
    one, other = one["results"]["model"], other["results"]["model"]
    for number in ("eer", "auc", "best_accuracy"):
        assert other[number] == pytest.approx(one[number], abs=1e-12)
    assert [entry["tar"] for entry in other["tar_at_far"]] == [
        entry["tar"] for entry in one["tar_at_far"]
    ]


@pytest.mark.parametrize("convention", ["sf2", "insightface", "opensphere"])
def test_conventions_differ_and_say_so(evaluated, convention):
    sets, report, _, out = evaluated(
        *("run", "--bin", "a.bin", "--ijb", "IJBC", "--identify", "set"),
        *("--convention", convention),
    )
    phrases = {
        "sf2": "does not exceed the target",
        "insightface": "nearest to the target",
        "opensphere": "joined by straight lines (opensphere",
    }
    assert phrases[convention] in report["definitions"]["TAR at FAR"]
    tar = sets["a"]["results"]["model"]["tar_at_far"][0]
    assert (tar["threshold"] is None) == (convention == "opensphere")
    assert ("best" in out.split("a: InsightFace")[1][:700]) == (convention == "opensphere")
    assert ("gallery G1 + G2" in sets["IJB-C: 1:N"]["results"]) == (convention != "sf2")
    weighted = "detector's score" in report["definitions"]["template"]
    assert weighted == (convention != "opensphere")


def test_intervals_and_det_points_stand_in_the_report(evaluated):
    sets, *_ = evaluated("run", "--set", "set", "--bin", "a.bin")
    for name, method in (("set", "bootstrap"), ("a", "binomial")):
        found = sets[name]["results"]["model"]
        measured = [entry for entry in found["tar_at_far"] if entry["tar"] is not None]
        assert measured
        for entry in measured:
            assert entry["interval"]["method"] == method
            assert 0 <= entry["interval"]["low"] <= entry["interval"]["high"] <= 1
        det = found["det"]
        assert len(det["far"]) == len(det["frr"]) == len(det["threshold"])
        assert (det["far"][-1], det["frr"][-1]) == (1, 0)


MISTAKES = {
    "combined alone": ("run --set set --combined", 2, "--combined pools what --bin and --pairs"),
    "no convention": ("run --set set --convention mine", 2, "'mine' is not one of"),
    "no IJB": ("run --ijb set", 1, "--ijb set: neither meta/ijbb_face_tid_mid.txt"),
    "no MegaFace": ("run --megaface set", 1, "--megaface set: neither facescrub_lst"),
    "no set": ("run --identify none", 1, "packed set none: no such folder"),
    "nothing": ("run", 2, "--identify, --ijb or --megaface"),
}


@pytest.mark.parametrize(("command", "status", "message"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes_are_one_message(sf2, command, status, message):
    code, out, err = sf2(*command.split(), "--out", "new/report")
    assert code == status
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert out == ""


def test_folds_of_the_pool_are_those_of_its_sets():
    """The accuracy over folds of two equal lists is that of one."""
    generator = np.random.default_rng(0)
    distances, same = generator.random(40) * 4, generator.random(40) < 0.5
    folds = np.repeat(np.arange(10), 4)
    one = tenfold_accuracy(distances, same, folds=folds)
    both = tenfold_accuracy(
        np.tile(distances, 2), np.tile(same, 2), folds=np.tile(folds, 2).astype(np.int8)
    )
    np.testing.assert_array_equal(one.accuracy_per_fold, both.accuracy_per_fold)
