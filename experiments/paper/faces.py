"""Frey faces under dark discs, and the errors of what a model makes of them."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from experiments.paper.models import estimator
from experiments.reproduce.data import as_bytes
from pyro_ricvae.data import corruption, load_frey_faces
from pyro_ricvae.demo.methods import LAMBDA_SCALES
from pyro_ricvae.estimators import RobustPCA

Images = NDArray[np.uint8]
PASSES = (1, 2, 3)
_UNSEEN_SEED = 1000  # apart from those of the training data
_STEP = 4  # of the faces in --quick
N_SHOWN = 8


@cache
def faces(share: float, seed: int, quick: bool) -> tuple[Images, Images, Images]:
    """Return the clean faces, those of which a share is under a dark disc, and all of them under dark rectangles."""
    clean = load_frey_faces()[:: _STEP if quick else 1]
    discs = corruption.discs(clean, share=share, random_state=seed)[0]
    rectangles = corruption.rectangles(clean, share=1.0, random_state=_UNSEEN_SEED + seed)[0]
    return clean, discs, rectangles


def shown(share: float, seed: int, quick: bool) -> NDArray[np.int64]:
    """Return the faces that pictures have, spread over those that are under a disc."""
    clean, dirty, _ = faces(share, seed, quick)
    touched = np.flatnonzero((clean != dirty).any(axis=(1, 2)))
    return touched[np.linspace(0, len(touched) - 1, N_SHOWN).astype(int)]


def error(cleaned: NDArray[Any], clean: Images) -> float:
    """Return the mean squared error over all pixels x 1000, of images on [0, 1]."""
    return float(1000 * np.square((cleaned.astype(float) - clean) / 255).mean())


def run(configuration: dict[str, Any], device: str) -> dict[str, Any]:
    """Fit a model to faces under discs; return its errors on them, and on unseen rectangles, after M passes.

    `configuration` has "model" (of `models.MODELS` or "RPCA"), "procedure", "share", "seed", "passes", "hidden" and
    "quick".
    """
    given = configuration
    clean, dirty, unseen = faces(given["share"], given["seed"], given["quick"])
    if given["model"] == "RPCA":
        return _robust_pca(clean, dirty, unseen)
    hidden = "auto" if given["hidden"] == "auto" else tuple(given["hidden"])
    settings = {"n_latent": 10, "hidden": hidden, **given.get("arguments", {})}
    est = estimator(given["model"], given["procedure"], given["passes"], given["seed"], device, **settings)
    est.fit(dirty)
    some = shown(given["share"] or 0.6, given["seed"], given["quick"])
    cleaned = {m: est.clean(dirty, m) for m in PASSES}
    return {
        **{f"discs {m}": error(cleaned[m], clean) for m in PASSES},
        **{f"rectangles {m}": error(est.clean(unseen, m), clean) for m in PASSES},
        "repaired": error(est.repair(dirty), clean) if given["model"] == "default" else None,
        "warnings": len(est.warnings_),
        **{f"images {m}": as_bytes(cleaned[m][some]) for m in (1, 2)},
    }


def _robust_pca(clean: Images, dirty: Images, unseen: Images) -> dict[str, Any]:
    """Return the errors of robust PCA at the lambda of a grid that is best for them, on each kind of image.

    Neither is by new rows: the pursuit is of the images themselves, those under rectangles too.
    """
    found: dict[str, Any] = {}
    for name, images in (("discs", dirty), ("rectangles", unseen)):
        errors = {}
        for scale in LAMBDA_SCALES:
            low_rank = RobustPCA(lambda_scale=scale).fit_clean(images.astype(float))
            errors[scale] = error(low_rank, clean)
        best = min(errors, key=lambda scale: errors[scale])
        found |= {f"{name} {m}": errors[best] for m in PASSES} | {f"{name}, theory's lambda": errors[1.0]}
    return found
