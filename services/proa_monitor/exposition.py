"""`/metrics`: what the monitor knows, in Prometheus' text form.

    proa_model_calls_total, _errors_total         M             calls of users and agents
    proa_model_rows_total, _refusals_total        M             rows scored or answers; refusals
    proa_model_latency_seconds                    M             histogram
    proa_model_time_to_first_token_seconds        M             histogram
    proa_model_tokens_total                       M, direction  `in` and `out`
    proa_window_start_timestamp_seconds, _calls, _rows  M       the newest window by event time
    proa_drift_ratio                              M             the largest change of a feature in
                                                                units of what is ordinary; above 1
                                                                is drift; absent without data
    proa_drift_enough_data                        M             1 when there is a figure, else 0
    proa_drift_psi, proa_drift_feature_ratio      M, feature    bias-corrected PSI; as above
    proa_window_feature_rows                      M, feature    values in the newest window
    proa_window_values                            M, feature, bin  those outside ordinary bins
    proa_monitor_events_total                     model, type, purpose  accepted by this process
    proa_monitor_rejected_total                   key           lines refused, by key at fault
    proa_monitor_duplicates_total, _replaced_times_total, _emitter_dropped_total,
    _compaction_failures_total, _untracked_total, _windows_dropped_total, _spool_bytes,
    _spool_files_waiting, _segments, _last_compaction_timestamp_seconds, _unknown_releases
    proa_monitor_series, _series_left_out                       shown, and left out by the budget
    proa_monitor_state_failures, _judging_ticks_failed, _findings_left_out     gauges: saves the
                                  state database refused, looks that failed, observations beyond
                                  what is kept of one release
    proa_monitor_judging_judged, _unread, _skipped, _failed, _tokens_today,
    _tokens_per_day, _budget_spent, _queued      gauges of the sampled judge, where
                                  there is one

What was judged (findings, quality, topics …) is listed in `signals.py`.

M stands for model, release (`name/version`), digest (12 digits) and track. Counters of models are
kept over restarts. There is a budget of series: families are filled in the order above and what
does not fit is left out, counted and logged.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from proa_monitor.figures import Figures
from proa_monitor.ingest import Ingest
from proa_monitor.signals import signal_families
from proa_monitor.store import EventStore
from proa_monitor.traffic import LATENCY_SECONDS, Traffic
from proa_monitor.windows import Windows, window_end

__all__ = ["MonitorCollector"]

_MODEL: Final = ("model", "release", "digest", "track")
_log = logging.getLogger(__name__)
Labels = Sequence[str]


class MonitorCollector(Collector):
    """Makes every family when asked, from plain counts; nothing is done per event.

    Args:
        budget: series shown at most, those about the monitor itself aside.
        more: gauges of other parts, by name without `proa_monitor_`.
    """

    def __init__(
        self,
        windows: Windows,
        ingest: Ingest,
        store: EventStore,
        figures: Figures,
        *,
        budget: int,
        more: Callable[[], Mapping[str, float]] = dict,
    ) -> None:
        self._windows, self._ingest, self._store = windows, ingest, store
        self._figures, self._more = figures, more
        self._budget = budget
        self._left_out = 0

    def collect(self) -> Iterable[Metric]:
        """Every family."""
        used = left_out = 0
        judged = signal_families(
            self._figures.releases(), self._figures.models(), writable=self._store.writable
        )
        for family in (*self._models(), *judged, *self._newest_windows(), *self._events()):
            room = max(0, self._budget - used)
            if len(family.samples) > room:
                kept = _whole_series(family, room)
                left_out += len(family.samples) - len(kept)
                family.samples = kept
            used += len(family.samples)
            yield family
        if left_out and not self._left_out:
            _log.error(
                "/metrics leaves out %d of %d series: raise --series", left_out, used + left_out
            )
        self._left_out = left_out
        yield from self._own(used, left_out)

    def _models(self) -> Iterator[Metric]:
        tracks = list(self._windows)
        totals: list[tuple[Labels, Traffic]] = [(t.key.labels, t.total) for t in tracks]
        counters: list[tuple[str, str, Callable[[Traffic], int]]] = [
            ("calls", "Calls of users and agents", lambda t: t.calls),
            ("errors", "Calls answered with 400 or more", lambda t: t.errors),
            ("rows", "Rows scored or answers given", lambda t: t.rows),
            ("refusals", "Answers refused", lambda t: t.refused),
        ]
        for name, text, value in counters:
            family = CounterMetricFamily(f"proa_model_{name}", text, labels=_MODEL)
            for labels, total in totals:
                family.add_metric(labels, value(total))
            yield family
        tokens = CounterMetricFamily(
            "proa_model_tokens", "Tokens in and out", labels=(*_MODEL, "direction")
        )
        latency = HistogramMetricFamily("proa_model_latency_seconds", "Latency", labels=_MODEL)
        first = HistogramMetricFamily(
            "proa_model_time_to_first_token_seconds", "Time to first token", labels=_MODEL
        )
        for labels, total in totals:
            latency.add_metric(labels, _buckets(total.latency), total.latency_seconds)
            if total.tokens_in or total.tokens_out:
                tokens.add_metric((*labels, "in"), total.tokens_in)
                tokens.add_metric((*labels, "out"), total.tokens_out)
            if any(total.first_token):
                first.add_metric(labels, _buckets(total.first_token), total.first_token_seconds)
        yield from (latency, first, tokens)

    def _newest_windows(self) -> Iterator[Metric]:
        start = _gauge("proa_window_start_timestamp_seconds", "Start of the newest window")
        calls = _gauge("proa_window_calls", "Calls in the newest window")
        rows = _gauge("proa_window_rows", "Rows in the newest window")
        ratio = _gauge("proa_drift_ratio", "Largest change of a feature; above 1 is drift")
        enough = _gauge("proa_drift_enough_data", "Whether the newest window can be judged")
        psi = _gauge("proa_drift_psi", "Bias-corrected PSI against the reference", "feature")
        ratios = _gauge("proa_drift_feature_ratio", "PSI in units of the ordinary", "feature")
        values = _gauge("proa_window_feature_rows", "Values in the newest window", "feature")
        odd = _gauge("proa_window_values", "Values outside the ordinary bins", "feature", "bin")
        for track in self._windows:
            name = track.newest
            if name is None:
                continue
            labels, window = track.key.labels, track.windows[name]
            length = 3600 if len(name) > 10 else 86400
            start.add_metric(labels, window_end(name).timestamp() - length)
            calls.add_metric(labels, window.traffic.calls)
            rows.add_metric(labels, window.traffic.rows)
            drift = track.judge(name)
            if drift is None:
                continue
            enough.add_metric(labels, float(drift["figure"] is not None))
            if drift["figure"] is not None:
                ratio.add_metric(labels, drift["figure"])
            for feature, judged in drift["features"].items():
                values.add_metric((*labels, feature), judged["rows"])
                if judged["psi"] is not None and judged["ratio"] is not None:
                    psi.add_metric((*labels, feature), judged["psi"])
                    ratios.add_metric((*labels, feature), judged["ratio"])
                for bin_name, share in judged["odd"].items():
                    count = round(share * judged["rows"])
                    odd.add_metric((*labels, feature, bin_name), count)
        yield from (start, calls, rows, ratio, enough, psi, ratios, values, odd)

    def _events(self) -> Iterator[Metric]:
        accepted = CounterMetricFamily(
            "proa_monitor_events", "Events accepted", labels=("model", "type", "purpose")
        )
        for labels, count in self._ingest.accepted.items():
            accepted.add_metric(labels, count)
        rejected = CounterMetricFamily("proa_monitor_rejected", "Lines refused", labels=("key",))
        for key, count in self._ingest.rejected.items():
            rejected.add_metric((key,), count)
        yield from (accepted, rejected)

    def _own(self, series: int, left_out: int) -> Iterator[Metric]:
        ingest, store, windows = self._ingest, self._store, self._windows
        counters: list[tuple[str, str, float]] = [
            ("duplicates", "Events sent again", ingest.duplicates),
            ("replaced_times", "Events stored with their time of arrival", ingest.replaced_times),
            ("emitter_dropped", "Events emitters dropped", ingest.dropped_by_emitters),
            (
                "compaction_failures",
                "Spool files not turned into segments",
                store.compaction_failures,
            ),
            ("untracked", "Events of releases beyond the limit of windows", windows.untracked),
            ("windows_dropped", "Windows no longer held", sum(t.dropped for t in windows)),
        ]
        for name, text, value in counters:
            yield CounterMetricFamily(f"proa_monitor_{name}", text, value=value)
        gauges: list[tuple[str, str, float]] = [
            ("spool_bytes", "Bytes in the open spool file", store.open_bytes),
            ("spool_files_waiting", "Closed spool files not yet segments", store.waiting),
            ("segments", "Segments", store.segment_count),
            (
                "last_compaction_timestamp_seconds",
                "The last one that worked, or 0",
                store.compacted_at or 0.0,
            ),
            (
                "unknown_releases",
                "Releases in events, not in the bundle store",
                len(windows.unknown()),
            ),
            ("series", "Series shown", series),
            ("series_left_out", "Series left out by the budget", left_out),
        ]
        for name, text, value in gauges:
            yield GaugeMetricFamily(f"proa_monitor_{name}", text, value=value)
        for name, value in self._more().items():
            yield GaugeMetricFamily(f"proa_monitor_{name}", name.replace("_", " "), value=value)


def _gauge(name: str, text: str, *more: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=(*_MODEL, *more))


def _buckets(counts: Sequence[int]) -> list[tuple[str, float]]:
    total, buckets = 0, []
    for upper, count in zip((*map(str, LATENCY_SECONDS), "+Inf"), counts, strict=True):
        total += count
        buckets.append((upper, float(total)))
    return buckets


def _whole_series(family: Metric, room: int) -> list[Any]:
    """The first samples that fit; of a histogram only with all of its buckets."""
    if family.type != "histogram":
        return family.samples[:room]
    each = len(LATENCY_SECONDS) + 3
    return family.samples[: room // each * each]
