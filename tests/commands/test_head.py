"""`sf2 head info` as a user types it."""

import json

import pytest
import torch

from sf2cli.heads import info
from sf2cli.heads.optimizer import HeadSGD
from sf2cli.heads.sharded import ShardedHead
from sf2cli.heads.sphereface2 import SphereFace2
from tests.command import sf2
from tests.heads.saving import save_head
from tests.training.small import STEPS, losses_of, write_place

CLASSES, WIDTH = 40, 6


def save(folder, dtype, names=True):
    """A head with a row that is nan, one twice as long, and one that is there twice."""
    head = ShardedHead(CLASSES, WIDTH, SphereFace2(), dtype=dtype)
    head.weight.data[7] = head.weight.data[3]
    head.weight.data[9] *= 2
    head.weight.data[11, 2] = torch.nan
    folder.mkdir(parents=True)
    named = [f"person {i}" for i in range(CLASSES)] if names else None
    save_head(folder, head, HeadSGD(head, 0.1), named)
    return head


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_unsound_rows_are_named(dtype, tmp_path):
    save(tmp_path / "run" / "head", dtype)
    done = sf2("head", "info", "run", "--json", cwd=tmp_path)
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert (found["num_classes"], found["embedding_size"]) == (CLASSES, WIDTH)
    assert found["dtype"] == str(dtype).removeprefix("torch.")
    assert found["not_finite"] == {"count": 1, "first": ["person 11"]}
    assert found["not_unit"] == {"count": 1, "first": ["person 9"]}
    assert found["same_direction"] == {"count": 1, "first": [["person 3", "person 7"]]}
    assert found["norms"]["max"] == pytest.approx(2, abs=0.02)
    assert found["files"][0]["stop"] == CLASSES


def test_the_tables_say_it_and_list_similar_identities(tmp_path):
    save(tmp_path / "run" / "head", torch.float32, names=False)
    done = sf2("head", "info", "run", "--similar", "0.999", cwd=tmp_path)
    assert done.code == 0, done.err
    for said in (
        "40, no names",
        "variant C, lambda 0.7, r 40, m 0.4, t 3",
        "rows equal to an earlier one: 3 = 7",
        "rows-000000000-000000040.safetensors",
        "1 pairs of identities above 0.999",
    ):
        assert said in " ".join(done.out.split()), said


def test_a_softmax_head_with_sub_centres_is_trained_read_and_gone_on_with(tmp_path):
    write_place(tmp_path)
    head = "head={loss: arcface, scale: 16, margin: 0.5, sub_centres: 3}"
    train = ("train", "recipe.yaml", "--deepspeed", "ds.json", "--set", head)
    done = sf2(*train, cwd=tmp_path)
    assert done.code == 0, done.err
    assert "head: arcface, 3 sub-centres, all classes" in done.err
    done = sf2("head", "info", "runs/tiny", cwd=tmp_path)
    assert done.code == 0, done.err
    assert "arcface, margin 0.5, scale 16, 3 sub-centres" in done.out
    # Its rows have any length.
    assert "The head is sound." in done.out
    more = sf2(*train, "--set", f"schedule.steps={STEPS + 1}", "--resume", cwd=tmp_path)
    assert more.code == 0, more.err
    assert len(losses_of(tmp_path / "runs" / "tiny")) == STEPS + 1


def test_similar_pairs_are_those_of_the_whole_matrix(tmp_path, monkeypatch):
    monkeypatch.setattr(info, "_COMPARED", 7)
    head = ShardedHead(CLASSES, WIDTH, SphereFace2())
    save_head(tmp_path, head, HeadSGD(head, 0.1))
    cos = (head.weight @ head.weight.T).detach().triu(1)
    found = info.head_info(tmp_path, 0.3)["similar"]
    assert found["count"] == (cos > 0.3).sum() > info._LISTED
    best = cos.flatten().topk(info._LISTED).values
    assert [cosine for _, _, cosine in found["first"]] == pytest.approx(best.tolist(), abs=1e-6)
    a, b, cosine = found["first"][0]
    assert cos[int(a), int(b)].item() == pytest.approx(cosine, abs=1e-6)


def test_a_sound_head_is_called_sound_and_a_changed_one_is_refused(tmp_path):
    head = ShardedHead(CLASSES, WIDTH, SphereFace2())
    (tmp_path / "run" / "head").mkdir(parents=True)
    save_head(tmp_path / "run" / "head", head, HeadSGD(head, 0.1))
    assert "The head is sound." in sf2("head", "info", "run", cwd=tmp_path).out
    (path,) = (tmp_path / "run" / "head").glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    done = sf2("head", "info", "run", cwd=tmp_path)
    assert done.code == 1
    assert path.name in done.err


def test_a_folder_without_a_head_is_refused(tmp_path):
    done = sf2("head", "info", "nowhere", cwd=tmp_path)
    assert done.code == 1
    assert "nowhere: neither a run with a checkpoint nor a checkpoint" in done.err
