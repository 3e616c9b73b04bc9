"""Gated-attention pooling (Ilse et al. 2018, "Attention-based deep multiple instance learning"): ``--pool abmil``.

An item is a bag of rows (tiles, slices). Each row becomes ``h = relu(x W + b)``; its weight within the bag is the
softmax of ``w·(tanh(V h) ⊙ σ(U h))``; the weighted mean of ``h`` goes through a linear layer. Everything is trained
together, on the drawn bags alone, for a number of steps fixed beforehand: there is no validation set to stop on, hence
nothing that could be stopped on the data that is reported. The gradients are written out, so that a fit is the same
numbers everywhere, with any number of threads, and needs no framework.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from umedfeat.fewshot.classifiers.linear import Standard
from umedfeat.fewshot.cohort.cohort import Bags
from umedfeat.fewshot.settings import ATTENTION, Task

__all__ = ["AttentionProbe", "forward", "gradients", "start"]

Floats = npt.NDArray[np.float32]
Ints = npt.NDArray[np.intp]
Weights = dict[str, Floats]

_DECAY = (0.9, 0.999)
_TINY = np.float32(1e-8)


def start(dim: int, width: int, rng: np.random.Generator) -> Weights:
    """Weights before training: Glorot's uniform, biases zero."""
    shapes = {
        "W": (dim, ATTENTION.hidden),
        "V": (ATTENTION.hidden, ATTENTION.gate),
        "U": (ATTENTION.hidden, ATTENTION.gate),
        "w": (ATTENTION.gate, 1),
        "C": (ATTENTION.hidden, width),
    }
    found = {
        name: rng.uniform(-1, 1, shape).astype(np.float32) * np.float32((6 / sum(shape)) ** 0.5)
        for name, shape in shapes.items()
    }
    biases = {"b": ATTENTION.hidden, "v": ATTENTION.gate, "u": ATTENTION.gate, "c": width}
    return found | {name: np.zeros(size, dtype=np.float32) for name, size in biases.items()}


def forward(weights: Weights, bags: Bags) -> tuple[Floats, dict[str, Floats]]:
    """(B, K) outputs, and what the gradients need; ``attention`` (N,) sums to one within each bag."""
    hidden = np.maximum(bags.rows @ weights["W"] + weights["b"], 0)
    flat = np.tanh(hidden @ weights["V"] + weights["v"])
    gate = 1 / (1 + np.exp(-(hidden @ weights["U"] + weights["u"])))
    score = ((flat * gate) @ weights["w"])[:, 0]
    begins, owner = bags.starts[:-1], bags.owner
    power = np.exp(score - np.maximum.reduceat(score, begins)[owner])
    attention = power / np.add.reduceat(power, begins)[owner]
    pooled = np.add.reduceat(attention[:, None] * hidden, begins, axis=0)
    kept = {"hidden": hidden, "flat": flat, "gate": gate, "attention": attention, "pooled": pooled}
    return pooled @ weights["C"] + weights["c"], kept


def gradients(weights: Weights, bags: Bags, kept: dict[str, Floats], slope: Floats) -> Weights:
    """Derivatives of a loss whose derivative by the (B, K) outputs is ``slope``."""
    hidden, flat, gate, attention = (kept[name] for name in ("hidden", "flat", "gate", "attention"))
    owner, begins = bags.owner, bags.starts[:-1]
    to_pooled = (slope @ weights["C"].T)[owner]
    along = np.einsum("nh,nh->n", hidden, to_pooled)
    mean = np.add.reduceat(attention * along, begins)[owner]
    to_score = (attention * (along - mean))[:, None]
    to_flat = to_score * weights["w"][:, 0] * gate * (1 - flat * flat)
    to_gate = to_score * weights["w"][:, 0] * flat * gate * (1 - gate)
    to_hidden = attention[:, None] * to_pooled + to_flat @ weights["V"].T + to_gate @ weights["U"].T
    to_hidden = to_hidden * (hidden > 0)
    return {
        "W": bags.rows.T @ to_hidden,
        "b": to_hidden.sum(axis=0),
        "V": hidden.T @ to_flat,
        "v": to_flat.sum(axis=0),
        "U": hidden.T @ to_gate,
        "u": to_gate.sum(axis=0),
        "w": (flat * gate).T @ to_score,
        "C": kept["pooled"].T @ slope,
        "c": slope.sum(axis=0),
    }


