"""Who is one person, by the pairs of a list that are called so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def people_of_pairs(
    first: NDArray[np.integer], second: NDArray[np.integer], issame: NDArray[np.bool_], n: int
) -> NDArray[np.int64]:
    """The person of each of `n` things, 0, 1, ..., that genuine pairs join, through others too.

    Args:
        first, second: what each pair compares, numbers below `n` [pairs].
        issame: True for genuine pairs [pairs].
        n: of things; one that is in no genuine pair is a person alone.

    Returns:
        int64 [n].
    """
    parent = list(range(n))

    def root(one: int) -> int:
        while parent[one] != one:
            parent[one] = parent[parent[one]]
            one = parent[one]
        return one

    for one, other in zip(first[issame].tolist(), second[issame].tolist(), strict=True):
        parent[root(other)] = root(one)
    people = np.unique([root(one) for one in range(n)], return_inverse=True)[1]
    return people.astype(np.int64)
