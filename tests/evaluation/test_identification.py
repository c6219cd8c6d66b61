"""1:N metrics against loops over every probe and person, ties included."""

import math
from fractions import Fraction

import numpy as np
import pytest

from sf2cli.evaluation import identification
from sf2cli.evaluation.identification import rank_rate, search, tpir_at_fpir, tpir_by_pairs


def random_gallery(seed):
    """Rows whose products are exact in float32 and often equal; several entries for a person."""
    generator = np.random.default_rng(seed)
    probes, entries, people = generator.integers(1, [60, 12, 9])
    rows = [generator.integers(-2, 3, (n, 4)).astype(np.float32) / 4 for n in (probes, entries)]
    # Some probes' people are in no gallery.
    return (
        rows[0],
        generator.integers(0, people + 4, probes),
        rows[1],
        generator.integers(0, people, entries),
    )


def table(probes, gallery, gallery_people):
    """Similarity of each probe to each person, that of the person's best entry."""
    return [
        {
            person: max(
                float(probe @ row)
                for row, p in zip(gallery, gallery_people, strict=True)
                if p == person
            )
            for person in set(gallery_people.tolist())
        }
        for probe in probes
    ]


def plain_rank(scores, person):
    return 1 + sum(s >= scores[person] for other, s in scores.items() if other != person)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("block", [1, 1 << 22])
def test_search(seed, block, monkeypatch):
    monkeypatch.setattr(identification, "_BLOCK_SCORES", block)
    probes, who, gallery, people = random_gallery(seed)
    found = search(probes, who, gallery, people, "test")
    for k, scores in enumerate(table(probes, gallery, people)):
        person = int(who[k])
        assert found.mated[k] == (person in scores)
        others = [s for other, s in scores.items() if other != person]
        assert found.best_other[k] == max(others, default=-np.inf)
        if person in scores:
            assert (found.mate[k], found.rank[k]) == (scores[person], plain_rank(scores, person))


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("rank", [1, 2, 5, 100])
def test_rank_rate(seed, rank):
    probes, who, gallery, people = random_gallery(seed)
    found = rank_rate(search(probes, who, gallery, people, "test"), rank)
    ranks = [
        plain_rank(scores, int(person))
        for scores, person in zip(table(probes, gallery, people), who, strict=True)
        if person in scores
    ]
    assert (found.probes, found.hits) == (len(ranks), sum(r <= rank for r in ranks))
    supported = ranks and rank <= len(set(people.tolist()))
    assert found.rate == (found.hits / found.probes if supported else None)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("fpir", [0.01, 0.1, 0.29, 0.5, 1])
def test_tpir_at_fpir(seed, fpir):
    probes, who, gallery, people = random_gallery(seed)
    found = tpir_at_fpir(search(probes, who, gallery, people, "test"), fpir)
    scores = table(probes, gallery, people)
    mated = [(s, int(p)) for s, p in zip(scores, who, strict=True) if p in s]
    alarms = [max(s.values()) for s, p in zip(scores, who, strict=True) if p not in s]
    assert (found.mated, found.non_mated) == (len(mated), len(alarms))
    allowed = Fraction(str(fpir)) * len(alarms)
    if allowed < 1 or not mated:
        assert found.tpir is None
        return
    best = 0
    for threshold in {t for s in scores for t in s.values()}:
        if sum(alarm >= threshold for alarm in alarms) <= allowed:
            hits = sum(s[p] >= threshold and plain_rank(s, p) == 1 for s, p in mated)
            best = max(best, hits)
    assert (found.hits, found.tpir) == (best, best / len(mated))
    # The threshold does what the numbers say.
    assert sum(alarm >= found.threshold for alarm in alarms) == found.false_positives <= allowed
    assert best == sum(s[p] >= found.threshold and plain_rank(s, p) == 1 for s, p in mated)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.parametrize("fpir", [0.01, 0.1])
def test_tpir_by_pairs(seed, fpir):
    probes, who, gallery, people = random_gallery(seed)
    found = tpir_by_pairs(search(probes, who, gallery, people, "test"), fpir)
    scores = table(probes, gallery, people)
    others = sorted(
        (s for row, p in zip(scores, who, strict=True) for q, s in row.items() if q != p),
        reverse=True,
    )
    mates = [row[int(p)] for row, p in zip(scores, who, strict=True) if p in row]
    wanted = math.ceil(fpir * len(probes))
    if not mates or wanted > len(others):
        assert found.tpir is None
        return
    assert found.threshold == others[wanted - 1]
    assert found.tpir == sum(mate > others[wanted - 1] for mate in mates) / len(probes)


def test_an_empty_gallery_is_refused():
    rows = np.ones((2, 3), np.float32)
    with pytest.raises(ValueError, match="0 gallery rows"):
        search(rows, np.zeros(2, int), rows[:0], np.zeros(0, int), "test")


def test_no_probes_give_no_rates():
    rows = np.ones((2, 3), np.float32)
    found = search(rows[:0], np.zeros(0, int), rows, np.arange(2), "test")
    assert rank_rate(found, 1).rate is None
    assert tpir_at_fpir(found, 0.1).tpir is None
