"""What the words and numbers of a verification report mean."""

from __future__ import annotations

from sf2cli.evaluation.conventions import TAR_RULES, Convention
from sf2cli.evaluation.embedder import EmbedderCard
from sf2cli.evaluation.evaluate import MODEL, PIXELS
from sf2cli.evaluation.tables import BINOMIAL, BOOTSTRAP


def definitions(card: EmbedderCard) -> dict[str, str]:
    """What each word and number of a report means, by its name."""
    colour = "grey" if card.channels == 1 else "RGB"
    size = f"{card.image_size} x {card.image_size}"
    return {
        MODEL: card.definition(),
        PIXELS: (
            "The baseline that needs no model: the pixels themselves as the embedding. The same"
            f" image at {size} {colour}, its values 0 ... 255 as one vector, scaled to unit length."
            " Neither mirrored nor centred."
        ),
        "pairs": "A genuine pair shows one identity twice, an impostor pair two identities.",
        "similarity": "The cosine of two embeddings. A pair is accepted at a threshold t if its"
        " similarity is t or more.",
        "FAR": "False accept rate: the share of impostor pairs that are accepted.",
        "TAR": "True accept rate: the share of genuine pairs that are accepted.",
        "FRR": "False reject rate, 1 - TAR: the share of genuine pairs that are not accepted.",
        "TAR at FAR": (
            "TAR at the lowest threshold whose FAR does not exceed the target; nothing is"
            " interpolated. Not given if the target is less than one of the impostor pairs. In"
            " report.json, accepted_impostors of all impostors are accepted at that threshold."
        ),
        "EER": (
            "Equal error rate: the FAR at which FAR = 1 - TAR, on the ROC joined by straight lines."
            " Its threshold is the highest similarity at which FAR is not yet below 1 - TAR."
        ),
        "AUC": (
            "Area under the ROC: the chance that a genuine pair is more similar than an impostor"
            " pair, ties counted half."
        ),
        "accuracy": (
            "Share of pairs told right: mean ± population standard deviation over ten folds. Each"
            " fold is judged at the threshold that is best on the nine others, taken from 0, 0.01,"
            " ... 3.99 on the squared distance 2 - 2 x similarity. The folds are contiguous runs of"
            " the list; for all pairs of a set they are drawn by a fixed seed, each kind of pair"
            " spread evenly."
        ),
    }


def by_convention(convention: Convention) -> dict[str, str]:
    """The words that peers define otherwise, and how sure a rate is."""
    found = {
        "95 % interval": (
            f"{BOOTSTRAP} Where the identities are not known, or the pairs are more than 500,000:"
            f" {BINOMIAL[0].lower()}{BINOMIAL[1:]}"
        ),
        "best accuracy": (
            "In report.json: the share of pairs told right by the one threshold that is best for"
            " these very pairs."
        ),
    }
    if convention == "sf2":
        return found
    refused = " Not given if the target is less than one of the impostor pairs."
    found["TAR at FAR"] = TAR_RULES[convention] + refused
    if convention == "opensphere":
        found["accuracy"] = (
            "opensphere's: the share of pairs told right by the one threshold that is best for"
            " these very pairs, without folds."
        )
    return found
