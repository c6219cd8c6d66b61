"""The paired bootstrap against plain counting: a weight is so many copies of a pair or a probe."""

import numpy as np
import pytest

from sf2cli.evaluation.conventions import single_threshold
from sf2cli.evaluation.identification import FPIRS, RANKS, Search, rank_rate, tpir_at_fpir
from sf2cli.evaluation.kept import KeptPairs, KeptSearches, KeptTrials
from sf2cli.evaluation.megaface import MegaFace
from sf2cli.evaluation.paired import paired_bootstrap
from sf2cli.evaluation.verification import SortedScores, auc, eer, tar_at_far
from sf2cli.evaluation.weighted import RankedPairs, RankedSearches, Trials, draws_of_people

FARS = (0.1, 0.01, 0.001)


def all_pairs(identities, images, seed, spread=0.5, steps=None):
    """Scores of all pairs of images; `steps` rounds them, so that many are equal."""
    generator = np.random.default_rng(seed)
    labels = np.repeat(np.arange(identities), images)
    first, second = np.triu_indices(len(labels), 1)
    issame = labels[first] == labels[second]
    scores = issame * 0.6 + generator.normal(0, spread, len(first))
    if steps:
        scores = np.round(scores * steps) / steps
    return KeptPairs(scores, issame, labels[first], labels[second])


@pytest.mark.parametrize("steps", [None, 5])
@pytest.mark.parametrize("seed", range(5))
def test_weights_are_copies(seed, steps):
    kept = all_pairs(6, 5, seed, steps=steps)
    weights = np.random.default_rng(seed).integers(0, 4, len(kept.scores))
    copied = SortedScores.of(np.repeat(kept.scores, weights), np.repeat(kept.issame, weights))
    found = RankedPairs(kept, FARS).measure(weights.astype(np.float64))
    expected = [eer(copied).rate, auc(copied), single_threshold(copied).accuracy]
    expected += [tar_at_far(copied, far).tar for far in FARS]
    np.testing.assert_allclose(found, [np.nan if x is None else x for x in expected], atol=1e-12)


def test_a_run_does_not_differ_from_itself():
    kept = all_pairs(8, 4, seed=1)
    [differences] = paired_bootstrap([kept, kept], "test", FARS).differences
    for found in differences[:4]:
        assert (found.value, found.low, found.high) == (0, 0, 0)


def test_a_better_run_is_told_from_noise_and_the_draws_are_of_identities():
    good, bad = (all_pairs(20, 4, seed, spread) for seed, spread in ((1, 0.25), (2, 0.6)))
    same = all_pairs(20, 4, 3, 0.6)
    found = paired_bootstrap([bad, good, same], "test", FARS)
    assert (found.drawn, found.replicates) == ("identities", 1000)
    better, equal = found.differences
    assert better[0].high < 0 < better[1].low
    assert equal[0].low < 0 < equal[0].high
    np.testing.assert_allclose(
        found.values[1, 0], eer(SortedScores.of(good.scores, good.issame)).rate
    )


def test_bracket_has_the_width_of_fresh_samples():
    """On independent pairs the bracket is that of the difference over new samples."""
    generator = np.random.default_rng(0)
    issame = np.arange(800) < 400

    def draw():
        shared = generator.normal(0, 0.5, 800)
        runs = [issame * gain + shared + generator.normal(0, 0.3, 800) for gain in (1.0, 1.2)]
        return [KeptPairs(scores, issame) for scores in runs]

    found = paired_bootstrap(draw(), "test", FARS)
    assert found.drawn == "pairs"
    bracket = found.differences[0][0]
    fresh = []
    for _ in range(200):
        a, b = (eer(SortedScores.of(run.scores, run.issame)).rate for run in draw())
        fresh.append(b - a)
    width = np.percentile(fresh, 97.5) - np.percentile(fresh, 2.5)
    assert bracket.high - bracket.low == pytest.approx(width, rel=0.35)


def test_a_target_that_the_impostors_cannot_support_has_no_difference():
    kept = all_pairs(4, 3, seed=0)
    found = paired_bootstrap([kept, kept], "test", FARS)
    assert found.differences[0][-1] is None
    assert np.isnan(found.values[:, -1]).all()


