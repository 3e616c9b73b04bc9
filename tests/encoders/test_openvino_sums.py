"""Long products of an OpenVINO graph are summed in pieces: the same product, rounded less."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from umedfeat.encoders.runtimes.openvino_sums import sum_in_pieces

openvino = pytest.importorskip("openvino")

Matrix = npt.NDArray[np.float32]


def product(tokens: Matrix, weight: Matrix, *, transposed: bool, cut: bool) -> tuple[Matrix, int]:
    ops = openvino.opset13
    given = ops.parameter(list(tokens.shape), openvino.Type.f32)
    constant = ops.constant(np.ascontiguousarray(weight if transposed else weight.T))
    model = openvino.Model([ops.matmul(given, constant, False, transposed)], [given])
    count = sum_in_pieces(model) if cut else 0
    options = {openvino.properties.hint.inference_precision(): openvino.Type.f32}
    compiled = openvino.Core().compile_model(model, "CPU", options)
    return compiled({0: tokens})[0], count


@pytest.mark.parametrize(("terms", "pieces"), [(192, 0), (383, 0), (384, 1), (800, 1), (3072, 1)])
@pytest.mark.parametrize("transposed", [True, False])
def test_the_sum_of_the_pieces_is_the_product(terms: int, pieces: int, transposed: bool) -> None:
    generator = np.random.default_rng(0)
    tokens = generator.standard_normal((50, terms), dtype=np.float32)
    weight = generator.standard_normal((40, terms), dtype=np.float32)
    exact = tokens.astype(np.float64) @ weight.T.astype(np.float64)
    whole, _ = product(tokens, weight, transposed=transposed, cut=False)
    summed, count = product(tokens, weight, transposed=transposed, cut=True)
    assert count == pieces
    assert np.abs(summed - exact).max() < 1e-6 * terms
    if pieces:
        share = 0.5 if terms >= 768 else 0.6  # two pieces halve the variance at best
        assert np.square(summed - exact).mean() < share * np.square(whole - exact).mean()


def test_products_of_the_same_tokens_share_their_split() -> None:
    ops = openvino.opset13
    given = ops.parameter([2, 768], openvino.Type.f32)
    weights = [ops.constant(np.full((4, 768), value, dtype=np.float32)) for value in (1.0, 2.0)]
    model = openvino.Model([ops.matmul(given, weight, False, True) for weight in weights], [given])
    assert sum_in_pieces(model) == 2
    assert sum(node.get_type_name() == "VariadicSplit" for node in model.get_ops()) == 1
    first, second = openvino.Core().compile_model(model, "CPU")({0: np.ones((2, 768), dtype=np.float32)}).values()
    assert (first == 768).all()
    assert (second == 1536).all()
