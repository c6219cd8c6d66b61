"""Words, rows and curves that findings of several protocols share."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from sf2cli.evaluation.conventions import SIGNS, Convention
from sf2cli.evaluation.finding import Chart, share, thinned
from sf2cli.evaluation.identification import RankRate, Search, TpirAtFpir
from sf2cli.evaluation.intervals import Interval
from sf2cli.evaluation.measure import percent
from sf2cli.evaluation.report.panel import Table
from sf2cli.evaluation.verification import SortedScores, TarAtFar, roc

BINOMIAL = (
    "The exact binomial 95 % interval (Clopper and Pearson), which takes the trials to be"
    " independent; those that share a person are not, so the truth may be less certain."
)
BOOTSTRAP = (
    "A 95 % bootstrap interval: the 2.5th and 97.5th percentile over 200 drawings of the identities"
    " with replacement, each with its own threshold."
)


def interval_text(interval: Interval | None) -> str:
    """An interval in percent."""
    if interval is None:
        return "-"
    return f"{interval.low * 100:.2f} to {interval.high:.2%}"


def unsupported(far: float, impostors: int, rate: str = "FAR", of: str = "impostor pairs") -> str:
    """Why a target cannot be given."""
    return (
        f"{rate} ≤ {percent(far)} needs at least {math.ceil(1 / far - 1e-6):,} {of}; there are"
        f" {impostors:,}."
    )


def wanting(targets: Sequence[TarAtFar]) -> list[str]:
    """A sentence for the first target, if any, that the impostor pairs are too few for."""
    refused = [one for one in targets if one.tar is None]
    return [f"TAR at {unsupported(one.far, one.impostors)}" for one in refused[:1]]


def tar_columns(fars: Sequence[float], convention: Convention = "sf2") -> list[str]:
    """Headings, broken by hand so that a terminal of 80 columns breaks no word."""
    return [f"TAR at\nFAR\n{SIGNS[convention]} {percent(far)}" for far in fars]


def tar_details(
    title: str,
    found: Mapping[str, Sequence[TarAtFar]],
    genuine: int,
    convention: Convention = "sf2",
) -> Table:
    """A row a target: what it allows, what was accepted, and how sure that is."""
    rows = []
    for name, targets in found.items():
        for one in targets:
            allowed = math.floor(one.far * one.impostors * (1 + 1e-12))
            accepted = "-" if one.tar is None else f"{round(one.tar * genuine):,} of {genuine:,}"
            threshold = "-" if one.threshold is None else f"{one.threshold:.4f}"
            rows.append(
                [
                    f"{name}, FAR {SIGNS[convention]} {percent(one.far)}",
                    f"{allowed:,} of {one.impostors:,}"
                    if allowed
                    else f"under 1 of {one.impostors:,}",
                    threshold,
                    accepted,
                    share(one.tar),
                    interval_text(one.interval),
                ]
            )
    columns = ["", "False accepts allowed", "Threshold", "Genuine accepted", "TAR", "95 % interval"]
    return Table(title, columns, rows)


def rank_details(title: str, found: Mapping[str, Sequence[RankRate]], trials: str) -> Table:
    """A row a rank."""
    rows = [
        [
            f"{name}, rank {one.rank}",
            f"{one.hits:,} of {one.probes:,}",
            share(one.rate),
            interval_text(one.interval),
        ]
        for name, rates in found.items()
        for one in rates
    ]
    return Table(title, ["", trials, "Rate", "95 % interval"], rows)


def tpir_columns(fpirs: Sequence[float], convention: Convention) -> list[str]:
    """Headings, broken as those of `tar_columns`; both peers come near to their target."""
    sign = _fpir_sign(convention)
    return [f"TPIR at\nFPIR\n{sign} {percent(fpir)}" for fpir in fpirs]


def tpir_details(found: Mapping[str, Sequence[TpirAtFpir]], convention: Convention) -> Table:
    """A row a target. The peers count pairs above the threshold, and hits of all probes."""
    rows = []
    for name, targets in found.items():
        for one in targets:
            threshold = "-" if one.threshold is None else f"{one.threshold:.4f}"
            false = "-" if one.false_positives is None else f"{one.false_positives:,}"
            trials = one.mated
            if convention == "sf2":
                false += f" of {one.non_mated:,}"
            else:
                trials += one.non_mated
            hits = "-" if one.hits is None else f"{one.hits:,} of {trials:,}"
            rows.append(
                [
                    f"{name}, FPIR {_fpir_sign(convention)} {percent(one.fpir)}",
                    false if one.false_positives is not None else "-",
                    threshold,
                    hits,
                    share(one.tpir),
                    interval_text(one.interval),
                ]
            )
    title, above, hit = "Open set", "Non-mated above", "Mated found"
    if convention != "sf2":
        title = f"TPIR as {convention} computes it"
        above, hit = "Pairs of two people above", "Found, of all probes"
    return Table(title, ["", above, "Threshold", hit, "TPIR", "95 % interval"], rows)


def _fpir_sign(convention: Convention) -> str:
    return SIGNS["sf2" if convention == "sf2" else "insightface"]


def roc_chart(found: Mapping[str, SortedScores]) -> Chart:
    """TAR over FAR from one accepted impostor pair on."""
    curves = {}
    for name, split in found.items():
        curve = roc(split, max_points=400)
        known = curve.far > 0
        curves[name] = (curve.far[known], curve.tar[known])
    return Chart(
        "ROC: the share of genuine pairs accepted for each share of impostors.",
        "FAR (false accept rate, log scale)",
        "TAR (true accept rate)",
        curves,
        log_x=True,
    )


def det_chart(found: Mapping[str, SortedScores]) -> Chart:
    """FRR over FAR down to one error of each kind."""
    curves = {}
    for name, split in found.items():
        curve = roc(split, max_points=400)
        known = curve.far > 0
        # A logarithmic axis has no place for no rejected pair: it ends at one.
        frr = np.maximum(1 - curve.tar[known], 1 / len(split.genuine))
        curves[name] = (curve.far[known], frr)
    return Chart(
        "DET: the two kinds of error against each other. Lower is better.",
        "FAR (false accept rate, log scale)",
        "FRR (false reject rate, log scale)",
        curves,
        log_x=True,
        log_y=True,
    )


def cmc_chart(found: Mapping[str, Search], ranks: int = 20) -> Chart:
    """The identification rate over the rank."""
    curves = {}
    for name, one in found.items():
        numbers = np.arange(1, min(ranks, one.people) + 1)
        mated = max(int(one.mated.sum()), 1)
        rates = [(one.mated & (one.rank <= rank)).sum() / mated for rank in numbers]
        curves[name] = (numbers, np.array(rates))
    return Chart(
        "CMC: the share of mated probes whose person is among the most similar people.",
        "rank",
        "identification rate",
        curves,
        x_kind="whole",
    )


def open_set_chart(found: Mapping[str, Search]) -> Chart | None:
    """TPIR over FPIR from one false positive on; None without non-mated or mated probes."""
    curves = {}
    for name, one in found.items():
        alarms = np.sort(one.best_other[~one.mated])
        mated = int(one.mated.sum())
        if not len(alarms) or not mated:
            return None
        right = np.sort(one.mate[one.mated & (one.rank == 1)])
        thresholds = thinned(np.unique(alarms)[::-1])
        fpir = 1 - np.searchsorted(alarms, thresholds, side="left") / len(alarms)
        tpir = (len(right) - np.searchsorted(right, thresholds, side="left")) / mated
        curves[name] = (fpir, tpir)
    return Chart(
        "Open set: mated probes found for each share of non-mated probes that raise an alarm.",
        "FPIR (log scale)",
        "TPIR",
        curves,
        log_x=True,
    )
