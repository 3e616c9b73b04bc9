"""Vision transformers of timm whose tokens become another vector than timm's own, as in published encoders."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

__all__ = ["AttentionPooled", "ClassAndMean", "Projected"]


class _OfViT(nn.Module):
    """A ViT of timm and the vector that its tokens become: (n, 3, H, W) → (n, D)."""

    def __init__(self, vit: Any) -> None:
        super().__init__()
        self.vit = vit
        self.num_prefix_tokens: int = vit.num_prefix_tokens

    @property
    def patch_embed(self) -> Any:
        """As in timm."""
        return self.vit.patch_embed

    def forward_features(self, images: torch.Tensor) -> torch.Tensor:
        """All tokens, class and registers first, after the last norm."""
        tokens: torch.Tensor = self.vit.forward_features(images)
        return tokens

    def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """The vector that the tokens become."""
        raise NotImplementedError

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(images))


class ClassAndMean(_OfViT):
    """A ViT whose vector is its class token beside the mean of its patch tokens: (n, 3, H, W) → (n, 2 C)."""

    def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, 2 C) of (n, tokens, C): the class token beside the mean of the patch tokens."""
        return torch.cat([tokens[:, 0], tokens[:, self.num_prefix_tokens :].mean(1)], dim=-1)


class Projected(_OfViT):
    """A ViT and the linear projection of its class token, as in CLIP: (n, 3, H, W) → (n, D)."""

    def __init__(self, vit: Any, weight: torch.Tensor) -> None:
        super().__init__(vit)
        self.projection = nn.Parameter(weight, requires_grad=False)

    def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, D) of (n, tokens, C): the projected class token."""
        return nn.functional.linear(self.vit.forward_head(tokens), self.projection)


class AttentionPooled(_OfViT):
    """A ViT whose vector is what one learnt query finds in all its tokens, as in CoCa and CONCH: (n, 3, H, W) → (n, D).

    The class token is a token like the others here. Norms and query are the pooler's own; see Yu et al., CoCa:
    Contrastive Captioners are Image-Text Foundation Models (2022), section 3.2.

    Args:
        vit: its tokens have C values.
        dim: D. heads: of the attention; they divide D.
    """

    def __init__(self, vit: Any, dim: int, heads: int = 8) -> None:
        super().__init__(vit)
        self.query = nn.Parameter(torch.zeros(1, dim))
        self.query_norm = nn.LayerNorm(dim)
        self.token_norm = nn.LayerNorm(vit.num_features)
        self.attention = nn.MultiheadAttention(
            dim, heads, kdim=vit.num_features, vdim=vit.num_features, batch_first=True
        )
        self.vector_norm = nn.LayerNorm(dim)

    def forward_head(self, tokens: torch.Tensor) -> torch.Tensor:
        """(n, D) of (n, tokens, C): what the query takes from them."""
        context = self.token_norm(tokens)
        query = self.query_norm(self.query).expand(len(tokens), -1, -1)
        found: torch.Tensor = self.attention(query, context, context, need_weights=False)[0]
        pooled: torch.Tensor = self.vector_norm(found[:, 0])
        return pooled
