"""One label for all images of a case: gated attention (Ilse et al. 2018) decides what each of them counts."""

from __future__ import annotations

import torch
from torch import nn

from umedfeat.pretraining.examples import Task
from umedfeat.pretraining.heads import Batch, VectorHead, at_least_float

__all__ = ["CaseHead"]

_WIDTH = 128


class CaseHead(nn.Module):
    """The weighted mean of a case's vectors, then the layer of the label type.

    The weight of a vector h is the softmax over its case of ``w·(tanh(V h) ⊙ σ(U h))``.

    Args:
        task: its ``bag`` consecutive images are one case.
        dim: length of the vectors.
    """

    def __init__(self, task: Task, dim: int) -> None:
        super().__init__()
        self.bag = task.spec.bag
        self.flat, self.gate = nn.Linear(dim, _WIDTH), nn.Linear(dim, _WIDTH)
        self.score = nn.Linear(_WIDTH, 1, bias=False)
        self.vector = VectorHead(task, dim)

    def loss(self, read: torch.Tensor, batch: Batch) -> torch.Tensor:
        """See Head; ``batch.labels`` has one row a case."""
        return self.vector.loss(self._pooled(read), batch)

    def predict(self, read: torch.Tensor, size: int) -> torch.Tensor:
        """As VectorHead: one row a case."""
        return self.vector.predict(self._pooled(read), size)

    def weights(self, read: torch.Tensor) -> torch.Tensor:
        """(n, bag) weights of each case's images; they sum to one."""
        return self._weights(self._bags(read))

    def _pooled(self, read: torch.Tensor) -> torch.Tensor:
        bags = self._bags(read)
        return (self._weights(bags)[..., None] * bags).sum(1)

    def _weights(self, bags: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.score(torch.tanh(self.flat(bags)) * torch.sigmoid(self.gate(bags)))
        return scores[..., 0].softmax(1)

    def _bags(self, read: torch.Tensor) -> torch.Tensor:
        return at_least_float(read).reshape(-1, self.bag, read.shape[1])
