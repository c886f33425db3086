"""What was judged of a model, as families of `/metrics`.

    proa_finding_open              M, type, subject   1 per open finding; 0 with an empty subject
                                                      for a type that was looked at and is not open
    proa_findings_hidden           M, type            open findings beyond 20 subjects of a type
    proa_findings_total            M, type            findings opened since ever
    proa_quality, _low, _high      M, metric, source, segment   and the ends of the interval
    proa_quality_rows              M, source, segment           rows behind those figures
    proa_label_coverage_ratio      M
    proa_label_delay_seconds       M, quantile
    proa_fairness_gap, _low        M, attribute, metric
    proa_topic_share               M, topic
    proa_answer_share              M, signal          share of the newest window's answers
    proa_judge_agreement_ratio     M                  the sampled judge against people
    proa_monitor_last_judged_timestamp_seconds, _judging_failures_total,
    _events_without_call_total, _calls_without_event_total, _judge_tokens_total    model
    proa_monitor_writable          1 while events can be stored

M stands for model, release (`name/version`), digest (12 digits) and track. A figure that nobody
has is no series: never a zero that looks like one. charts/proa/METRICS.md is the page for people.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

__all__ = [
    "FairnessFigure",
    "ModelSignals",
    "QualityFigure",
    "ReleaseSignals",
    "signal_families",
]

MOST_SUBJECTS: Final = 20
"""Open findings of one type and release that are shown by name."""
_SUBJECT_CHARACTERS: Final = 120
_MODEL: Final = ("model", "release", "digest", "track")
Labels = tuple[str, str, str, str]
"""Model, release, digest, track."""


@dataclass(frozen=True, slots=True)
class QualityFigure:
    """One figure of quality.

    Attributes:
        segment: `all`, or a slice as `carrier=UA`.
        low, high: ends of its interval, both or neither.
    """

    metric: str
    source: Literal["measured", "estimated", "judged"]
    segment: str
    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, slots=True)
class FairnessFigure:
    """The largest gap of a metric between groups of an attribute.

    `low`: the end of the interval nearer to no gap. No group is named here.
    """

    attribute: str
    metric: str
    gap: float
    low: float | None = None


@dataclass(frozen=True, slots=True)
class ReleaseSignals:
    """What was judged of one release in one place of its rollout.

    Attributes:
        open: subjects of open findings by type, the gravest first.
        judged: types looked at in the newest window, whatever came out.
        opened: findings since ever, by type.
        rows: rows behind the figures of quality, by source and segment.
        label_delay: seconds by quantile (`0.5`, `0.9`).
        topics, answers: shares by topic, and by signal (`refused`, `cached`, …).
    """

    labels: Labels
    open: Mapping[str, Sequence[str]] = field(default_factory=dict)
    judged: Collection[str] = ()
    opened: Mapping[str, int] = field(default_factory=dict)
    quality: Sequence[QualityFigure] = ()
    rows: Mapping[tuple[str, str], int] = field(default_factory=dict)
    label_coverage: float | None = None
    label_delay: Mapping[str, float] = field(default_factory=dict)
    fairness: Sequence[FairnessFigure] = ()
    topics: Mapping[str, float] = field(default_factory=dict)
    answers: Mapping[str, float] = field(default_factory=dict)
    judge_agreement: float | None = None


@dataclass(frozen=True, slots=True)
class ModelSignals:
    """How the judging of one model goes.

    `last_judged`: wall clock, seconds, of the last time that nothing failed.
    """

    model: str
    last_judged: float | None = None
    judging_failures: int = 0
    events_without_call: int = 0
    calls_without_event: int = 0
    judge_tokens: int = 0


def signal_families(
    releases: Sequence[ReleaseSignals], models: Sequence[ModelSignals], *, writable: bool
) -> Iterator[Metric]:
    """Every family of this file, those for alerts before those for looking."""
    yield from _judging(models)
    yield GaugeMetricFamily(
        "proa_monitor_writable", "1 while events can be stored", value=float(writable)
    )
    yield from _findings(releases)
    yield from _quality(releases)
    yield from _labels_and_fairness(releases)
    yield from _language(releases)


def _judging(models: Iterable[ModelSignals]) -> Iterator[Metric]:
    judged = GaugeMetricFamily(
        "proa_monitor_last_judged_timestamp_seconds",
        "Wall clock when the model was last judged without a fault",
        labels=("model",),
    )
    counters = {
        name: CounterMetricFamily(f"proa_monitor_{name}", text, labels=("model",))
        for name, text in (
            ("judging_failures", "Times that judging the model failed"),
            ("events_without_call", "Events whose call the gateway does not know"),
            ("calls_without_event", "Answered calls without an event"),
            ("judge_tokens", "Tokens that the sampled judge has used"),
        )
    }
    for model in models:
        if model.last_judged is not None:
            judged.add_metric((model.model,), model.last_judged)
        for name, family in counters.items():
            family.add_metric((model.model,), getattr(model, name))
    yield from (judged, *counters.values())


def _findings(releases: Iterable[ReleaseSignals]) -> Iterator[Metric]:
    shown = _gauge("proa_finding_open", "1 while this is so", "type", "subject")
    hidden = _gauge("proa_findings_hidden", "Open findings that are not shown by name", "type")
    opened = CounterMetricFamily("proa_findings", "Findings since ever", labels=(*_MODEL, "type"))
    for release in releases:
        for kind in sorted({*release.open, *release.judged}):
            labels = (*release.labels, kind)
            subjects = list(dict.fromkeys(s[:_SUBJECT_CHARACTERS] for s in _of(release, kind)))
            for subject in subjects[:MOST_SUBJECTS]:
                shown.add_metric((*labels, subject), 1.0)
            if not subjects:
                shown.add_metric((*labels, ""), 0.0)
            if len(subjects) > MOST_SUBJECTS:
                hidden.add_metric(labels, len(subjects) - MOST_SUBJECTS)
        for kind, count in release.opened.items():
            opened.add_metric((*release.labels, kind), count)
    yield from (shown, hidden, opened)


def _of(release: ReleaseSignals, kind: str) -> Sequence[str]:
    return release.open.get(kind, ())


def _quality(releases: Iterable[ReleaseSignals]) -> Iterator[Metric]:
    more = ("metric", "source", "segment")
    value = _gauge("proa_quality", "How good the answers are", *more)
    low = _gauge("proa_quality_low", "Lower end of its interval", *more)
    high = _gauge("proa_quality_high", "Upper end of its interval", *more)
    rows = _gauge("proa_quality_rows", "Rows behind the figures", "source", "segment")
    for release in releases:
        for figure in release.quality:
            labels = (*release.labels, figure.metric, figure.source, figure.segment)
            for family, number in ((value, figure.value), (low, figure.low), (high, figure.high)):
                _add(family, labels, number)
        for (source, segment), count in release.rows.items():
            rows.add_metric((*release.labels, source, segment), count)
    yield from (value, low, high, rows)


def _labels_and_fairness(releases: Iterable[ReleaseSignals]) -> Iterator[Metric]:
    coverage = _gauge("proa_label_coverage_ratio", "Predictions whose truth is known")
    delay = _gauge("proa_label_delay_seconds", "Seconds until the truth is known", "quantile")
    gap = _gauge("proa_fairness_gap", "Largest gap between groups", "attribute", "metric")
    low = _gauge("proa_fairness_gap_low", "At least this large", "attribute", "metric")
    for release in releases:
        _add(coverage, release.labels, release.label_coverage)
        for quantile, seconds in release.label_delay.items():
            _add(delay, (*release.labels, quantile), seconds)
        for figure in release.fairness:
            labels = (*release.labels, figure.attribute, figure.metric)
            _add(gap, labels, figure.gap)
            _add(low, labels, figure.low)
    yield from (coverage, delay, gap, low)


def _language(releases: Iterable[ReleaseSignals]) -> Iterator[Metric]:
    topics = _gauge("proa_topic_share", "Share of the questions", "topic")
    answers = _gauge("proa_answer_share", "Share of the newest window's answers", "signal")
    agreement = _gauge("proa_judge_agreement_ratio", "The judge's agreement with people")
    for release in releases:
        for topic, share in release.topics.items():
            _add(topics, (*release.labels, topic), share)
        for signal, share in release.answers.items():
            _add(answers, (*release.labels, signal), share)
        _add(agreement, release.labels, release.judge_agreement)
    yield from (topics, answers, agreement)


def _gauge(name: str, text: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=(*_MODEL, *more))


def _add(family: GaugeMetricFamily, labels: Sequence[str], value: float | None) -> None:
    """No series for what nobody knows."""
    if value is not None and math.isfinite(value):
        family.add_metric(labels, value)
