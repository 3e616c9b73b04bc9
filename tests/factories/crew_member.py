"""One of two processes of a crew: what it has found itself comes from a file. It imports torch and the crew alone."""

from __future__ import annotations

import torch
from torch import distributed

from umedfeat.pretraining.crew import Crew, leave

__all__ = ["add_up"]


def add_up(rank: int, address: str, folder: str, shares: list[list[int]]) -> None:
    """Adds the gradients of ``<folder>/<rank>.own.pt`` to those of the other one; sums go to ``<folder>/<rank>.pt``."""
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    try:
        crew, weights = Crew(rank, 2), []
        for shape, gradient in torch.load(f"{folder}/{rank}.own.pt", weights_only=True):
            weights.append(torch.zeros(shape))
            weights[-1].grad = gradient
        crew.add_gradients(weights)
        torch.save([weight.grad for weight in weights], f"{folder}/{rank}.pt")
        assert crew.gather(shares[rank]) == shares
    finally:
        leave()
