"""What a set shares with one that models are evaluated on."""

from __future__ import annotations

import numpy as np

from sf2cli.audit.copies import distinct, near_entry
from sf2cli.audit.finding import Entry, Finding
from sf2cli.audit.fingerprint import near_pairs
from sf2cli.audit.likeness import like_pairs
from sf2cli.audit.people import Looks, likeness_entry
from sf2cli.audit.scan import Scan, equal_groups
from sf2cli.data.packed import PackedSet


def overlap(packed: PackedSet, seen: Scan, other: PackedSet, other_seen: Scan) -> list[Finding]:
    """Names, files and near-duplicates that both sets have. The list drops all of `packed`'s."""
    n = len(packed)
    shared = sorted(set(packed.manifest.identities) & set(other.manifest.identities))
    digests = np.concatenate([seen.digests, other_seen.digests])
    equal = [
        (group[group < n].tolist(), int(group[-1]) - n)
        for group in equal_groups(digests)
        if group[0] < n <= group[-1]
    ]
    mine, theirs = distinct(seen), distinct(other_seen)
    pairs, bits = near_pairs(np.concatenate([seen.prints[mine], other_seen.prints[theirs]]))
    crossing = (pairs[:, 0] < len(mine)) & (pairs[:, 1] >= len(mine))
    twins = {i for numbers, _ in equal for i in numbers}
    near = [
        (int(mine[i]), int(theirs[j - len(mine)]), k)
        for (i, j), k in zip(pairs[crossing].tolist(), bits[crossing].tolist(), strict=True)
        if int(mine[i]) not in twins
    ]
    near.sort(key=lambda found: found[2])
    return [
        Finding(
            "overlap_names",
            f"Identities that {other.manifest.name} names too",
            "By the name alone. The list drops them.",
            [Entry({"identity": name}, name) for name in shared],
            [f"{name}/" for name in shared],
        ),
        Finding(
            "overlap_duplicates",
            f"Images that {other.manifest.name} has too",
            "The files are equal byte for byte. The list drops them.",
            [
                Entry(
                    {
                        "images": [packed.source(i) for i in numbers],
                        "other": other.source(j),
                    },
                    other.source(j),
                    (*((packed, i) for i in numbers), (other, j)),
                )
                for numbers, j in equal
            ],
            [packed.source(i) for numbers, _ in equal for i in numbers],
        ),
        Finding(
            "overlap_near",
            f"Nearly an image of {other.manifest.name}",
            "By the difference hash; the second is the other set's. The list drops them.",
            [near_entry(packed, i, other, j, k) for i, j, k in near],
            list(dict.fromkeys(packed.source(i) for i, _, _ in near)),
        ),
    ]


def shared_people(seen: Looks, other: Looks, threshold: float) -> Finding:
    """Identities that look like one of the other set's. The list drops them."""
    pairs, cosines = like_pairs(seen.means.units, other.means.units, threshold)
    names = seen.packed.manifest.identities
    return Finding(
        "overlap_people",
        f"Identities that look like one of {other.packed.manifest.name}",
        f"The cosine of their mean embeddings is {threshold:.3f} or more; the second is the other"
        " set's. The list drops them.",
        [
            likeness_entry(seen, a, other, b, cosine)
            for (a, b), cosine in zip(pairs.tolist(), cosines.tolist(), strict=True)
        ],
        list(dict.fromkeys(f"{names[a]}/" for a, _ in pairs.tolist())),
    )
