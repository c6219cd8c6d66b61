"""What a run says when a step is no number, and how it finds out whose fault it was."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from sf2cli.errors import Sf2Error
from sf2cli.training.gone_wrong import stop_if_not_finite
from sf2cli.training.probe import Probe


class TwoRanks:
    """The first of two ranks; the second one's samples are given."""

    def __init__(self, other):
        self._other = other

    def collect(self, value):
        return [value, self._other]

    def agree(self, value):
        return value


def check(tmp_path, other=(), **values):
    stop_if_not_finite(
        TwoRanks(list(other)),
        **{
            "step": 7, "lr": 0.1, "loss": 2.0, "gradient_norm": 1.0, "skipped": False,
            "unsound": list, "keys": lambda: [f"id{i}/0" for i in range(8)],
            "checkpoints": tmp_path, **values,
        },
    )  # fmt: skip


def test_a_good_step_passes_and_asks_nobody(tmp_path):
    check(tmp_path, keys=None, unsound=None)
    check(tmp_path, keys=None, unsound=None, gradient_norm=None)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"loss": float("nan")}, "the loss is nan at step 7 (learning rate 0.1)"),
        ({"loss": float("inf")}, "the loss is inf at step 7"),
        ({"gradient_norm": float("nan")}, "the backbone's gradient is not finite (loss 2) at step"),
        ({"skipped": True}, "the backbone's gradient is not finite (loss 2) at step 7"),
    ],
)
def test_it_names_the_step(values, said, tmp_path):
    with pytest.raises(Sf2Error) as raised:
        check(tmp_path, **values)
    assert said in raised.value.message
    # No sample's features are to blame: the batch is shown.
    assert "features are finite on every rank; the batch of rank 0: id0/0, id1/0" in str(raised)
    assert "id4/0 and 3 more" in raised.value.message
    assert "No checkpoint." in raised.value.remedy


def test_it_names_rank_samples_and_checkpoint(tmp_path):
    (tmp_path / "step-00000005").mkdir()
    bad = {"loss": float("nan")}
    with pytest.raises(Sf2Error) as raised:
        check(tmp_path, other=["x/1"], **bad)
    assert "rank 1: features or gradients of x/1 of the batch" in raised.value.message
    assert f"Last good checkpoint: {tmp_path / 'step-00000005'}" in raised.value.remedy
    with pytest.raises(Sf2Error, match=r"rank 0 \(and 1 more\): .* of id2/0, id3/0 of the batch"):
        check(tmp_path, other=["x/1"], unsound=lambda: [2, 3], **bad)


def probed():
    backbone = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(backbone.parameters(), 0.1)
    engine = SimpleNamespace(
        backbone=backbone, deepspeed=SimpleNamespace(optimizer=optimizer), gradient_norms=None
    )
    return backbone, optimizer, Probe(engine)


def test_the_probe_finds_samples_in_any_micro_batch():
    backbone, _, probe = probed()
    images = torch.ones(6, 3)
    images[1, 0] = torch.nan
    scale = torch.ones(6, 1)
    scale[4] = torch.inf
    for _ in range(2):
        probe.begin()
        for some, factor in zip(images.split(3), scale.split(3), strict=True):
            (backbone(some) * factor).sum().backward()
        assert probe.unsound_samples() == [1, 4]
    probe.begin()
    with torch.no_grad():
        backbone(images)
    assert probe.unsound_samples() == []


def test_the_probe_measures_the_whole_gradient():
    backbone, optimizer, probe = probed()
    probe.begin()
    # Finite gradients whose squares are not, in float32.
    (backbone(torch.ones(4, 3)) * 1e30).sum().backward()
    every = torch.cat([p.grad.double().flatten() for p in backbone.parameters()])
    optimizer.step()
    assert probe.gradient_norm() == pytest.approx(every.norm().item(), rel=1e-6)
