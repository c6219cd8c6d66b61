"""Open-set identification on a packed set: who does what, and what cannot be given."""

import numpy as np
import pytest

from sf2cli.errors import Sf2Error
from sf2cli.evaluation.open_set import draw, open_identification
from tests.evaluation.small import write_photos, write_set


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("open-set")
    return write_set(folder / "set", write_photos(folder / "photos", identities=5, images=4))


@pytest.mark.parametrize("seed", range(5))
def test_draw(seed):
    labels = np.array([0, 1, 1, 2, 2, 2, 3, 3, 4, 5, 5])
    found = draw(labels, seed)
    enrolled = labels[found.gallery]
    # Half of those with two images, each by one of them; nobody with a single one.
    assert len(enrolled) == len(set(enrolled.tolist())) == 2
    assert not {0, 4} & set(enrolled.tolist())
    assert sorted([*found.gallery, *found.probes]) == list(range(len(labels)))
    assert (found.strangers, found.single) == (4, 2)


def test_seeds_draw_differently_and_the_same_seed_alike():
    labels = np.repeat(np.arange(30), 3)
    drawn = [draw(labels, seed).gallery.tolist() for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_finding(packed):
    task = open_identification(packed, 0, "sf2")
    labels = task.faces.labels
    perfect = np.eye(5, dtype=np.float32)[labels]
    (finding,) = task.measure({"model": perfect, "raw pixels": np.ones((20, 2), np.uint8)})
    model, pixels = (finding.numbers["results"][name] for name in ("model", "raw pixels"))
    assert (model["rank_rates"][0]["hits"], model["rank_rates"][0]["probes"]) == (9, 9)
    # All alike: everybody ties with the mate, and ties count against.
    assert pixels["rank_rates"][0]["hits"] == 0
    assert model["tpir_at_fpir"][0]["tpir"] is None
    assert any("needs at least 100 non-mated probes; there are 8" in n for n in finding.notes)
    assert any("a gallery of 3 people" in note for note in finding.notes)


def test_a_set_without_mates_or_strangers_is_refused(tmp_path):
    single = write_set(tmp_path / "single", write_photos(tmp_path / "a", identities=3, images=1))
    with pytest.raises(Sf2Error, match="none of its 3 people has two images"):
        open_identification(single, 0, "sf2")
    alone = write_set(tmp_path / "alone", write_photos(tmp_path / "b", identities=1, images=3))
    with pytest.raises(Sf2Error, match="nobody is left as a stranger"):
        open_identification(alone, 0, "sf2")
