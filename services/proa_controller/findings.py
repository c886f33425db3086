"""What the monitor found of a model, and how far its time has come."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import httpx

from proa.errors import Unavailable
from proa.findings.finding import Finding
from proa.http.clock import parse_time

__all__ = ["MonitorFindings", "Seen"]

_MOST: Final = 500


@dataclass(frozen=True, slots=True)
class Seen:
    """One look.

    Attributes:
        findings: the newest, open and closed.
        judged: end of the newest window that was judged, event time; None when none was.
        labelled: end of the newest window whose labels are mature.
    """

    findings: tuple[Finding, ...]
    judged: datetime | None
    labelled: datetime | None


class MonitorFindings:
    """Asks one monitor.

    Args:
        url: of the monitor.
        key: with the right `read`.
    """

    def __init__(self, url: str, key: str) -> None:
        self._client = httpx.Client(
            base_url=url,
            headers={"authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(10.0, connect=1.0),
        )

    def of(self, model: str) -> Seen:
        """Everything of a model.

        Raises:
            Unavailable: the monitor does not answer, or not as expected.
        """
        query = {"model": model, "open": "all", "limit": str(_MOST)}
        body = self.ask("/v1/findings", query)
        try:
            findings = tuple(Finding.from_wire(value) for value in body["findings"])
            through = body["through"].get(model) or {}
            return Seen(findings, _moment(through.get("judged")), _moment(through.get("labelled")))
        except (KeyError, TypeError, AttributeError) as error:
            raise Unavailable(f"the monitor's findings cannot be read: {error!r}") from error

    def ask(self, path: str, query: dict[str, str]) -> dict[str, Any]:
        """GET one JSON object.

        Raises:
            Unavailable: there was none.
        """
        try:
            answer = self._client.get(path, params=query)
            body = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise Unavailable(f"the monitor did not answer: {error!r}") from error
        if answer.status_code != 200 or not isinstance(body, dict):
            raise Unavailable(f"the monitor answered {answer.status_code} to {path}")
        return body

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _moment(text: str | None) -> datetime | None:
    return None if text is None else parse_time(text, what="through")
