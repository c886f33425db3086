"""A call under way, and where finished ones are written."""

from __future__ import annotations

from dataclasses import dataclass, field
from time import perf_counter

from proa.ledger.call import Call, Door
from proa.ledger.spool import Spool
from proa_gateway.caller import Caller
from proa_gateway.metrics import Metrics

__all__ = ["CallUnderWay", "Recorder"]


@dataclass(slots=True)
class CallUnderWay:
    """What is known of a call so far; `finish` makes the record."""

    request: str
    door: Door
    caller: Caller
    started: str
    begun: float
    kind: str
    model: str | None = None
    release: str | None = None
    track: str | None = None
    engine: str | None = None
    user: str | None = None
    ttft_ms: float | None = None
    tokens_in: int | None = None
    tokens_out: int | None = None
    rows: int | None = None
    bins: str | None = None
    decisions: str = ""
    finish_reason: str | None = None
    refused: bool | None = None
    guard_hits: int | None = None
    agreed: float | None = None
    cost_micro: int = 0
    price: str | None = None
    stream: bool = False
    status: int = 0
    recorded: bool = field(default=False, init=False)

    def elapsed_ms(self) -> float:
        return round((perf_counter() - self.begun) * 1000, 3)

    def finish(self, status: int, *, error: str | None = None, complete: bool = True) -> Call:
        """The record of this call, as of now."""
        caller = self.caller
        return Call(
            request=self.request,
            parent=caller.parent,
            door=self.door,
            started=self.started,
            latency_ms=self.elapsed_ms(),
            ttft_ms=self.ttft_ms,
            key=caller.key.id,
            team=caller.team,
            feature=caller.feature,
            user=self.user,
            unit=caller.unit,
            purpose=caller.purpose,
            kind=self.kind,
            model=self.model,
            release=self.release,
            track=self.track,
            engine=self.engine,
            status=status,
            error=error,
            tokens_in=self.tokens_in,
            tokens_out=self.tokens_out,
            cost_micro=self.cost_micro,
            price=self.price,
            rows=self.rows,
            stream=self.stream,
            complete=complete,
            trace=caller.trace,
            bins=self.bins,
            finish_reason=self.finish_reason,
            refused=self.refused,
            guard_hits=self.guard_hits,
            agreed=self.agreed,
        )


class Recorder:
    """Writes each call once, before the client sees the end of its answer."""

    def __init__(self, spool: Spool, metrics: Metrics) -> None:
        self._spool = spool
        self._metrics = metrics

    def record(
        self, call: CallUnderWay, status: int, *, error: str | None = None, complete: bool = True
    ) -> None:
        """Write the call; a second record of the same call is left out.

        Raises:
            Unavailable: the spool cannot be written; then the answer must not be finished.
        """
        if call.recorded:
            return
        record = call.finish(status, error=error, complete=complete)
        self._spool.append(record.to_bytes())
        call.recorded = True
        self._metrics.count(record)
