"""Matrix products of an OpenVINO graph, summed in pieces: the rounding of torch's product, or less.

OpenVINO's fp32 kernels add the K terms of a product in long chains; the rounding errors of a chain grow with the root
of its length. Torch's product works in blocks of 192, and so does this: every long product becomes a sum of short ones,
added as a tree. Long products stand where few positions of the map are left to average the errors.
"""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["sum_in_pieces"]

#: Products of so many terms and more are cut, into pieces of so many.
_LONG, _PIECE = 384, 192


def sum_in_pieces(graph: Any) -> int:
    """Cut the products with constant weights of ``graph`` (``openvino.Model``, changed in place); returns how many."""
    from openvino import opset13

    count, splits = 0, dict[Any, Any]()
    for node in graph.get_ordered_ops():
        weight = _constant_weight(node)
        if weight is None or weight.shape[1] < _LONG:
            continue
        lengths = _piece_lengths(weight.shape[1])
        tokens = node.input_value(0)
        place = (tokens.get_node().get_friendly_name(), tokens.get_index(), tuple(lengths))
        if place not in splits:  # queries, keys and values are made from the same tokens
            splits[place] = opset13.variadic_split(tokens, -1, lengths)
        node.output(0).replace(_tree_of_sums(_products(splits[place], weight, lengths)).output(0))
        count += 1
    return count


def _piece_lengths(terms: int) -> list[int]:
    """Into which pieces a product of so many terms is cut; they add up to ``terms``."""
    return [min(_PIECE, terms - first) for first in range(0, terms, _PIECE)]


def _constant_weight(node: Any) -> Any:
    """(outputs, terms) of a product x · weightᵀ with a constant weight matrix, else None."""
    if node.get_type_name() != "MatMul" or node.get_attributes()["transpose_a"]:
        return None
    weight = node.input_value(1).get_node()
    if weight.get_type_name() != "Constant" or len(weight.data.shape) != 2:
        return None
    return weight.data if node.get_attributes()["transpose_b"] else weight.data.T


def _products(parts: Any, weight: Any, lengths: list[int]) -> list[Any]:
    from openvino import opset13

    weights = np.split(weight, np.cumsum(lengths)[:-1], axis=1)
    return [
        opset13.matmul(part, opset13.constant(np.ascontiguousarray(own)), False, True)
        for part, own in zip(parts.outputs(), weights, strict=True)
    ]


def _tree_of_sums(parts: list[Any]) -> Any:
    from openvino import opset13

    while len(parts) > 1:
        pairs = [opset13.add(one, other) for one, other in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + parts[len(pairs) * 2 :]
    return parts[0]