class AttentionProbe:
    """Fit on the drawn bags, predict others.

    Args:
        task: decides loss and output: softmax and cross-entropy of classes, sigmoids of labels, squared error of the
            standardised value.
        seed: of the initial weights, the order of the bags and the rows that take part.
    """

    def __init__(self, task: Task, seed: int = 0) -> None:
        self.task, self.seed = task, seed

    def fit(self, bags: Bags, targets: npt.NDArray[np.float64]) -> AttentionProbe:
        """(B, K) one-hot classes, 0/1 labels, or values."""
        rng = np.random.default_rng([self.seed, 9])
        self.standard_ = Standard.of(bags.rows)
        self.mean_, self.scale_ = 0.0, 1.0
        if self.task == "regression":
            self.mean_, self.scale_ = float(targets.mean()), float(targets.std()) or 1.0
        goal = ((targets - self.mean_) / self.scale_).astype(np.float32)
        ready = Bags(self._standardised(bags.rows), bags.starts)
        self.weights_ = start(bags.rows.shape[1], targets.shape[1], rng)
        moments = {name: (np.zeros_like(w), np.zeros_like(w)) for name, w in self.weights_.items()}
        for step, chosen in enumerate(_batches(len(goal), rng), start=1):
            batch = ready.pick(chosen, ATTENTION.rows, rng)
            output, kept = forward(self.weights_, batch)
            slope = (self._link(output) - goal[chosen]) / np.float32(len(chosen))
            self._adam(gradients(self.weights_, batch, kept, slope), moments, step)
        return self

    def predict(self, bags: Bags) -> npt.NDArray[np.float64]:
        """(B, K) probabilities or values, from all rows of each bag."""
        output, _ = forward(self.weights_, Bags(self._standardised(bags.rows), bags.starts))
        return np.asarray(self._link(output), dtype=np.float64) * self.scale_ + self.mean_

    def _standardised(self, rows: Floats) -> Floats:
        return self.standard_.apply(rows).astype(np.float32)

    def _link(self, output: Floats) -> Floats:
        if self.task == "regression":
            return output
        if self.task == "multilabel":
            return np.asarray(1 / (1 + np.exp(-output)), dtype=np.float32)
        power = np.exp(output - output.max(axis=1, keepdims=True))
        return np.asarray(power / power.sum(axis=1, keepdims=True))

    def _adam(self, slopes: Weights, moments: dict[str, tuple[Floats, Floats]], step: int) -> None:
        """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
        first, second = _DECAY
        rate = np.float32(ATTENTION.rate * (1 - second**step) ** 0.5 / (1 - first**step))
        for name, slope in slopes.items():
            mean, square = moments[name]
            mean += np.float32(1 - first) * (slope - mean)
            square += np.float32(1 - second) * (slope * slope - square)
            weight = self.weights_[name]
            weight -= np.float32(ATTENTION.rate * ATTENTION.decay) * weight + rate * mean / (np.sqrt(square) + _TINY)


def _batches(n_bags: int, rng: np.random.Generator) -> list[Ints]:
    """Bags of each step: every pass in a new order, so many passes that there are enough steps."""
    size = min(ATTENTION.batch, n_bags)
    per_pass = -(-n_bags // size)
    passes = max(ATTENTION.passes, -(-ATTENTION.steps // per_pass))
    return [part for _ in range(passes) for part in np.array_split(rng.permutation(n_bags), per_pass)]
