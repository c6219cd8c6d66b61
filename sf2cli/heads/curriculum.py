"""The scale curriculum: r and m grow to their values over the first part of a run.

At the start the rows point anywhere, and a negative weighs like exp(r g(cos)): at r = 40 the few
that happen to be nearest drown the rest and nothing is learnt from the others. A small r lets
all of them speak. Growing r moves the balance of the bias, which therefore has to be carried along
(`HeadSGD` with the bias "balanced").
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sf2cli.heads.sphereface2 import SphereFace2


@dataclass(frozen=True)
class Curriculum:
    """Where r and m start, and for which share of the run they grow, linearly.

    Args:
        r: the scale at the first step; None keeps it constant.
        m: the margin at the first step; None keeps it constant.
        share: of the run's steps, in (0, 1], after which both have their values.
    """

    r: float | None = None
    m: float | None = None
    share: float = 0.4

    def at(self, hp: SphereFace2, progress: float) -> SphereFace2:
        """The loss at `progress`, the share of the run's steps already taken, in [0, 1]."""
        grown = min(progress / self.share, 1.0)
        if grown == 1:
            return hp
        r = hp.r if self.r is None else self.r + (hp.r - self.r) * grown
        m = hp.m if self.m is None else self.m + (hp.m - self.m) * grown
        return replace(hp, r=r, m=m)
