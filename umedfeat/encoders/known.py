"""Encoders of others that are known by name: where they lie, their licence, network and normalisation (no torch here).

Facts only, taken from the models' cards and the authors' own code. Nothing of them is part of this package: the weights
are fetched from their publisher, under the user's own account where the publisher asks for one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

__all__ = ["KNOWN", "KnownEncoder", "Names", "Pool"]

Triple = tuple[float, float, float]
#: How the weights file names its tensors.
Names = Literal["timm", "vit", "dinov2", "open-clip", "coca"]
#: What becomes the vector: the class token, the class token beside the mean of the patch tokens, or what a learnt query
#: finds in all tokens.
Pool = Literal["class", "class+mean", "attention"]

_IMAGENET: tuple[Triple, Triple] = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_CLIP: tuple[Triple, Triple] = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
_H_OPTIMUS: tuple[Triple, Triple] = (0.707223, 0.578729, 0.703617), (0.211883, 0.230117, 0.177517)
_RAD_DINO: tuple[Triple, Triple] = (0.5307, 0.5307, 0.5307), (0.2583, 0.2583, 0.2583)

_STATE_FILES = ("model.safetensors", "pytorch_model.bin")
_CLIP_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
_NC = "CC-BY-NC-ND-4.0"
_OWKIN = "Owkin non-commercial licence"


@dataclass(frozen=True)
class KnownEncoder:
    """What must be known of a published vision transformer to compute it as its authors do.

    Attributes:
        name: as given to ``--encoder``.
        about: what it was made for.
        repository: "owner/name" on the Hugging Face hub.
        licence: of the weights; ``gated``: the publisher wants its terms accepted under one's own account.
        architecture: name in timm; ``arguments``: how this one differs from it (JSON-able).
        swiglu: its blocks have packed SwiGLU layers.
        dim: length of the embedding.
        normalisation: (mean, std) of RGB in [0, 1].
        image_size: side in pixels; images of another size are resized.
        pool: what becomes the vector. names: how the file names its tensors.
        files: names of the weights file in the repository, safetensors first.
        citation: DOI or arXiv.
    """

    name: str
    about: str
    repository: str
    licence: str
    architecture: str
    dim: int
    citation: str
    gated: bool = False
    arguments: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))
    swiglu: bool = False
    normalisation: tuple[Triple, Triple] = _IMAGENET
    image_size: int = 224
    pool: Pool = "class"
    names: Names = "timm"
    files: tuple[str, ...] = _STATE_FILES


_PATHOLOGY = (
    KnownEncoder(
        "uni",
        "H&E slides, ViT-L/16",
        "MahmoodLab/UNI",
        _NC,
        "vit_large_patch16_224",
        1024,
        "10.1038/s41591-024-02857-3",
        gated=True,
        arguments={"init_values": 1e-5},
    ),
    KnownEncoder(
        "uni2-h",
        "H&E and IHC slides, ViT-H/14 with registers",
        "MahmoodLab/UNI2-h",
        _NC,
        "vit_giant_patch14_224",
        1536,
        "10.1038/s41591-024-02857-3",
        gated=True,
        arguments={
            "depth": 24,
            "num_heads": 24,
            "init_values": 1e-5,
            "embed_dim": 1536,
            "mlp_ratio": 2.66667 * 2,
            "no_embed_class": True,
            "reg_tokens": 8,
        },
        swiglu=True,
    ),
    KnownEncoder(
        "conch",
        "slides of any stain with captions, the image tower before its projection, ViT-B/16",
        "MahmoodLab/CONCH",
        _NC,
        "vit_base_patch16_224",
        512,
        "10.1038/s41591-024-02856-4",
        gated=True,
        normalisation=_CLIP,
        image_size=448,
        pool="attention",
        names="coca",
        files=_STATE_FILES[1:],
    ),
    KnownEncoder(
        "virchow",
        "H&E slides, ViT-H/14",
        "paige-ai/Virchow",
        "Apache-2.0",
        "vit_huge_patch14_224",
        2560,
        "10.1038/s41591-024-03141-0",
        gated=True,
        arguments={"init_values": 1e-5, "mlp_ratio": 5.3375},
        swiglu=True,
        pool="class+mean",
    ),
    KnownEncoder(
        "virchow2",
        "H&E and IHC slides of several magnifications, ViT-H/14 with registers",
        "paige-ai/Virchow2",
        _NC,
        "vit_huge_patch14_224",
        2560,
        "arXiv:2408.00738",
        gated=True,
        arguments={"init_values": 1e-5, "mlp_ratio": 5.3375, "reg_tokens": 4},
        swiglu=True,
        pool="class+mean",
    ),
    KnownEncoder(
        "prov-gigapath",
        "H&E slides, the tile encoder, ViT-g/16",
        "prov-gigapath/prov-gigapath",
        "Apache-2.0, research use only",
        "vit_giant_patch14_dinov2",
        1536,
        "10.1038/s41586-024-07441-w",
        gated=True,
        arguments={"img_size": 224, "patch_size": 16, "mlp_ratio": 5.33334},
    ),
    KnownEncoder(
        "h-optimus-0",
        "H&E slides, ViT-g/14 with registers",
        "bioptimus/H-optimus-0",
        "Apache-2.0",
        "vit_giant_patch14_reg4_dinov2",
        1536,
        "https://github.com/bioptimus/releases",
        arguments={"img_size": 224},
        normalisation=_H_OPTIMUS,
    ),
    KnownEncoder(
        "h-optimus-1",
        "H&E slides, ViT-g/14 with registers",
        "bioptimus/H-optimus-1",
        _NC,
        "vit_giant_patch14_reg4_dinov2",
        1536,
        "https://huggingface.co/bioptimus/H-optimus-1",
        gated=True,
        arguments={"img_size": 224},
        normalisation=_H_OPTIMUS,
    ),
    KnownEncoder(
        "phikon",
        "H&E slides, ViT-B/16",
        "owkin/phikon",
        _OWKIN,
        "vit_base_patch16_224",
        768,
        "10.1101/2023.07.21.23292757",
        names="vit",
    ),
    KnownEncoder(
        "phikon-v2",
        "H&E slides, ViT-L/16",
        "owkin/phikon-v2",
        _OWKIN,
        "vit_large_patch16_224",
        1024,
        "arXiv:2409.09173",
        arguments={"init_values": 1e-5},
        names="dinov2",
    ),
)
_OTHERS = (
    KnownEncoder(
        "rad-dino",
        "chest radiographs, ViT-B/14",
        "microsoft/rad-dino",
        "MIT (research use)",
        "vit_base_patch14_dinov2",
        768,
        "arXiv:2401.10815",
        normalisation=_RAD_DINO,
        image_size=518,
        names="dinov2",
        files=_STATE_FILES[:1],
    ),
    KnownEncoder(
        "biomedclip",
        "figures of PubMed with captions, the image tower, ViT-B/16",
        "microsoft/BiomedCLIP-PubMedBERT_256-vit_base_patch16_224",
        "MIT",
        "vit_base_patch16_224",
        512,
        "arXiv:2303.00915",
        normalisation=_CLIP,
        names="open-clip",
        files=_CLIP_FILES,
    ),
    *(
        KnownEncoder(
            f"dinov2-{size}",
            f"photographs, {label}",
            f"timm/vit_{size}_patch14_dinov2.lvd142m",
            "Apache-2.0",
            f"vit_{size}_patch14_dinov2",
            dim,
            "arXiv:2304.07193",
            image_size=518,
        )
        for size, label, dim in (("small", "ViT-S/14", 384), ("base", "ViT-B/14", 768), ("large", "ViT-L/14", 1024))
    ),
)

#: By name.
KNOWN: Mapping[str, KnownEncoder] = MappingProxyType({known.name: known for known in (*_PATHOLOGY, *_OTHERS)})
