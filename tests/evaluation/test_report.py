"""The report: the metrics' numbers, on a page that stands alone, in files whole or absent."""

import base64
import errno
import json
import re

import numpy as np
import pytest

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.all_pairs import open_all_pairs
from sf2cli.evaluation.bins import open_bin
from sf2cli.evaluation.evaluate import MODEL, PIXELS, evaluate
from sf2cli.evaluation.open_embedder import open_embedder
from sf2cli.evaluation.report import write
from sf2cli.evaluation.report.document import document
from sf2cli.evaluation.report.page import page
from sf2cli.evaluation.report.panels import panels as make_panels
from sf2cli.evaluation.report.pictures import panels
from sf2cli.evaluation.report.plots import staircase
from sf2cli.evaluation.verification import SortedScores, auc, eer, tar_at_far
from tests.evaluation.small import photo, write_bin, write_model, write_photos, write_set

NAMES = ("report.json", "report.html")
ARGV = ["eval", "run", "--set", "a set"]


@pytest.fixture(scope="module")
def evaluation(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report")
    photos = write_photos(folder / "photos", identities=4, images=4)
    (photos / "id3").rename(photos / "<b>&id3")
    sets = [
        open_all_pairs(write_set(folder / "held-out", photos)),
        open_bin(write_bin(folder / "tiny.bin", [True, False, False])),
    ]
    return evaluate(open_embedder(write_model(folder / "model")), sets)


@pytest.fixture(scope="module")
def made(evaluation):
    return make_panels(evaluation)


@pytest.fixture(scope="module")
def content(evaluation, made):
    return document(evaluation, made, ARGV)


@pytest.fixture(scope="module")
def html(evaluation, made, content):
    return page(evaluation, made, content)


def test_baseline_is_the_cosine_of_plain_pixels(evaluation):
    pixels = [photo(k, i).reshape(-1).astype(np.float64) for k in range(4) for i in range(4)]
    # The set is packed in the order of names, and "<b>&id3" comes first.
    rows = np.stack(pixels[12:] + pixels[:12])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    first, second = np.triu_indices(16, 1)
    scores, issame = (rows @ rows.T)[first, second], first // 4 == second // 4
    split = SortedScores.of(scores, issame)
    found = evaluation.results[0].scored[PIXELS].found
    assert found.eer == pytest.approx(eer(split).rate, abs=1e-12)
    assert found.auc == pytest.approx(auc(split), abs=1e-12)


def test_document_is_json_and_says_what_was_counted(evaluation, content):
    held_out, tiny = json.loads(json.dumps(content, allow_nan=False))["sets"]
    assert (held_out["images"], held_out["identities"]) == (16, 4)
    assert (held_out["genuine"], held_out["impostor"]) == (24, 96)
    assert (tiny["images"], tiny["identities"], tiny["genuine"], tiny["impostor"]) == (
        6,
        None,
        1,
        2,
    )
    for entry, result in zip(content["sets"], evaluation.results, strict=True):
        for name in (MODEL, PIXELS):
            assert entry["results"][name]["eer"] == result.scored[name].found.eer
        assert re.fullmatch("[0-9a-f]{64}", entry["data_sha256"])
    assert content["model"]["weights_sha256"] == evaluation.card.sha256
    assert content["made_by"]["command"] == "sf2 eval run --set 'a set'"


def test_what_the_counts_cannot_support_is_null_with_a_note(content):
    held_out, tiny = content["sets"]
    targets = held_out["results"][MODEL]["tar_at_far"]
    assert [entry["far"] for entry in targets if entry["tar"] is None] == [0.01, 0.001, 0.0001]
    assert all(entry["impostors"] == 96 for entry in targets)
    assert held_out["notes"] == [
        "TAR at FAR ≤ 1% needs at least 100 impostor pairs; there are 96.",
        "Calling every pair impostor would already give an accuracy of 80.00%.",
    ]
    assert tiny["results"][MODEL]["accuracy"] is None
    assert "The accuracy over 10 folds needs 10 pairs; there are 3." in tiny["notes"]


def test_a_list_sorted_by_kind_is_told(tmp_path):
    path = write_bin(tmp_path / "sorted.bin", [True] * 15 + [False] * 15)
    [result] = evaluate(open_embedder(write_model(tmp_path / "model")), [open_bin(path)]).results
    assert any("hold pairs of one kind only" in note for note in result.notes)


def test_page_needs_no_other_file(html):
    places = re.findall(r'(?:src|href)="([^"]*)"', html)
    assert places
    assert all(place.startswith(("data:image/", "#")) for place in places)
    for target in (place[1:] for place in places if place.startswith("#")):
        assert f'id="{target}"' in html
    assert "@import" not in html
    assert "url(" not in html


def test_page_shows_every_number_definition_and_note(html, content):
    for entry in content["sets"]:
        for name, found in entry["results"].items():
            row = rf"<td>{name}</td><td>{found['eer']:.2%}</td>.*?<td>{found['auc']:.4f}</td>"
            assert re.search(row, html)
            for target in found["tar_at_far"]:
                assert target["tar"] is None or f"<td>{target['tar']:.2%}</td>" in html
        assert all(note in html for note in entry["notes"])
        assert entry["data_sha256"] in html
    assert "9 of 96" in html
    assert "under 1 of 96" in html
    for name in content["definitions"]:
        assert f"<dt>{name}</dt>" in html


def test_names_from_outside_are_escaped(html):
    assert "<b>&id3" not in html
    assert "&lt;b&gt;&amp;id3" in html


def test_plots_have_labelled_axes_and_are_the_same_each_time(evaluation, content, html):
    assert page(evaluation, make_panels(evaluation), content) == html
    plots = re.findall(r"data:image/svg\+xml;base64,([A-Za-z0-9+/=]+)", html)
    texts = [base64.b64decode(plot).decode() for plot in plots]
    assert len(texts) == 6
    for roc, det, histogram in (texts[:3], texts[3:]):
        # matplotlib draws letters as outlines, and leaves the text itself as comments.
        assert "<!-- FAR (false accept rate, log scale) -->" in roc
        assert "<!-- TAR (true accept rate) -->" in roc
        assert "<!-- FAR (false accept rate, log scale) -->" in det
        assert "<!-- FRR (false reject rate, log scale) -->" in det
        assert "<!-- similarity (cosine) -->" in histogram
        assert "<!-- % of the pairs of a kind -->" in histogram


def test_roc_is_drawn_as_the_highest_tar_up_to_each_far():
    generator = np.random.default_rng(0)
    issame = generator.random(300) < 0.4
    split = SortedScores.of(generator.integers(0, 40, 300) + 9 * issame, issame)
    far, tar = staircase(split)
    assert (far[0], far[-1]) == (1 / len(split.impostor), 1)
    assert (np.diff(far) >= 0).all()
    assert ((np.diff(far) == 0) | (np.diff(tar) == 0)).all()
    for target in np.geomspace(far[0], 1, 50)[1:-1]:
        drawn = tar[np.searchsorted(far, target, side="right") - 1]
        assert drawn == tar_at_far(split, target).tar


def test_panels_are_the_extremes_of_each_kind(evaluation):
    for result in evaluation.results:
        scores, same = result.scored[MODEL].scores, result.pairs.issame
        rising = sorted(range(len(scores)), key=lambda k: (scores[k], k))
        falling = sorted(range(len(scores)), key=lambda k: (-scores[k], k))
        expected = [
            [k for k in rising if same[k]],
            [k for k in falling if not same[k]],
            [k for k in falling if same[k]],
            [k for k in rising if not same[k]],
        ]
        assert [panel.pairs for panel in panels(result)] == [pairs[:6] for pairs in expected]


def test_report_replaces_its_own_files_only(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    write.write_files(tmp_path, {"report.json": "{}", "report.html": "old"})
    with pytest.raises(Sf2Error, match=r"a report is there already \(report.json\)"):
        write.check_folder(tmp_path, NAMES, overwrite=False)
    write.check_folder(tmp_path, NAMES, overwrite=True)
    write.write_files(tmp_path, {"report.json": "{}", "report.html": "new"})
    assert sorted(entry.name for entry in tmp_path.iterdir()) == [
        "notes.txt",
        "report.html",
        "report.json",
    ]
    assert (tmp_path / "report.html").read_text() == "new"


@pytest.mark.parametrize("failure", [OSError(errno.ENOSPC, "No space left"), KeyboardInterrupt()])
@pytest.mark.parametrize("fails_at", [1, 2])
def test_failed_write_leaves_nothing(tmp_path, monkeypatch, failure, fails_at):
    calls = []
    real = write.write_through

    def failing(path, text):
        calls.append(path)
        real(path, text[: len(text) // 2])
        if len(calls) == fails_at:
            raise failure

    monkeypatch.setattr(write, "write_through", failing)
    expected = Sf2Error if isinstance(failure, OSError) else KeyboardInterrupt
    with pytest.raises(expected):
        write.write_files(tmp_path / "new" / "report", {"report.json": "{}", "b": b"page"})
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_hold_a_report_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "taken" / "report.html").mkdir(parents=True)
    for place in ("file", "file/below", "taken"):
        with pytest.raises(Sf2Error, match=f"--out .*{place}"):
            write.check_folder(tmp_path / place, NAMES, overwrite=True)
    write.check_folder(tmp_path / "new" / "below", NAMES, overwrite=False)
    assert not (tmp_path / "new").exists()
