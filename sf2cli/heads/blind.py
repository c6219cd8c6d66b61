"""What a head loses that tells nobody apart: the level that a run has to leave behind.

Where features and rows point anywhere, cosines of either kind are spread as those of directions
drawn at random: in d dimensions nearly normal around 0, with a variance of 1 / d. The bias is the
one thing left to learn, and the best of it gives the least loss without any knowledge.
"""

from __future__ import annotations

import math

import torch

from sf2cli.heads.sphereface2 import SphereFace2, negatives, positives

_NODES = 257
_WIDTH = 6.0
_HALVINGS = 60


def blind_loss(hp: SphereFace2, num_classes: int, embedding_size: int) -> float:
    """The loss, `loss_weight` included, at the best bias for cosines drawn at random.

    Args:
        hp: the loss.
        num_classes: K.
        embedding_size: d.
    """
    z = torch.linspace(-_WIDTH, _WIDTH, _NODES, dtype=torch.float64)
    density = torch.exp(-z * z / 2)
    density /= density.sum()
    cos = (z / math.sqrt(embedding_size)).clamp(-1, 1)
    # Logits are within r (1 + m) + |b| of 0; beyond this bias one side weighs nothing.
    reach = 2 * hp.r * (1 + hp.m) + math.log(num_classes) + 40
    low, high = -reach, reach
    for _ in range(_HALVINGS):
        bias = (low + high) / 2
        own, others = positives(cos, bias, hp), negatives(cos, bias, hp)
        slope = own.grad_bias + (num_classes - 1) * others.grad_bias
        if float(density @ slope) > 0:
            high = bias
        else:
            low = bias
    loss = own.loss + (num_classes - 1) * others.loss
    return hp.loss_weight * float(density @ loss)
