"""Metrics and their bootstrap against scikit-learn and against the slow, obvious way."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from proa.exam.bootstrap import difference, expanded_tail, student_t
from proa.exam.metrics import (
    BINARY,
    LLM,
    MULTICLASS,
    REGRESSION,
    Answers,
    auc_of_counts,
    auc_of_weights,
    measure,
    pairs,
)


def binary(label: np.ndarray, value: np.ndarray, threshold: float = 0.5) -> Answers:
    ones = np.ones(len(label))
    return Answers(label.astype(float), value, (value >= threshold).astype(float), ones)


@st.composite
def labelled(draw: st.DrawFn) -> Answers:
    size = draw(st.integers(2, 60))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    label = random.integers(0, 2, size)
    label[:2] = [0, 1]
    # Few distinct scores: ties are where AUC goes wrong.
    value = random.integers(0, draw(st.integers(2, 12)), size) / 12
    return binary(label, value)


@given(labelled())
def test_binary_metrics_equal_scikit_learns(answers: Answers) -> None:
    y, p, d = answers.label, answers.value, answers.decision
    expected = {
        "roc_auc": sk.roc_auc_score(y, p),
        "log_loss": sk.log_loss(y, p, labels=[0, 1]),
        "brier": sk.brier_score_loss(y, p),
        "calibration_gap": abs(p.mean() - y.mean()),
        "accuracy": sk.accuracy_score(y, d),
        "precision": sk.precision_score(y, d, zero_division=0),
        "recall": sk.recall_score(y, d),
        "f1": sk.f1_score(y, d),
    }
    assert expected.keys() == BINARY.keys()
    for name, value in expected.items():
        assert measure(BINARY[name], answers) == pytest.approx(value, rel=1e-9, abs=1e-12), name


@given(st.integers(0, 2**32), st.integers(3, 60))
def test_regression_metrics_equal_scikit_learns(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    y, p = random.normal(size=size), random.normal(size=size)
    answers = Answers(y, p, np.full(size, np.nan), np.ones(size))
    expected = {
        "mae": sk.mean_absolute_error(y, p),
        "mse": sk.mean_squared_error(y, p),
        "rmse": sk.root_mean_squared_error(y, p),
        "r2": sk.r2_score(y, p),
        "calibration_gap": abs(p.mean() - y.mean()),
    }
    assert expected.keys() == REGRESSION.keys()
    for name, value in expected.items():
        assert measure(REGRESSION[name], answers) == pytest.approx(value, rel=1e-9), name


def test_multiclass_metrics_equal_scikit_learns() -> None:
    random = np.random.default_rng(3)
    p = random.dirichlet(np.ones(4), 200)
    y = random.integers(0, 4, 200)
    answers = Answers(y.astype(float), p, p.argmax(axis=1).astype(float), np.ones(200))
    assert measure(MULTICLASS["log_loss"], answers) == pytest.approx(sk.log_loss(y, p))
    expected = sk.accuracy_score(y, p.argmax(axis=1))
    assert measure(MULTICLASS["accuracy"], answers) == pytest.approx(expected)


def test_what_is_not_defined_is_nan() -> None:
    one_class = binary(np.ones(5), np.linspace(0, 1, 5))
    assert math.isnan(measure(BINARY["roc_auc"], one_class))
    nothing = one_class.rows(np.array([], dtype=int))
    assert math.isnan(measure(LLM["passed"], nothing))


@given(labelled(), st.integers(0, 2**32))
def test_resampled_auc_equals_the_auc_of_repeated_rows(answers: Answers, seed: int) -> None:
    random = np.random.default_rng(seed)
    units = random.integers(0, 4, len(answers.label))
    counts = random.integers(0, 3, (1, 4)).astype(float)
    index = np.repeat(np.arange(len(units)), counts[0][units].astype(int))
    by_pairs = auc_of_counts(pairs(answers, units, 4), counts)[0]
    by_weights = auc_of_weights(answers, counts[:, units])[0]
    if len(index) == 0 or len(set(answers.label[index])) < 2:
        assert math.isnan(by_pairs)
        assert math.isnan(by_weights)
    else:
        expected = sk.roc_auc_score(answers.label[index], answers.value[index])
        assert by_pairs == pytest.approx(expected)
        assert by_weights == pytest.approx(expected)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 9, 29, 200])
def test_student_t_is_close(degrees: int) -> None:
    assert student_t(0.975, degrees) == pytest.approx(stats.t.ppf(0.975, degrees), rel=0.01)


def test_the_tail_shrinks_with_few_units() -> None:
    assert expanded_tail(0.95, 5) < expanded_tail(0.95, 15) < expanded_tail(0.95, 5000) < 0.0251


def test_many_units_and_few_units_give_the_same_interval() -> None:
    """The two ways to resample AUC meet at their border of 400 units."""
    random = np.random.default_rng(0)
    label = random.integers(0, 2, 3000)
    first = binary(label, np.clip(label * 0.3 + random.random(3000) * 0.7, 0, 1))
    second = binary(label, np.clip(label * 0.2 + random.random(3000) * 0.8, 0, 1))
    found = [
        difference(
            BINARY["roc_auc"], first, second, units=np.arange(3000) % count,
            confidence=0.95, resamples=1000, seed=5,
        )
        for count in (400, 401)
    ]  # fmt: skip
    assert found[0].value == pytest.approx(found[1].value)
    assert found[0].low == pytest.approx(found[1].low, abs=0.003)
    assert found[0].high == pytest.approx(found[1].high, abs=0.003)


def test_intervals_cover_the_truth() -> None:
    """Twelve units with their own effect: a 95 % interval must cover in about 95 of 100 tries."""
    covered = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        units = np.repeat(np.arange(12), 20)
        effect = random.normal(0.1, 0.2, 12)[units]
        base = random.normal(size=240)
        nothing = np.full(240, np.nan)
        ones = np.ones(240)
        mine = Answers(nothing, base + effect + random.normal(0, 0.1, 240), nothing, ones)
        theirs = Answers(nothing, base, nothing, ones)
        found = difference(
            LLM["passed"], mine, theirs, units=units, confidence=0.95, resamples=500, seed=seed
        )
        covered += found.low <= 0.1 <= found.high
    assert 184 <= covered <= 198
