"""`sf2 eval --compare`, `--table`, and reports that are kept, as a user types them."""

import json
import re
import sys

import numpy as np
import pytest
import torch

from sf2cli.backbones.registry import build_backbone
from sf2cli.backbones.saved import save_model
from sf2cli.cli import main
from tests.evaluation.protocols import write_ijb, write_megaface
from tests.evaluation.small import write_bin, write_model, write_photos, write_set


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("compare")
    write_set(folder / "set", write_photos(folder / "photos", identities=6, images=4))
    write_bin(folder / "good.bin", [True, False] * 10)
    write_ijb(folder / "IJBC")
    write_megaface(folder / "mega")
    write_model(folder / "a" / "model")
    torch.manual_seed(1)
    card = {"name": "sfnet4_bn", "embedding_size": 8, "image_size": 16, "channels": 1}
    state = build_backbone(**card).state_dict()
    save_model(folder / "b" / "model", state, backbone=card, head={}, training={})
    return folder


@pytest.fixture
def sf2(place, monkeypatch, capsys):
    monkeypatch.chdir(place)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["sf2", "eval", *args])
        with pytest.raises(SystemExit) as end:
            main()
        return end.value.code or 0, *capsys.readouterr()

    return run


def test_models_and_reports_side_by_side(sf2, place):
    code, out, err = sf2("--compare", "a", "b", "--set", "set", "--bin", "good.bin", "--out", "ab")
    assert code == 0, err
    assert "a" in out
    assert "b less a" in " ".join(out.split())
    found = json.loads((place / "ab" / "compare.json").read_text())
    assert list(found["runs"]) == ["a", "b"]
    assert [entry["drawn"] for entry in found["sets"]] == ["identities", "pairs"]
    reports = [json.loads((place / "ab" / n / "report.json").read_text()) for n in ("1-a", "2-b")]
    for k, entry in enumerate(found["sets"]):
        for name, report in zip("ab", reports, strict=True):
            model = report["sets"][k]["results"]["model"]
            assert entry["values"][name]["EER"] == pytest.approx(model["eer"], abs=1e-12)
            assert entry["values"][name]["AUC"] == pytest.approx(model["auc"], abs=1e-12)
        difference = entry["differences_to_the_first"]["b"]["EER"]
        assert difference["low"] <= difference["high"]
    html = (place / "ab" / "compare.html").read_text()
    assert not re.findall(r'(?:src|href)="(?!data:|#)', html)
    assert html.count("<figure>") == 4

    code, out, err = sf2("--compare", "ab/1-a", "ab/2-b", "--out", "again", "--json")
    assert code == 0, err
    again = json.loads(out)
    assert again["sets"] == found["sets"]
    code, _, err = sf2("--compare", "ab/1-a", "ab/2-b", "--out", "again")
    assert code == 1
    assert "a report is there already (compare.json)" in err


@pytest.mark.parametrize(
    ("command", "status", "message"),
    [
        ("--compare a b", 1, "--compare a: no report in it"),
        ("a b --set set", 2, "MODEL: found 2, expected one, or --compare"),
        ("--compare a --set set --out one", 1, "found one run, expected two or more"),
        ("a --set set --json --table md", 2, "--json and --table"),
    ],
)
def test_mistakes(sf2, command, status, message):
    code, _, err = sf2(*command.split())
    assert code == status
    assert message in " ".join(err.split())
    assert "Traceback" not in err


def test_every_protocol_is_compared(sf2, place):
    protocols = ("--identify", "set", "--ijb", "IJBC", "--megaface", "mega", "--bin", "good.bin")
    code, out, err = sf2("--compare", "a", "b", *protocols, "--combined", "--out", "all", "--json")
    assert code == 0, err
    found = {entry["name"]: entry for entry in json.loads(out)["sets"]}
    assert {name: entry["drawn"] for name, entry in found.items()} == {
        "good": "pairs",
        "combined": "pairs",
        "set: identification": "identities",
        "IJB-C: 1:1": "identities",
        "IJB-C: 1:N": "identities",
        "MegaFace": "identities",
    }
    report = json.loads((place / "all" / "2-b" / "report.json").read_text())
    entries = {entry["name"]: entry["results"] for entry in report["sets"]}

    def value(of, metric):
        return found[of]["values"]["b"][metric]

    def rank_1(of, name):
        return entries[of][name]["rank_rates"][0]["rate"]

    assert value("set: identification", "rank 1") == rank_1("set: identification", "model")
    assert value("MegaFace", "rank 1") == pytest.approx(rank_1("MegaFace", "model"), abs=1e-12)
    for gallery in ("gallery G1", "gallery G2"):
        assert value("IJB-C: 1:N", f"{gallery}: rank 1") == rank_1("IJB-C: 1:N", gallery)
    pooled = entries["combined"]["model"]
    assert value("combined", "best accuracy") == pytest.approx(pooled["best_accuracy"], abs=1e-12)
    apart = found["combined"]["differences_to_the_first"]["b"]["accuracy over folds"]
    assert (apart["low"], apart["high"]) == (None, None)
    html = (place / "all" / "compare.html").read_text()
    for word in ("TPIR at FPIR", "MegaFace rank-k", "template", "not drawn", "difference"):
        assert f"<dt>{word}</dt>" in html
    assert "most similar people, gallery G2." in html


