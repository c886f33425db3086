"""Ours against scikit-learn: ratios of counts to the last digit, sums as near as sums can be.

A ratio is one division of two whole numbers on both sides, so the doubles are equal. Brier score
and log loss are means of floats: ours is the true mean rounded twice, whatever the order; theirs
adds with rounding (and squares 1 - p as well), so the two differ by less than 1e-15.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    confusion_matrix,
    log_loss,
    mean_absolute_error,
    precision_score,
    recall_score,
    roc_auc_score,
    root_mean_squared_error,
)

from proa.quality.answered import AnsweredRow
from proa.quality.scores import MOST_SCORES, ScoreCounts, pair_counts
from proa.quality.state import QualityState

Rows = Sequence[tuple[float, bool, bool]]
"""said, decided, true"""

ROWS = st.lists(
    st.tuples(
        st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.floats(0, 1)),
        st.booleans(),
        st.booleans(),
    ),
    min_size=1,
    max_size=30,
)


def state_of(rows: Rows) -> QualityState:
    return QualityState.of(
        [AnsweredRow("probability", said, str(d).lower(), truth=t) for said, d, t in rows]
    )


@settings(max_examples=15)
@given(ROWS)
def test_ratios_are_equal(rows: Rows) -> None:
    _, decided, true = (list(column) for column in zip(*rows, strict=True))
    state = state_of(rows)
    tn, fp, fn, tp = confusion_matrix(true, decided, labels=[False, True]).ravel().tolist()
    confusion = state.confusion
    assert (confusion.tp, confusion.fp, confusion.fn, confusion.tn) == (tp, fp, fn, tn)
    assert state.metric("accuracy") == accuracy_score(true, decided)
    expected = {
        "precision": (any(decided), precision_score(true, decided, zero_division=0.0)),
        "recall": (any(true), recall_score(true, decided, zero_division=0.0)),
        "tpr": (any(true), recall_score(true, decided, zero_division=0.0)),
        "fpr": (not all(true), recall_score(true, decided, pos_label=False, zero_division=0.0)),
        "selection_rate": (True, np.mean(decided)),
        "base_rate": (True, np.mean(true)),
    }
    for name, (defined, theirs) in expected.items():
        ours = state.confusion.ratio(name)
        if not defined:
            assert ours is None, name
        elif name == "fpr":  # scikit-learn has the true negative rate: 1 - x rounds once more
            assert ours == fp / (fp + tn)
            assert ours == pytest.approx(1 - theirs, abs=1e-15)
        else:
            assert ours == theirs, name


@settings(max_examples=15)
@given(ROWS)
def test_means_are_equal_but_for_their_rounding(rows: Rows) -> None:
    said, _, true = (list(column) for column in zip(*rows, strict=True))
    state = state_of(rows)
    brier = brier_score_loss(np.array(true), np.array(said), pos_label=True)
    assert state.metric("brier") == pytest.approx(brier, rel=1e-14, abs=1e-15)
    theirs = log_loss(true, np.array(said), labels=[False, True])
    assert state.metric("log_loss") == pytest.approx(theirs, rel=1e-12, abs=1e-15)


@settings(max_examples=15)
@given(ROWS)
def test_brier_is_the_true_mean_rounded(rows: Rows) -> None:
    state = state_of(rows)
    exact = math.fsum((said - true) ** 2 for said, _, true in rows)
    assert state.sum("brier") == exact
    assert state.metric("brier") == exact / len(rows)


@settings(max_examples=15)
@given(ROWS)
def test_auc_is_equal(rows: Rows) -> None:
    said, _, true = (list(column) for column in zip(*rows, strict=True))
    auc = state_of(rows).metric("roc_auc")
    if len(set(true)) < 2:
        assert auc is None
    else:
        assert auc == pytest.approx(roc_auc_score(true, said), rel=1e-14)


def test_auc_on_a_grid_is_within_its_bound() -> None:
    pick = random.Random(0)
    pairs = [(pick.betavariate(2, 4), pick.random() < 0.3) for _ in range(20_000)]
    counts = ScoreCounts.of(pairs)
    assert counts.grid > 0
    assert len(counts.counts) <= MOST_SCORES
    exact = roc_auc_score([t for _, t in pairs], [s for s, _ in pairs])
    assert counts.auc is not None
    assert 0 < counts.error < 0.001
    assert abs(counts.auc - exact) <= counts.error


@settings(max_examples=15)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_pairs_between_days_add_up_to_the_auc_of_all(days: list[Rows]) -> None:
    counts = [ScoreCounts.of((said, true) for said, _, true in day) for day in days]
    whole = ScoreCounts.of((said, true) for day in days for said, _, true in day)
    pairs = whole.positives * whole.negatives
    if pairs:
        assert pair_counts(counts).sum() / pairs == whole.auc


@settings(max_examples=15)
@given(
    st.lists(
        st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)),
        min_size=1,
        max_size=50,
    )
)
def test_errors_of_numbers_are_equal(rows: list[tuple[float, float]]) -> None:
    state = QualityState.of([AnsweredRow("number", said, None, truth=true) for said, true in rows])
    said, true = (list(column) for column in zip(*rows, strict=True))
    assert state.metric("mae") == pytest.approx(mean_absolute_error(true, said), rel=1e-13)
    theirs = root_mean_squared_error(true, said)
    assert state.metric("rmse") == pytest.approx(theirs, rel=1e-13)


@settings(max_examples=15)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("abc")), min_size=1, max_size=50))
def test_accuracy_of_labels_is_equal(rows: list[tuple[str, str]]) -> None:
    state = QualityState.of([AnsweredRow("label", None, said, truth=true) for said, true in rows])
    said, true = (list(column) for column in zip(*rows, strict=True))
    assert state.metric("accuracy") == accuracy_score(true, said)
