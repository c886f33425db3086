"""Metrics and their bootstrap against scikit-learn and against the slow, obvious way."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk

from proa.exam.answers import Answers, Metric
from proa.exam.bootstrap import difference, expanded_tail, student_t
from proa.exam.metrics import (
    ANOMALY,
    BINARY,
    FORECASTING,
    LLM,
    MULTICLASS,
    RANKING,
    REGRESSION,
    measure,
    metric_named,
    names_of,
)
from proa.exam.ordering import auc_of_counts, auc_of_weights, pairs


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


def same(found: Mapping[str, Metric], answers: Answers, expected: Mapping[str, float]) -> None:
    """Every metric of a task but those of latency, each equal to its expected value."""
    assert expected.keys() == found.keys() - {"latency_p50", "latency_p95"}
    for name, value in expected.items():
        assert measure(found[name], answers) == pytest.approx(value, rel=1e-9, abs=1e-12), name


def ece(said: np.ndarray, true: np.ndarray) -> float:
    """Expected calibration error the slow way: bin by bin."""
    bins = np.minimum((said * 10).astype(int), 9)
    return sum(
        (bins == b).mean() * abs(said[bins == b].mean() - true[bins == b].mean())
        for b in set(bins.tolist())
    )


@given(labelled())
def test_binary_metrics_equal_scikit_learns(answers: Answers) -> None:
    y, p, d = answers.label, answers.value, answers.decision
    expected = {
        "roc_auc": sk.roc_auc_score(y, p),
        "average_precision": sk.average_precision_score(y, p),
        "log_loss": sk.log_loss(y, p, labels=[0, 1]),
        "brier": sk.brier_score_loss(y, p),
        "calibration_gap": abs(p.mean() - y.mean()),
        "ece": ece(p, y),
        "accuracy": sk.accuracy_score(y, d),
        "precision": sk.precision_score(y, d, zero_division=0),
        "recall": sk.recall_score(y, d),
        "f1": sk.f1_score(y, d),
    }
    same(BINARY, answers, expected)


@given(labelled(), st.integers(1, 8), st.floats(0.01, 0.6))
def test_anomaly_metrics_equal_scikit_learns(answers: Answers, cut: int, rate: float) -> None:
    y, p, d = answers.label, answers.value * 40 - 7, answers.decision
    answers = replace(answers, value=p)
    expected = {
        "roc_auc": sk.roc_auc_score(y, p),
        "average_precision": sk.average_precision_score(y, p),
        "precision": sk.precision_score(y, d, zero_division=0),
        "recall": sk.recall_score(y, d),
        "f1": sk.f1_score(y, d),
    }
    same(ANOMALY, answers, expected)
    alarms, hits, _ = sk.roc_curve(y, p, drop_intermediate=False)
    found = measure(named("anomaly", f"recall_at_fpr@{rate}"), answers)
    assert found == pytest.approx(hits[alarms <= rate].max())
    found = measure(named("anomaly", f"precision@{cut}"), answers)
    if cut > len(y):
        assert math.isnan(found)
    else:
        random = np.random.default_rng(0)
        orders = [np.lexsort((random.random(len(y)), -p))[:cut] for _ in range(400)]
        assert found == pytest.approx(np.mean([y[order].mean() for order in orders]), abs=0.15)
        cutoff = np.sort(p)[-cut]
        if (p >= cutoff).sum() == cut:
            assert found == pytest.approx(y[p >= cutoff].mean())


def named(task: str, name: str) -> Metric:
    found = metric_named("classic", task, name)
    assert found is not None
    return found


@given(st.integers(0, 2**32), st.integers(3, 60))
def test_regression_metrics_equal_scikit_learns(seed: int, size: int) -> None:
    random = np.random.default_rng(seed)
    y, p = random.normal(size=size), random.normal(size=size)
    low, high = p - random.random(size), p + random.random(size)
    answers = Answers(y, p, np.full(size, np.nan), np.ones(size), {"lower": low, "upper": high})
    expected = {
        "mae": sk.mean_absolute_error(y, p),
        "mse": sk.mean_squared_error(y, p),
        "rmse": sk.root_mean_squared_error(y, p),
        "r2": sk.r2_score(y, p),
        "calibration_gap": abs(p.mean() - y.mean()),
        "coverage": ((low <= y) & (y <= high)).mean(),
        "interval_width": (high - low).mean(),
    }
    same(REGRESSION, answers, expected)
    assert measure(named("regression", "pinball@0.9"), answers) == pytest.approx(
        sk.mean_pinball_loss(y, p, alpha=0.9)
    )


@given(st.integers(0, 2**32), st.integers(3, 60))
def test_forecasting_metrics_are_what_their_papers_say(seed: int, size: int) -> None:
    """MASE: Hyndman and Koehler 2006; a forecast as good as the baseline has relative_mae 1."""
    random = np.random.default_rng(seed)
    y, p, naive = random.gamma(3, size=size), random.gamma(3, size=size), random.gamma(3, size=size)
    scale = random.gamma(2, size=size)
    facts = {"scale": scale, "baseline": naive}
    answers = Answers(y, p, np.full(size, np.nan), np.ones(size), facts)
    expected = {
        "mase": np.mean(np.abs(y - p) / scale),
        "relative_mae": sk.mean_absolute_error(y, p) / sk.mean_absolute_error(y, naive),
        "smape": np.mean(2 * np.abs(y - p) / (np.abs(y) + np.abs(p))),
        "wape": np.abs(y - p).sum() / np.abs(y).sum(),
        "bias": (p - y).sum() / np.abs(y).sum(),
    }
    for name, value in expected.items():
        assert measure(FORECASTING[name], answers) == pytest.approx(value), name
    assert FORECASTING.keys() >= REGRESSION.keys()
    as_naive = replace(answers, value=naive)
    assert measure(FORECASTING["relative_mae"], as_naive) == pytest.approx(1.0)


@given(st.integers(0, 2**32), st.integers(4, 80), st.integers(2, 5))
def test_multiclass_metrics_equal_scikit_learns(seed: int, size: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    p = random.dirichlet(np.ones(classes), size)
    y = np.r_[np.arange(classes), random.integers(0, classes, size)][:size]
    size = len(y)
    d = p[:size].argmax(axis=1)
    answers = Answers(y.astype(float), p[:size], d.astype(float), np.ones(size))
    whole = len(set(y.tolist())) == classes
    pairs_of_classes = {"multi_class": "ovr"} if classes > 2 else {}
    scores = p[:size] if classes > 2 else p[:size, 1]
    expected = {
        "log_loss": sk.log_loss(y, p[:size], labels=range(classes)),
        "brier": ((p[:size] - np.eye(classes)[y]) ** 2).sum(axis=1).mean(),
        "accuracy": sk.accuracy_score(y, d),
        "balanced_accuracy": np.mean([(d[y == k] == k).mean() for k in set(y.tolist())]),
        "macro_f1": sk.f1_score(y, d, average="macro"),
        "roc_auc_ovr": sk.roc_auc_score(y, scores, **pairs_of_classes) if whole else math.nan,
        "ece": ece(p[:size].max(axis=1), (d == y).astype(float)),
    }
    if not whole:
        assert math.isnan(measure(MULTICLASS["roc_auc_ovr"], answers))
        expected["roc_auc_ovr"] = pytest.approx(math.nan, nan_ok=True)
        del expected["roc_auc_ovr"]
        same({k: v for k, v in MULTICLASS.items() if k != "roc_auc_ovr"}, answers, expected)
    else:
        same(MULTICLASS, answers, expected)
        if classes > 2:
            assert expected["balanced_accuracy"] == sk.balanced_accuracy_score(y, d)


@st.composite
def queries(draw: st.DrawFn) -> tuple[Answers, list[np.ndarray]]:
    """Rows of some queries, shuffled; graded labels, few distinct scores, each with a hit."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(2, 9), min_size=1, max_size=6))
    group = np.repeat(np.arange(len(sizes)), sizes).astype(float)
    label = random.integers(0, 4, len(group)).astype(float)
    label[np.unique(group, return_index=True)[1]] = 1.0
    value = random.integers(0, draw(st.integers(2, 30)), len(group)).astype(float)
    order = random.permutation(len(group))
    group, label, value = group[order], label[order], value[order]
    nothing = np.full(len(group), np.nan)
    answers = Answers(label, value, nothing, np.ones(len(group)), {"group": group})
    return answers, [np.flatnonzero(group == query) for query in range(len(sizes))]


