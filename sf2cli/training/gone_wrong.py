"""A step whose loss or gradient is no number: where, on what, and what is left."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

from sf2cli.errors import Sf2Error
from sf2cli.heads.ranks import Ranks
from sf2cli.training.checkpoint_folder import latest_checkpoint

_NAMED = 5


def stop_if_not_finite(
    ranks: Ranks,
    *,
    step: int,
    lr: float,
    loss: float,
    gradient_norm: float | None,
    skipped: bool,
    unsound: Callable[[], list[int]],
    keys: Callable[[], list[str]],
    checkpoints: Path,
) -> None:
    """Stop the run on every rank if the step went wrong; collective only then.

    Args:
        ranks: the run's.
        step: its number from 1.
        lr: its learning rate.
        loss: of the global batch.
        gradient_norm: of the backbone; None where it is not known.
        skipped: DeepSpeed left a step out, the gradient not being finite.
        unsound: gives the rows of this rank's batch whose features or gradients are not finite.
        keys: gives the names of this rank's samples.
        checkpoints: the folder of the run's checkpoints.

    Raises:
        Sf2Error: loss or gradient is not finite; it names step, rank, samples and checkpoint.
    """
    bad_gradient = skipped or (gradient_norm is not None and not math.isfinite(gradient_norm))
    if math.isfinite(loss) and not bad_gradient:
        return
    names = keys()
    mine = [names[i] for i in unsound()]
    found = [(rank, bad) for rank, bad in enumerate(ranks.collect(mine)) if bad]
    what = f"the loss is {loss}"
    if math.isfinite(loss):
        what = f"the backbone's gradient is not finite (loss {loss:.4g})"
    where = f"{what} at step {step} (learning rate {lr:.4g})"
    if found:
        rank, bad = found[0]
        assert isinstance(bad, list)
        others = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        which = f"rank {rank}{others}: features or gradients of {_some(bad)} of the batch"
    else:
        which = (
            f"features are finite on every rank; the batch of rank 0: {_some(ranks.agree(names))}"
        )
    last = latest_checkpoint(checkpoints)
    left = f"Last good checkpoint: {last}; --resume goes on from it." if last else "No checkpoint."
    raise Sf2Error(
        f"{where}\n  {which}",
        f"Lower optimizer.lr or head.loss_weight, or lengthen the warm-up. {left}",
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
