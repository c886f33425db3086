"""Two releases' answers to the same calls, and what came true: a paired comparison.

A shadow's event carries the request id of the user's call, so the champion's answer and the
challenger's meet; a label joins them by the rule of `proa.quality.join`. What matches nothing, or
one row of many, is counted out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from proa.errors import InvalidInput
from proa.events.event import Event, label_event
from proa.ledger.tally import Sums
from proa.quality.answered import entities_of, entity_word, truth_of, word_of
from proa.quality.join import AnsweredCall, Calls, Label

__all__ = ["Pairs", "compare", "labels_of"]

MOST_PAIRS: Final = 200_000
_LABEL_KEYS: Final = frozenset({"request", "entity", "value", "time"})


@dataclass(slots=True)
class Pairs:
    """What is said of two releases.

    Attributes:
        labels: calls that both answered and whose truth is known.
        metric: how a row's loss is reckoned: `brier`, `accuracy` (its loss: 1 when missed) or
            `absolute_error`.
        excess: of each call, the candidate's mean loss minus the champion's; by unit.
        champion_loss: the champion's mean loss over the same calls.
        unmatched: labels that belong to no pair.
    """

    labels: int = 0
    metric: str = ""
    excess: Sums = field(default_factory=Sums)
    champion_loss: float = 0.0
    unmatched: int = 0

    def to_wire(self) -> dict[str, Any]:
        """A JSON object; `excess` as in a tally."""
        return asdict(self)


def compare(events: Iterable[Event], *, champion: str, candidate: str) -> Pairs:
    """Join predictions, shadows and labels, and reckon.

    Args:
        events: predictions and labels of one model, in any order.
        champion, candidate: whole releases; the champion's answers to users, the candidate's as
            a shadow.
    """
    users: dict[str, Event] = {}
    shadows: dict[str, Event] = {}
    labels: list[Event] = []
    for event in events:
        if event["type"] == "label":
            labels.append(event)
        elif event["type"] == "prediction" and event["rows"] and event["request"]:
            if event["release"] == champion and event["purpose"] == "user":
                users[event["request"]] = event
            elif event["release"] == candidate and event["purpose"] == "shadow":
                shadows[event["request"]] = event
        if len(users) > MOST_PAIRS:
            break
    both = {request: event for request, event in users.items() if request in shadows}
    return _reckon(both, shadows, labels)


def _reckon(users: Mapping[str, Event], shadows: Mapping[str, Event], labels: list[Event]) -> Pairs:
    truths, unmatched = Calls(map(_call, users.values())).truths(map(_label_of, labels))
    request_of = {event["id"]: request for request, event in users.items()}
    found: dict[str, dict[int, Any]] = defaultdict(dict)
    for place, label in truths.items():
        found[request_of[place.call]][place.row] = label.value
    pairs, total = Pairs(unmatched=unmatched), 0.0
    units: dict[str, tuple[int, float, float]] = {}
    for request, rows in sorted(found.items()):
        losses = [_losses(event[request], rows) for event in (users, shadows)]
        if losses[0] is None or losses[1] is None or losses[0][0] != losses[1][0]:
            pairs.unmatched += len(rows)
            continue
        pairs.metric = losses[0][0]
        excess = losses[1][1] - losses[0][1]
        total += losses[0][1]
        unit = users[request]["unit"] or request
        calls, value, squares = units.get(unit, (0, 0.0, 0.0))
        units[unit] = (calls + 1, value + excess, squares + excess**2)
        pairs.labels += 1
    for calls, value, squares in units.values():
        pairs.excess += Sums(calls, 1, calls**2, value, value**2, value * calls, squares)
    pairs.champion_loss = total / pairs.labels if pairs.labels else 0.0
    return pairs


def _call(event: Event) -> AnsweredCall:
    entities = entities_of(event["rows"], event["entity"], event["unit"])
    return AnsweredCall(event["id"], event["request"], event["time"], tuple(entities))


def _label_of(event: Event) -> Label:
    entity = None if event["entity"] is None else entity_word(event["entity"])
    return Label(event["id"], event["request"], entity, event["time"], event["value"])


def _losses(event: Event, rows: Mapping[int, Any]) -> tuple[str, float] | None:
    """The metric and the mean loss over the rows whose truth is known."""
    outputs = event["outputs"]
    for name, metric, loss in _METRICS:
        if name in outputs:
            try:
                losses = [loss(outputs[name][row], truth) for row, truth in rows.items()]
            except (TypeError, ValueError, IndexError):
                return None
            return metric, sum(losses) / len(losses)
    return None


def _brier(probability: float, truth: Any) -> float:
    came = truth_of("probability", truth)
    if not isinstance(came, float):
        raise ValueError(truth)
    return float((probability - came) ** 2)


_METRICS: Final[tuple[tuple[str, str, Callable[[Any, Any], float]], ...]] = (
    ("probability", "brier", _brier),
    ("label", "accuracy", lambda label, truth: float(word_of(label) != word_of(truth))),
    ("prediction", "absolute_error", lambda value, truth: abs(float(value) - float(truth))),
)


def labels_of(model: str, body: Mapping[str, Any]) -> list[Event]:
    """The label events of `{"labels": [{"request" or "entity", "value", "time"?}]}`.

    Raises:
        InvalidInput: another shape; the message says which label.
    """
    labels = body.get("labels")
    if not isinstance(labels, list) or not labels or body.keys() != {"labels"}:
        raise InvalidInput('expected {"labels": [{"request" or "entity", "value", "time"}, …]}')
    return [_label(model, number, label) for number, label in enumerate(labels)]


def _label(model: str, number: int, label: Any) -> Event:
    where = f"labels[{number}]"
    if not isinstance(label, dict) or "value" not in label or label["value"] is None:
        raise InvalidInput(f"{where}: expected an object with a value", param=where)
    if unknown := label.keys() - _LABEL_KEYS:
        known = ", ".join(sorted(_LABEL_KEYS))
        raise InvalidInput(f"{where}: unknown {min(unknown)!r:.80}: expected {known}", param=where)
    if label.get("request") is None and label.get("entity") is None:
        raise InvalidInput(f"{where}: expected request or entity", param=where)
    return label_event(
        model=model,
        kind="classic",
        value=label["value"],
        request=label.get("request"),
        entity=label.get("entity"),
        time=label.get("time"),
    )
