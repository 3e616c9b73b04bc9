"""Gated-attention pooling as plain arrays: predicts bags of any size in flat memory, without torch.

The formula is that of ``umedfeat.fewshot.classifiers.attention``, where it is fitted.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from umedfeat.arrays import Floats, Floats32, Rows

__all__ = ["AttentionForm"]

_LINKS = (0, 1, 2)


@dataclass(frozen=True)
class AttentionForm:
    """A fitted network.

    Attributes:
        mean, scale: (D,) of the training rows: a row becomes ``x = (row - mean) / scale``.
        embed, embed_bias: (D, H), (H,): ``h = max(0, x @ embed + embed_bias)``.
        flat, flat_bias, gate, gate_bias, score: (H, G), (G,), (H, G), (G,), (G,): a row's weight within its bag is the
            softmax of ``(tanh(h @ flat + flat_bias) * sigmoid(h @ gate + gate_bias)) @ score``.
        output, output_bias: (H, K), (K,): of the weighted mean of h.
        link: 0 values, 1 a sigmoid of each label, 2 a softmax of classes.
        offset, factor: of values: ``output * factor + offset``; 0 and 1 else.
    """

    mean: Floats
    scale: Floats
    embed: Floats32
    embed_bias: Floats32
    flat: Floats32
    flat_bias: Floats32
    gate: Floats32
    gate_bias: Floats32
    score: Floats32
    output: Floats32
    output_bias: Floats32
    link: int
    offset: float = 0.0
    factor: float = 1.0

    @property
    def width(self) -> int:
        return int(self.output.shape[1])

    @property
    def dim(self) -> int:
        return len(self.mean)

    def predict(self, rows: Rows) -> Floats:
        """(n, K) of each row as a bag of its own: what a region alone would be called."""
        return self._linked(self._hidden(rows))

    def predict_bag(self, blocks: Iterable[Rows]) -> Floats:
        """(1, K) of one bag, given in any number of blocks of rows: only one block is looked at at a time."""
        peak, total, weighted = -np.inf, 0.0, np.zeros(self.embed.shape[1])
        for rows in blocks:
            hidden = self._hidden(rows)
            scores = self._scores(hidden)
            higher = max(peak, float(scores.max()))
            powers, shrunk = np.exp(scores - higher), float(np.exp(peak - higher))
            total, weighted = total * shrunk + float(powers.sum()), weighted * shrunk + powers @ hidden
            peak = higher
        return self._linked((weighted / total)[None])

    def attention(self, rows: Rows) -> Floats:
        """(n,) weight of each row of one bag; they sum to 1."""
        scores = self._scores(self._hidden(rows))
        powers = np.exp(scores - scores.max())
        return np.asarray(powers / powers.sum())

    def stretched(self, factor: float) -> AttentionForm:
        """The same for rows that are ``factor`` times as large."""
        return replace(self, mean=self.mean * factor, scale=self.scale * factor)

    def _hidden(self, rows: Rows) -> Floats:
        ready = ((rows - self.mean) / self.scale).astype(np.float32)
        return np.asarray(np.maximum(ready @ self.embed + self.embed_bias, 0), dtype=np.float64)

    def _scores(self, hidden: Floats) -> Floats:
        gate = 1.0 / (1.0 + np.exp(-(hidden @ self.gate + self.gate_bias)))
        return np.asarray((np.tanh(hidden @ self.flat + self.flat_bias) * gate) @ self.score)

    def _linked(self, hidden: Floats) -> Floats:
        logits = hidden @ self.output + self.output_bias
        if self.link == 0:
            return np.asarray(logits * self.factor + self.offset)
        if self.link == 1:
            return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        arrays = {field.name: getattr(self, field.name) for field in fields(self)}
        numbers = {name: np.array([float(arrays.pop(name))]) for name in ("offset", "factor")}
        return {**arrays, **numbers, "link": np.array([self.link], dtype=np.int64)}

    @classmethod
    def of(cls, tensors: Mapping[str, npt.NDArray[Any]]) -> AttentionForm:
        arrays = {field.name: tensors[field.name] for field in fields(cls)}
        link, offset, factor = (arrays.pop(name)[0] for name in ("link", "offset", "factor"))
        form = cls(**arrays, link=int(link), offset=float(offset), factor=float(factor))
        dim, hidden, gate, width = form.dim, form.embed.shape[1], len(form.score), form.output.shape[1]
        shapes = {
            "mean": (dim,), "scale": (dim,), "embed": (dim, hidden), "embed_bias": (hidden,),
            "flat": (hidden, gate), "flat_bias": (gate,), "gate": (hidden, gate), "gate_bias": (gate,),
            "score": (gate,), "output": (hidden, width), "output_bias": (width,),
        }  # fmt: skip
        if form.link not in _LINKS or any(arrays[name].shape != shape for name, shape in shapes.items()):
            raise ValueError("arrays do not fit each other")
        if not (form.scale > 0).all():
            raise ValueError("a scale is not above 0")
        return form
