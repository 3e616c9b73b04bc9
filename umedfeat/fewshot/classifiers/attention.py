"""Gated-attention pooling (Ilse et al. 2018, "Attention-based deep multiple instance learning"): ``--pool abmil``.

An item is a bag of rows (tiles, slices). Each row becomes ``h = relu(x W + b)``; its weight within the bag is the
softmax of ``w·(tanh(V h) ⊙ σ(U h))``; the weighted mean of ``h`` goes through a linear layer. Everything is trained
together, on the drawn bags alone, for a number of steps fixed beforehand: there is no validation set to stop on, hence
nothing that could be stopped on the data that is reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock

import numpy as np
import torch
from torch import nn

from umedfeat.arrays import Floats, Floats32, Ints
from umedfeat.fewshot.classifiers.attention_form import AttentionForm
from umedfeat.fewshot.classifiers.scaling import Standard
from umedfeat.fewshot.cohort.cohort import Bags
from umedfeat.fewshot.settings import ATTENTION, Task

__all__ = ["AttentionProbe", "GatedAttention"]


class GatedAttention(nn.Module):
    """The network: (N, dim) rows of several bags → (B, width) outputs."""

    def __init__(self, dim: int, width: int, rng: np.random.Generator) -> None:
        super().__init__()
        self.embed = nn.Linear(dim, ATTENTION.hidden)
        self.flat = nn.Linear(ATTENTION.hidden, ATTENTION.gate)
        self.gate = nn.Linear(ATTENTION.hidden, ATTENTION.gate)
        self.score = nn.Linear(ATTENTION.gate, 1, bias=False)
        self.output = nn.Linear(ATTENTION.hidden, width)
        for layer in self.children():
            _glorot(layer, rng)

    def forward(self, rows: torch.Tensor, sizes: list[int]) -> torch.Tensor:
        """Outputs of consecutive bags of the given sizes."""
        hidden = torch.relu(self.embed(rows))
        pairs = zip(self._attention(hidden, sizes), torch.split(hidden, sizes), strict=True)
        outputs: torch.Tensor = self.output(torch.stack([weights @ values for weights, values in pairs]))
        return outputs

    def attention(self, rows: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
        """(n,) weight of each row within its bag, for each bag; they sum to one."""
        return self._attention(torch.relu(self.embed(rows)), sizes)

    def _attention(self, hidden: torch.Tensor, sizes: list[int]) -> list[torch.Tensor]:
        scores: torch.Tensor = self.score(torch.tanh(self.flat(hidden)) * torch.sigmoid(self.gate(hidden)))
        return [torch.softmax(part, 0) for part in torch.split(scores[:, 0], sizes)]


def _glorot(layer: nn.Module, rng: np.random.Generator) -> None:
    """Glorot's uniform weights and no bias, from a generator of the study: the same on every machine."""
    if isinstance(layer, nn.Linear):
        shape = (layer.in_features, layer.out_features)
        start = rng.uniform(-1, 1, shape).astype(np.float32) * np.float32((6 / sum(shape)) ** 0.5)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(start.T))
            if layer.bias is not None:
                layer.bias.zero_()


