"""Training-serving skew of a live model: what it was given against the feature store's history.

The monitor gives a sample of served rows and takes both sides back; what differs becomes a finding
there. The offline side is the same point-in-time join that training data come from.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pandas as pd

from proa.errors import InvalidInput, NotFound, Unavailable
from proa.project import load as load_project

if TYPE_CHECKING:
    from proa.release.manifest import FeatureView

__all__ = ["measure", "offline_rows"]

Join = Callable[[pd.DataFrame], pd.DataFrame]
"""Examples with key and `time` → the same rows with the features known then."""
_SECONDS = 60.0


def measure(
    project: Path, home: Path, *, monitor: str, key: str, since: str, limit: int = 500
) -> dict[str, Any]:
    """Compare a sample of what was served since a moment, and tell the monitor.

    Args:
        home: holds the feature store, `HOME/feast`.
        monitor: its URL.  key: with the rights `read` and `events`.
        since: RFC 3339, time of arrival at the monitor.

    Returns:
        By release and track what the monitor says of each column.

    Raises:
        NotFound: the project reads no feature views, or nothing was served.
        Unavailable: the monitor cannot be reached, or refuses.
    """
    from proa.features import store

    found = load_project(project)
    features = found.classic.features
    if features is None:
        raise NotFound(f"{project}: proa.yaml names no feature views: nothing to compare with")
    path = f"/v1/models/{found.name}"
    headers = {"authorization": f"Bearer {key}"}
    with httpx.Client(base_url=monitor, headers=headers, timeout=_SECONDS) as client:
        asked = {"since": since, "limit": str(limit)}
        rows = _answer(client.get, f"{path}/served", params=asked)["rows"]
        if not rows:
            raise NotFound(f"{found.name}: nothing was served by entity since {since}")
        offline = offline_rows(
            rows,
            features.views,
            lambda examples: store.join(home / "feast", examples, features.views, time="time"),
        )
        groups: dict[tuple[str, str], list[int]] = defaultdict(list)
        for number, row in enumerate(rows):
            groups[row["release"], row["track"] or ""].append(number)
        told = {}
        for (release, track), places in sorted(groups.items()):
            body = {
                "release": release,
                "track": track or None,
                "time": max(rows[place]["time"] for place in places),
                "online": [_shared(rows[place]["inputs"], offline[place]) for place in places],
                "offline": [offline[place] for place in places],
            }
            answer = _answer(client.post, f"{path}/skew", json=body)
            told[f"{release} {track}".strip()] = answer["columns"]
    return told


def offline_rows(
    rows: Sequence[Mapping[str, Any]], views: Sequence[FeatureView], join: Join
) -> list[dict[str, Any]]:
    """The features of served rows as the offline path has them, in the same order.

    Args:
        rows: `{"entity", "time", …}`; the entity is the key of the first view.
    """
    examples = pd.DataFrame(
        {
            views[0].join_key: [row["entity"] for row in rows],
            "time": pd.to_datetime([row["time"] for row in rows], utc=True),
        }
    )
    joined = join(examples)
    if len(joined) != len(rows):
        raise InvalidInput(f"{len(rows):,} rows were served, {len(joined):,} were joined")
    names = [name for view in views for name in view.features]
    columns = {name: [_plain(value) for value in joined[name].tolist()] for name in names}
    return [{name: values[row] for name, values in columns.items()} for row in range(len(rows))]


def _shared(inputs: Mapping[str, Any], offline: Mapping[str, Any]) -> dict[str, Any]:
    """Only features: what a client sends beside them has no history."""
    return {name: inputs.get(name) for name in offline}


def _plain(value: Any) -> Any:
    return None if value is None or value != value or value is pd.NaT else value


def _answer(ask: Callable[..., httpx.Response], path: str, **more: Any) -> dict[str, Any]:
    try:
        answer = ask(path, **more)
        answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        raise Unavailable(f"the monitor: {error.response.text[:300]}") from error
    except httpx.HTTPError as error:
        raise Unavailable(f"the monitor cannot be reached: {error!r}") from error
    value: dict[str, Any] = answer.json()
    return value
