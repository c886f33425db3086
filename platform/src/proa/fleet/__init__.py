"""The fleet: every verb of proa, once. CLI, pipelines, the story and the tests call these.

It speaks to MLflow (registry), the gateway (calls) and the controller (wishes, state), each with
the caller's key; never to a database.
"""

from __future__ import annotations

import os
from pathlib import Path

from proa.embedded.home import find_home
from proa.errors import Conflict
from proa.fleet.calls import Calls, Prediction
from proa.fleet.decisions import Decisions
from proa.fleet.environments import Promotions
from proa.fleet.wire import Endpoints

__all__ = ["Endpoints", "Fleet", "Prediction", "connect"]


class Fleet(Promotions, Decisions, Calls):
    """One platform, as one caller may use it."""


def connect(
    home: str | Path | None = None, *, key: str | None = None, person: str | None = None
) -> Fleet:
    """The fleet of the platform in `home` (else PROA_HOME, else ./.proa).

    Args:
        key: the caller's key; else PROA_KEY, else the local user's key that `proa up` made.
        person: who decides, for the journal; else PROA_PERSON.

    Raises:
        NotFound: no platform there; the hint is `proa up`.
    """
    found = find_home(None if home is None else Path(home), os.environ)
    endpoints = Endpoints.of(found)
    text = key or os.environ.get("PROA_KEY")
    if text is None:
        path = found.key("admin")
        if not path.exists():
            raise Conflict(f"no key: set PROA_KEY, or run proa up to make {path}")
        text = path.read_text().strip()
    return Fleet(endpoints, text, home=found, person=person or os.environ.get("PROA_PERSON"))
