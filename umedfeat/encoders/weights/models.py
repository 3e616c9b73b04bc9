"""The official models: where their files are, under which licence they stand, how to cite them. No torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["GOLDEN_IMAGE", "GOLDEN_UMEDPT", "MODELS", "OfficialModel"]


_LICENCE = (
    "scientific, non-commercial use; no redistribution (terms of the authors, Fraunhofer MEVIS; read them before use)"
)

#: First values of the embedding of the authors' example image, resized to 256 × 256 (bilinear, OpenCV), by
#: ``encoder-1.0.4.pt.zip``; tolerance 1e-6 in fp32.
GOLDEN_UMEDPT = (-0.16809800267219543, 0.8937981724739075, 0.1215958520770073, 0.2989726662635803, 0.02798079140484333)


#: Where that image is: a photograph of a teddy bear, in the authors' keeping.
GOLDEN_IMAGE = "https://owncloud.fraunhofer.de/index.php/s/n6gycdah9SaxOdD/download"


@dataclass(frozen=True)
class OfficialModel:
    """One official file.

    Attributes:
        name: for ``--encoder``.
        file: name in the cache.
        urls: tried in order.
        citation: of the paper.
        licence: of the weights, in short.
        pool_order: order of the squeezer's parts in the version that made the authors' numbers.
        note: what is not certain about it.
    """

    name: str
    file: str
    urls: tuple[str, ...]
    citation: str
    licence: str
    pool_order: Literal["pool_first", "pool_last"]
    note: str = ""


_ORDER_NOTE = "the file does not tell the pooling order; pool_last is that of the package version it belongs to"

MODELS: dict[str, OfficialModel] = {
    model.name: model
    for model in (
        OfficialModel(
            name="umedpt",
            file="encoder-1.0.4.pt.zip",
            urls=(
                "https://data.rslide.org/encoder-1.0.4.pt.zip",
                "https://owncloud.fraunhofer.de/index.php/s/Q5o1uD5eHL7tr3X/download",
            ),
            citation="Schäfer et al., Overcoming data scarcity in biomedical imaging with a foundational multi-task "
            "model, Nature Computational Science 2024, doi:10.1038/s43588-024-00662-z",
            licence=_LICENCE,
            pool_order="pool_first",
        ),
        OfficialModel(
            name="tissue-concepts",
            file="tc-nopanda.pt.zip",
            urls=("https://data.rslide.org/tc-nopanda.pt.zip",),
            citation="Nicke et al., Tissue Concepts: supervised foundation models in computational pathology, "
            "Computers in Biology and Medicine 2025, doi:10.1016/j.compbiomed.2025.109621",
            licence=_LICENCE,
            pool_order="pool_last",
            note=_ORDER_NOTE,
        ),
        OfficialModel(
            name="unicorn",
            file="unicorn-encoder.pt.zip",
            urls=(
                "https://drive.usercontent.google.com/download?id=1MShT_e-Srb6tHyRpcA3DvNNHyRaihOx_&export=download&confirm=t",
            ),
            citation="UNICORN challenge, first place (encoder of the UMedPT authors)",
            licence=_LICENCE,
            pool_order="pool_last",
            note=_ORDER_NOTE,
        ),
        OfficialModel(
            name="wsc-tiny",
            file="wsc-mtl-tiny.pt.zip",
            urls=(
                "https://huggingface.co/FraunhoferMEVIS/WholeSlideConcepts/resolve/main/WSC-MTL-tiny.pt.zip?download=true",
            ),
            citation="Whole Slide Concepts, arXiv:2507.05742",
            licence=_LICENCE,
            pool_order="pool_last",
            note=_ORDER_NOTE,
        ),
    )
}