def search(probes, people, size, seed, steps=None):
    """What a gallery of `size` people might have said of probes, the first `people` mated."""
    generator = np.random.default_rng(seed)
    who = generator.integers(0, people + 4, probes)
    mated = who < people
    mate, other = generator.normal(0.5, 0.4, probes), generator.normal(0.1, 0.4, probes)
    if steps:
        mate, other = np.round(mate * steps) / steps, np.round(other * steps) / steps
    rank = np.where(mated, np.where(mate > other, 1, generator.integers(2, 12, probes)), 0)
    mate = np.where(mated, mate, -np.inf).astype(np.float32)
    none = np.empty(0, np.float32)
    return who, Search(mated, mate, rank, other.astype(np.float32), size, none)


def copies(found, weights):
    """The same search of so many copies of each probe."""
    fields = (found.mated, found.mate, found.rank, found.best_other)
    return Search(*(np.repeat(one, weights) for one in fields), found.people, found.others)


def plain(found):
    rates = [rank_rate(found, rank).rate for rank in RANKS]
    rates += [tpir_at_fpir(found, fpir).tpir for fpir in FPIRS]
    return np.array([np.nan if rate is None else rate for rate in rates])


@pytest.mark.parametrize("steps", [None, 5])
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("size", [7, 30])
def test_weights_of_probes_are_copies(size, seed, steps):
    who, found = search(80, 20, size, seed, steps)
    weights = np.random.default_rng(seed).integers(0, 5, 80)
    measured = RankedSearches(KeptSearches(who, {"one": found}))
    np.testing.assert_allclose(measured.measure(weights * 1.0), plain(copies(found, weights)))
    np.testing.assert_allclose(measured.measure(np.ones(80)), plain(found))


def test_galleries_are_measured_apart_and_averaged():
    who, found = search(80, 20, 30, 0)
    other = search(80, 20, 30, 1)[1]
    measured = RankedSearches(KeptSearches(who, {"G1": found, "G2": other}))
    one, two = plain(found), plain(other)
    np.testing.assert_allclose(measured.measure(np.ones(80)), [*one, *two, *((one + two) / 2)])
    ends = measured.names[0], measured.names[-1]
    assert ends == ("G1: rank 1", "mean: TPIR at FPIR ≤ 10%")


@pytest.mark.parametrize("mated", [True, False])
def test_probes_of_one_kind_have_no_number(mated):
    generator = np.random.default_rng(0)
    scores = generator.normal(size=20).astype(np.float32)
    none = np.full(20, -np.inf, np.float32)
    found = Search(
        np.full(20, mated), scores if mated else none, np.full(20, int(mated)), scores, 30, none[:0]
    )
    rates = RankedSearches(KeptSearches(np.arange(20), {"one": found})).measure(np.ones(20))
    assert np.isnan(rates[len(RANKS) :]).all()
    assert np.isnan(rates[: len(RANKS)]).all() != mated


def test_weights_of_trials_are_copies():
    generator = np.random.default_rng(0)
    first, second = (np.array(side) for side in zip(*[(0, 1), (0, 2), (1, 2), (3, 4)], strict=True))
    nearest = -np.sort(-generator.normal(size=(5, 100)).astype(np.float32), axis=1)
    found = MegaFace(
        first, second, generator.normal(1, 1, 4).astype(np.float32), nearest, nearest[:0, 0], 500
    )
    ranks = np.array([1, 10])
    hits = np.stack([found.hits(rank) for rank in ranks], axis=1)
    weights = np.array([2, 0, 1, 3])
    expected = []
    for rank in ranks:
        trials = [
            found.genuine[pair] > nearest[probe, rank - 1]
            for pair in np.repeat(np.arange(4), weights)
            for probe in (first[pair], second[pair])
        ]
        expected.append(np.mean(trials))
    measured = Trials(KeptTrials(np.array([0, 0, 0, 1]), ranks, hits))
    np.testing.assert_allclose(measured.measure(weights * 1.0), expected)
    np.testing.assert_allclose(
        measured.measure(np.ones(4)), [found.rank_rate(rank).rate for rank in ranks]
    )
    assert np.isnan(measured.measure(np.zeros(4))).all()


def test_draws_are_of_people_and_every_probe_of_one_goes_with_it():
    people = np.array([7, 3, 7, 5, 3])
    for weights in draws_of_people(people, 20):
        assert weights[0] == weights[2]
        assert weights[1] == weights[4]
        assert weights[0] + weights[1] + weights[3] == 3


def test_a_better_search_is_told_from_noise():
    who, worse = search(400, 60, 100, 0)
    better = copies(worse, np.ones(400, int))
    better.rank[better.mated] = 1
    found = paired_bootstrap([KeptSearches(who, {"one": one}) for one in (worse, better)])
    assert (found.drawn, found.names[0]) == ("identities", "rank 1")
    assert found.differences[0][0].low > 0