class AttentionProbe:
    """Fit on the drawn bags, predict others.

    Args:
        task: decides loss and output: softmax and cross-entropy of classes, sigmoids of labels, squared error of the
            standardised value.
        seed: of the initial weights, the order of the bags and the rows that take part.
    """

    def __init__(self, task: Task, seed: int = 0) -> None:
        self.task, self.seed = task, seed

    def fit(self, bags: Bags, targets: Floats) -> AttentionProbe:
        """(B, K) one-hot classes, 0/1 labels, or values."""
        rng = np.random.default_rng([self.seed, 9])
        self.standard_ = Standard.of(bags.rows)
        self.mean_, self.scale_ = 0.0, 1.0
        if self.task == "regression":
            self.mean_, self.scale_ = float(targets.mean()), float(targets.std()) or 1.0
        goal = torch.from_numpy(((targets - self.mean_) / self.scale_).astype(np.float32))
        ready = Bags(self._standardised(bags.rows), bags.starts)
        self.network_ = GatedAttention(bags.rows.shape[1], targets.shape[1], rng)
        with _one_thread():
            self._train(ready, goal, rng)
        return self

    def _train(self, bags: Bags, goal: torch.Tensor, rng: np.random.Generator) -> None:
        optimiser = torch.optim.AdamW(self.network_.parameters(), lr=ATTENTION.rate, weight_decay=ATTENTION.decay)
        for chosen in _batches(len(goal), rng):
            batch = bags.pick(chosen, ATTENTION.rows, rng)
            optimiser.zero_grad()
            self._loss(self.network_(*_tensors(batch)), goal[chosen]).backward()  # type: ignore[no-untyped-call]
            optimiser.step()

    def _loss(self, output: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """Mean over the bags of the sum over the outputs."""
        if self.task == "regression":
            return 0.5 * ((output - goal) ** 2).sum(dim=1).mean()
        if self.task == "multilabel":
            each = nn.functional.binary_cross_entropy_with_logits(output, goal, reduction="none")
            return each.sum(dim=1).mean()
        return nn.functional.cross_entropy(output, goal)

    @torch.no_grad()
    def predict(self, bags: Bags) -> Floats:
        """(B, K) probabilities or values, from all rows of each bag; one bag at a time, so that memory stays flat."""
        with _one_thread():
            outputs = [self._outputs(bags.rows[a:b]) for a, b in zip(bags.starts[:-1], bags.starts[1:], strict=True)]
        return np.asarray(self._link(torch.cat(outputs)).numpy(), dtype=np.float64) * self.scale_ + self.mean_

    def form(self) -> AttentionForm:
        """The fitted network as arrays, for files."""
        network = self.network_
        embed, flat, gate, output = network.embed, network.flat, network.gate, network.output
        return AttentionForm(
            mean=self.standard_.mean,
            scale=self.standard_.scale,
            embed=_array(embed.weight).T,
            embed_bias=_array(embed.bias),
            flat=_array(flat.weight).T,
            flat_bias=_array(flat.bias),
            gate=_array(gate.weight).T,
            gate_bias=_array(gate.bias),
            score=_array(network.score.weight)[0],
            output=_array(output.weight).T,
            output_bias=_array(output.bias),
            link={"regression": 0, "multilabel": 1}.get(self.task, 2),
            offset=self.mean_,
            factor=self.scale_,
        )

    def _outputs(self, rows: Floats32) -> torch.Tensor:
        found: torch.Tensor = self.network_(torch.from_numpy(self._standardised(rows)), [len(rows)])
        return found

    def _standardised(self, rows: Floats32) -> Floats32:
        return self.standard_.apply(rows).astype(np.float32)

    def _link(self, output: torch.Tensor) -> torch.Tensor:
        if self.task == "regression":
            return output
        return torch.sigmoid(output) if self.task == "multilabel" else torch.softmax(output, dim=1)


def _array(weights: torch.Tensor) -> Floats32:
    return np.array(weights.detach().numpy(), dtype=np.float32)


def _tensors(bags: Bags) -> tuple[torch.Tensor, list[int]]:
    return torch.from_numpy(bags.rows), np.diff(bags.starts).tolist()


def _batches(n_bags: int, rng: np.random.Generator) -> list[Ints]:
    """Bags of each step: every pass in a new order, so many passes that there are enough steps."""
    size = min(ATTENTION.batch, n_bags)
    per_pass = -(-n_bags // size)
    passes = max(ATTENTION.passes, -(-ATTENTION.steps // per_pass))
    return [part for _ in range(passes) for part in np.array_split(rng.permutation(n_bags), per_pass)]


_LOCK = Lock()
_asking: list[int] = []


@contextmanager
def _one_thread() -> Iterator[None]:
    """Sums in one order, whatever the machine: one thread of torch here, the caller's number again afterwards.

    The number belongs to each thread, but the last one set is what new threads begin with: the first to come remembers
    it for all.
    """
    with _LOCK:
        before = _asking[0] if _asking else torch.get_num_threads()
        _asking.append(before)
    torch.set_num_threads(1)
    try:
        yield
    finally:
        with _LOCK:
            _asking.pop()
            torch.set_num_threads(before)
