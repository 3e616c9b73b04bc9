"""Attention pooling: the formula of the paper, few tiles are found among many, nothing is selected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from study_cases import write_features

from umedfeat.cli import run
from umedfeat.errors import CohortError
from umedfeat.fewshot import ProbeSettings, probe, probe_file
from umedfeat.fewshot.classifiers.attention import AttentionProbe, GatedAttention
from umedfeat.fewshot.cohort.cohort import Bags


def _bags(n_bags=20, dim=12, low=3, high=9, seed=0):
    rng = np.random.default_rng(seed)
    starts = np.r_[0, np.cumsum(rng.integers(low, high, n_bags))].astype(np.intp)
    return Bags(rng.normal(size=(starts[-1], dim)).astype(np.float32), starts)


def _needles(n_bags, seed, tiles=40, dim=16):
    """Positive bags hold two tiles, of 40, that stand out; their mean hardly differs."""
    bags = _bags(n_bags, dim, tiles, tiles + 1, seed)
    code = np.arange(n_bags) % 2
    for bag in np.flatnonzero(code):
        bags.rows[bags.starts[bag] : bags.starts[bag] + 2, :2] += 4.0
    return bags, code


def _formula(network, rows):
    """One bag by the paper's formula, in double precision."""
    w = {name: value.detach().double().numpy() for name, value in network.named_parameters()}
    hidden = np.maximum(rows @ w["embed.weight"].T + w["embed.bias"], 0)
    gate = 1 / (1 + np.exp(-(hidden @ w["gate.weight"].T + w["gate.bias"])))
    score = (np.tanh(hidden @ w["flat.weight"].T + w["flat.bias"]) * gate) @ w["score.weight"][0]
    attention = np.exp(score) / np.exp(score).sum()
    return attention, attention @ hidden @ w["output.weight"].T + w["output.bias"]


def test_the_network_is_the_formula_of_the_paper():
    bags = _bags()
    network = GatedAttention(12, 3, np.random.default_rng(1))
    rows, sizes = torch.from_numpy(bags.rows), np.diff(bags.starts).tolist()
    outputs, attention = network(rows, sizes).detach().numpy(), network.attention(rows, sizes)
    for bag, (begin, end) in enumerate(zip(bags.starts[:-1], bags.starts[1:], strict=True)):
        weights, expected = _formula(network, bags.rows[begin:end].astype(np.float64))
        np.testing.assert_allclose(attention[bag].detach(), weights, atol=1e-6)
        np.testing.assert_allclose(outputs[bag], expected, atol=1e-5)


def test_the_number_of_threads_changes_nothing_and_stays_as_it_was():
    bags, code = _needles(12, 7, dim=256)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(AttentionProbe("binary").fit(bags, np.eye(2)[code]).predict(bags))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(*found)


def test_attention_sums_to_one_in_each_bag_and_finds_the_tiles_that_matter():
    bags, code = _needles(60, 0)
    model = AttentionProbe("binary").fit(bags, np.eye(2)[code])
    rows = torch.from_numpy(model.standard_.apply(bags.rows).astype(np.float32))
    with torch.no_grad():
        attention = torch.cat(model.network_.attention(rows, np.diff(bags.starts).tolist())).numpy()
    np.testing.assert_allclose(np.bincount(bags.owner, attention), 1.0, atol=1e-5)
    marked = np.concatenate([bags.starts[:-1][code == 1], bags.starts[:-1][code == 1] + 1])
    assert attention[marked].sum() > 0.5 * code.sum()
    fresh, truth = _needles(40, 1)
    right = model.predict(fresh).argmax(axis=1) == truth
    assert right.mean() > 0.95


def test_the_same_numbers_again_and_other_tasks():
    bags, code = _needles(20, 2)
    first, second = (AttentionProbe("binary", 3).fit(bags, np.eye(2)[code]).predict(bags) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first.sum(axis=1), 1.0, atol=1e-5)
    value = 100.0 + 5.0 * code
    guess = AttentionProbe("regression").fit(bags, value[:, None]).predict(bags)[:, 0]
    assert np.abs(guess - value).mean() < 2.0
    both = AttentionProbe("multilabel").fit(bags, np.stack([code, 1 - code], axis=1).astype(float)).predict(bags)
    assert ((both > 0.5) == np.stack([code, 1 - code], axis=1)).mean() > 0.9


@pytest.fixture
def slides(tmp_path):
    bags, code = _needles(48, 4)
    rows = [bags.rows[a:b] for a, b in zip(bags.starts[:-1], bags.starts[1:], strict=True)]
    meta = {"label": [f"class{k}" for k in code]}
    return write_features(tmp_path / "feats.h5", rows, [f"s{k:02d}.svs" for k in range(48)], meta=meta)


CHOSEN = ProbeSettings(pool="abmil", fractions=(1.0,), classifiers=("linear",), bootstrap=100)


def test_a_study_shows_it_beside_the_mean(slides):
    result = probe_file(slides, settings=CHOSEN)
    assert [part.classifier for part in result.predictions] == ["linear", "abmil"]
    attention, mean = (result.estimate(name, "100 %", "auroc").value for name in ("abmil", "linear"))
    assert attention > 0.9
    plain = probe_file(slides, settings=replace(CHOSEN, pool="mean"))
    assert mean == plain.estimate("linear", "100 %", "auroc").value


def test_test_items_do_not_touch_the_fit(slides):
    """Nothing is stopped, standardised or chosen by them: one prediction depends on one item alone."""
    bags, code = _needles(30, 5)
    model = AttentionProbe("binary").fit(bags.pick(np.arange(20)), np.eye(2)[code[:20]])
    together = model.predict(bags.pick(np.arange(20, 30)))
    alone = np.concatenate([model.predict(bags.pick(np.array([k]))) for k in range(20, 30)])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_where_it_makes_no_sense(slides, capsys):
    for unit in ("tile", "patient"):
        assert run(["probe", "-f", str(slides), "--pool", "abmil", "--unit", unit]) == 2
        assert "--pool abmil pools tiles into items" in capsys.readouterr().err
    with pytest.raises(CohortError, match="attention pooling needs the tiles"):
        probe(np.eye(8), [0, 1] * 4, settings=CHOSEN)