@given(queries(), st.integers(1, 6))
def test_ranking_metrics_equal_scikit_learns(
    found: tuple[Answers, list[np.ndarray]], cut: int
) -> None:
    answers, members = found
    y, p = answers.label, answers.value

    def each(score: Callable[[np.ndarray, np.ndarray], float]) -> float:
        return float(np.mean([score(y[rows], p[rows]) for rows in members]))

    def worst_rank(truth: np.ndarray, score: np.ndarray) -> float:
        order = np.lexsort((truth, -score))  # within equal scores, the irrelevant first
        return 1 / (1 + int(np.flatnonzero(truth[order] > 0)[0]))

    expected = {
        "ndcg": each(lambda truth, score: sk.ndcg_score([truth], [score])),
        "map": each(lambda truth, score: sk.average_precision_score(truth > 0, score)),
        "mrr": each(worst_rank),
    }
    same(RANKING, answers, expected)
    assert measure(named("ranking", f"ndcg@{cut}"), answers) == pytest.approx(
        each(lambda truth, score: sk.ndcg_score([truth], [score], k=cut))
    )
    if len(set(p.tolist())) == len(p):  # without ties recall is plain counting
        recall = each(lambda t, s: (t[np.argsort(-s)[:cut]] > 0).sum() / (t > 0).sum())
        assert measure(named("ranking", f"recall@{cut}"), answers) == pytest.approx(recall)