def test_what_is_not_compared_is_named(sf2, place):
    everything = ("--ijb", "IJBC", "--bin", "good.bin", "--set", "set")
    assert sf2("a", *everything, "--out", "more")[0] == 0
    options = ("--convention", "insightface", "--out", "less")
    assert sf2("b", "--ijb", "IJBC", "--set", "set", "--identify", "set", *options)[0] == 0
    content = json.loads((place / "less" / "report.json").read_text())
    assert sf2("b", "--set", "set", "--out", "plain")[0] == 0
    content["sets"][0] = json.loads((place / "plain" / "report.json").read_text())["sets"][0]
    content["warnings"] = ["what the self-check said"]
    (place / "less" / "report.json").write_text(json.dumps(content))
    code, out, err = sf2("--compare", "more", "less", "--out", "some", "--json")
    assert code == 0, err
    assert [entry["name"] for entry in json.loads(out)["sets"]] == ["set"]
    assert json.loads(out)["not_compared"] == [
        "good: not in the report of b",
        "IJB-C: 1:1: measured by the convention sf2 in a and by insightface in b",
        "IJB-C: 1:N: not in the report of b",
        "set: identification: in the report of b, not in the first",
        "IJB-C: 1:N: in the report of b, not in the first",
    ]
    html = (place / "some" / "compare.html").read_text()
    assert "<li>what the self-check said</li>" in html
    assert "Good: not in the report of b." in html


def test_two_reports_of_one_model_get_the_names_of_their_folders(sf2, place):
    for name, options in (("with", ()), ("without", ("--no-mirror",))):
        assert sf2("a", "--bin", "good.bin", *options, "--out", f"flips/{name}")[0] == 0
    code, out, err = sf2("--compare", "flips/with", "flips/without", "--out", "flips", "--json")
    assert code == 0, err
    assert list(json.loads(out)["runs"]) == ["with", "without"]


def test_reports_without_a_set_in_common_or_with_damaged_scores(sf2, place):
    assert sf2("a", "--set", "set", "--out", "on-set")[0] == 0
    assert sf2("b", "--bin", "good.bin", "--out", "on-bin")[0] == 0
    code, _, err = sf2("--compare", "on-set", "on-bin", "--out", "none")
    assert code == 1
    assert "no set is in all of the reports (a: set; b: good)" in " ".join(err.split())
    (place / "on-bin" / "scores.npz").write_bytes(b"PK\x03\x04 cut short")
    code, _, err = sf2("--compare", "on-set", "on-bin", "--out", "none")
    assert code == 1
    assert "on-bin/scores.npz" in "".join(err.split())


def test_kept_scores_are_those_of_the_report(sf2, place):
    assert sf2("a", "--set", "set", "--out", "kept")[0] == 0
    with np.load(place / "kept" / "scores.npz") as kept:
        assert kept["0.scores"].shape == (24 * 23 // 2,)
        issame = np.unpackbits(kept["0.issame"], count=276)
        assert issame.sum() == 6 * 6
        assert len(kept["0.labels"]) == 24


def test_tables_to_paste(sf2):
    code, out, _ = sf2("a", "--set", "set", "--out", "md", "--table", "md")
    assert code == 0
    header, rule, model, pixels = out.splitlines()[2:6]
    assert header.startswith("|  | EER | AUC | 10-fold accuracy | TAR at FAR ≤ 10% |")
    assert {line.count("|") for line in (header, rule, model, pixels)} == {9}
    assert model.startswith("| model | ")
    code, out, _ = sf2("a", "--set", "set", "--out", "tex", "--table", "latex")
    assert code == 0
    rows = [line for line in out.splitlines() if line.endswith(r"\\")]
    assert len(rows) == 3
    assert {line.count("&") for line in rows} == {7}
    assert not re.search(r"(?<!\\)%", "".join(rows))
    assert r"$\leq$" in rows[0]
