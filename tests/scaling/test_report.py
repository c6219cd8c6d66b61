"""The report's arithmetic, columns and pictures, from measurements that are made up."""

import csv
import io
import json

import pytest

from sf2cli.scaling import report
from sf2cli.scaling.plots import scale_plot
from sf2cli.scaling.results import Measurement, RankResult
from sf2cli.scaling.step_time import Rates
from sf2cli.scaling.usage import Usage
from sf2cli.scaling.workload import HeadKind, Point, Workload

PHASES = ("product", "elementwise", "update", "communication", "other")
# So that the products alone make up the model's step: 3.84 us an identity, halved.
RATES = Rates(
    product_flops=1e9,
    pairs=1e18,
    update=1e18,
    latency=0,
    link=1e18,
    tile_rows=64,
    dispatch=0,
)


def _measurement(head, num_ids, seconds, head_bytes):
    ranks = [
        RankResult(
            device="cpu",
            step_s=[seconds * factor, seconds, seconds * 2],
            head_s=[seconds] * 3,
            losses=[9.0, 8.0, 7.0],
            before_bytes=1000,
            kept_bytes=head_bytes // 4,
            peak_bytes=1000 + head_bytes // 2,
            peak_was_reset=True,
            phases=dict(zip(PHASES, (5.0, 2.0, 1.0, 1.0, 1.0), strict=True)),
            product_flops=1e9,
            rates=None if head.is_softmax else RATES,
            usage=Usage(wall_s=2.0, own_s=1.5, machine_s=4.0, cores=2),
            tile_rows=64,
            products="float32",
            kernels="c++",
        )
        for factor in (0.5, 0.75)
    ]
    point = Point(head=head, num_ids=num_ids, workload=Workload(nproc=2, embedding_size=10))
    return Measurement(point=point, ranks=ranks)


OURS = _measurement(HeadKind(storage="bf16"), 1000, 0.1, 400)
OPPONENT = _measurement(HeadKind(name="cosface"), 1000, 0.8, 1600)
ROWS = [
    OURS.row(2000),
    OPPONENT.row(3000),
    _measurement(HeadKind(storage="bf16"), 4000, 0.4, 1600).row(4000),
]


def test_ranks_are_put_together():
    row = ROWS[0]
    # The slowest rank of each step: 0.075, 0.1 and 0.2 s.
    assert [row[f"step{end}_s"] for end in ("", "_min", "_max")] == pytest.approx([0.1, 0.075, 0.2])
    assert row["ids_samples_per_s"] == pytest.approx(1000 * 128 / 0.1)
    assert (row["rank_peak_bytes"], row["all_peaks_bytes"]) == (1200, 2400)
    assert (row["head_bytes"], row["kept_bytes"], row["beyond_bytes"]) == (400, 100, 100)
    assert [row[f"share_{phase}"] for phase in PHASES] == pytest.approx([0.5, 0.2, 0.1, 0.1, 0.1])
    assert row["product_fraction"] == pytest.approx(6 * 128 * 10 * 1000 / 0.1 / 2e9)
    # Of 2 s on 2 cores others had 1 s, half a core, and the ranks left none to spare.
    assert row["cores_lost"] == pytest.approx(0.5)
    assert row["model_s"] == pytest.approx(6 * 128 * 10 * 500 / 1e9)
    assert row["model_error"] == pytest.approx(0.00384 / 0.1 - 1)
    assert (row["rate_product_flops"], ROWS[1]["rate_product_flops"]) == (1e9, None)
    assert (row["first_loss"], row["last_loss"]) == (9.0, 7.0)


def test_sphereface2_against_softmax_of_the_same_size():
    assert report.comparison(ROWS) == [
        {
            "num_ids": 1000,
            "head": "sphereface2 bf16",
            "against": "cosface fp32",
            "times_as_fast": pytest.approx(8),
            "part_of_memory": pytest.approx(0.25),
        }
    ]


def test_the_folder(tmp_path, capsys):
    whole = report.whole_report({}, {}, [], ROWS, ["not measured: x"], more=1)
    report.write(tmp_path, whole, "title")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "scale.csv",
        "scale.json",
        "scale.png",
    ]
    assert json.loads((tmp_path / "scale.json").read_text()) == whole
    read = list(csv.DictReader(io.StringIO((tmp_path / "scale.csv").read_text())))
    assert [row["head"] for row in read] == [row["head"] for row in ROWS]
    assert float(read[2]["step_s"]) == 0.4
    assert read[1]["model_s"] == ""
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")
    assert "scale.json" in capsys.readouterr().err


def test_every_column_of_the_csv_is_explained_or_plain():
    explained = " ".join(report.DEFINITIONS)
    for column in (
        "beyond_bytes",
        "product_fraction",
        "tile_product_flops",
        "model_s",
        "head_bytes",
    ):
        assert column in explained
        assert column in ROWS[0]


def test_the_tables(capsys):
    report.show(ROWS, ["not measured: x"], "title")
    out = capsys.readouterr().out
    for said in ("cosface fp32", "8.00", "0.25", "-96%", "not measured: x", "seconds a step"):
        assert said in out


def test_a_picture_of_one_point():
    assert scale_plot(ROWS[:1], "one").startswith(b"\x89PNG")
