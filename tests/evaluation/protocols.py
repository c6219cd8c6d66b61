"""Small benchmarks on disk, in the packagings that `sf2 eval` reads."""

from __future__ import annotations

from pathlib import Path

from sf2cli.data.align import TEMPLATE
from sf2cli.data.images import encode_png
from tests.evaluation.small import photo

# The crop of a photo is its 16 x 16 pixels blown up to 112 x 112, so that aligning leaves it.
EDGE = 112


def crop(identity: int, image: int):
    """uint8 [112, 112, 3]."""
    return photo(identity, image, channels=3).repeat(7, axis=0).repeat(7, axis=1)


def write_ijb(root: Path, people: int = 6) -> Path:
    """IJB-C in small: templates 10 k (two photos of person k in one medium, one in another) and
    10 k + 1 (one photo); every pair of templates; galleries G1 (people 0, 2) and G2 (1, 3)."""
    (root / "loose_crop").mkdir(parents=True)
    (root / "meta").mkdir()
    points = " ".join(f"{value}" for value in TEMPLATE.reshape(-1))
    faces, scores = [], []
    for k in range(people):
        for i, (template, medium) in enumerate(
            [(10 * k, 1), (10 * k, 1), (10 * k, 2), (10 * k + 1, 3)]
        ):
            name = f"{k * 4 + i + 1}.jpg"
            (root / "loose_crop" / name).write_bytes(encode_png(crop(k, i)))
            faces.append(f"{name} {template} {medium}")
            scores.append(f"{name} {points} 0.{9 - i}")
    ids = [10 * k + part for k in range(people) for part in (0, 1)]
    pairs = [f"{a} {b} {int(a // 10 == b // 10)}" for i, a in enumerate(ids) for b in ids[i + 1 :]]
    meta = root / "meta"
    (meta / "ijbc_face_tid_mid.txt").write_text("\n".join(faces) + "\n")
    (meta / "ijbc_name_5pts_score.txt").write_text("\n".join(scores) + "\n")
    (meta / "ijbc_template_pair_label.txt").write_text("\r\n".join(pairs) + "\r\n")
    header = "TEMPLATE_ID,SUBJECT_ID,FILENAME"
    for name, members in (("G1", (0, 2)), ("G2", (1, 3))):
        # One line an image, as in the original.
        lines = [f"{10 * k},{k},img/{k}_{i}.jpg" for k in members for i in range(3)]
        (meta / f"ijbc_1N_gallery_{name}.csv").write_text("\n".join([header, *lines]))
    lines = [f"{10 * k + 1},{k},img/{k}.jpg" for k in range(people)]
    (meta / "ijbc_1N_probe_mixed.csv").write_text("\r\n".join([header, *lines]) + "\r\n")
    return root


def write_megaface(root: Path, people: int = 3, photos: int = 3, distractors: int = 8) -> Path:
    """Photos and lists; the last probe of Ann_2 and the last distractor are noise."""
    probes = [f"Ann_{k}/Ann_{k}_{i}.png" for k in range(people) for i in range(photos)]
    others = [f"0{n % 2}/7@N0{n}/{n}_0.png" for n in range(distractors)]
    for folder, names in (("facescrub_images", probes), ("megaface_images", others)):
        for n, name in enumerate(names):
            path = root / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            identity = n // photos if folder == "facescrub_images" else 100 + n
            path.write_bytes(encode_png(photo(identity, n)))
    (root / "facescrub_lst").write_text("\n".join(probes) + "\n")
    (root / "megaface_lst").write_text("\r\n".join(others) + "\r\n")
    (root / "facescrub_noises.txt").write_text(f"# noise\nAnn_2_{photos - 1}\n")
    (root / "megaface_noises.txt").write_text(f"1\t{others[-1]}\n")
    return root