def test_equal_scores_gain_nothing_in_a_ranking() -> None:
    group = np.zeros(4)
    flat = Answers(np.array([0.0, 0, 0, 1]), np.ones(4), group, np.ones(4), {"group": group})
    assert measure(RANKING["mrr"], flat) == 0.25
    assert measure(named("ranking", "recall@2"), flat) == 0.5
    assert measure(RANKING["map"], flat) == 0.25


def test_latency_is_a_quantile_of_the_rows_that_have_one() -> None:
    taken = np.full(100, np.nan)
    taken[:20] = np.arange(20, 0, -1)
    answers = replace(
        binary(np.arange(100) % 2, np.linspace(0, 1, 100)), facts={"latency_ms": taken}
    )
    assert measure(BINARY["latency_p95"], answers) == 19.0
    assert measure(BINARY["latency_p50"], answers) == 10.0
    assert math.isnan(measure(BINARY["latency_p95"], binary(np.ones(3), np.ones(3))))


def test_a_model_without_decisions_has_no_accuracy() -> None:
    answers = replace(binary(np.arange(4) % 2, np.ones(4)), decision=np.full(4, np.nan))
    for name in ("accuracy", "precision", "recall", "f1"):
        assert math.isnan(measure(BINARY[name], answers)), name


@pytest.mark.parametrize(
    ("kind", "task", "name"),
    [
        ("classic", "ranking", "ndcg@0"),
        ("classic", "ranking", "ndcg@x"),
        ("classic", "regression", "pinball@1.5"),
        ("classic", "regression", "pinball@"),
        ("classic", "binary", "ndcg@3"),
        ("classic", "binary", "score:x"),
        ("llm", None, "score:"),
        ("llm", None, "roc_auc"),
    ],
)
def test_a_name_that_is_no_metric(kind: str, task: str | None, name: str) -> None:
    assert metric_named(kind, task, name) is None
    assert name not in names_of(kind, task)


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
