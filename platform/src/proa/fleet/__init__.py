"""The fleet: every verb of proa, once. CLI, pipelines, the story and the tests call these.

It speaks to MLflow (registry), the gateway (calls) and the controller (wishes, state), each with
the caller's key; never to a database.
"""

from __future__ import annotations

import os
from pathlib import Path

from proa.embedded.home import find_home
from proa.embedded.platform_file import read_platform
from proa.errors import Conflict
from proa.fleet.calls import Calls, Prediction
from proa.fleet.exams import Exams
from proa.fleet.rollouts import Rollouts
from proa.fleet.wire import Endpoints

__all__ = ["Endpoints", "Fleet", "Prediction", "connect"]


class Fleet(Exams, Rollouts, Calls):
    """One platform, as one caller may use it."""


def connect(home: str | Path | None = None, *, key: str | None = None) -> Fleet:
    """The fleet of the platform in `home` (else PROA_HOME, else ./.proa).

    Args:
        key: the caller's key; else PROA_KEY, else the local user's key that `proa up` made.

    Raises:
        NotFound: no platform there; the hint is `proa up`.
    """
    found = find_home(None if home is None else Path(home), os.environ)
    platform = read_platform(found)
    text = key or os.environ.get("PROA_KEY")
    if text is None:
        path = found.key("admin")
        if not path.exists():
            raise Conflict(f"no key: set PROA_KEY, or run proa up to make {path}")
        text = path.read_text().strip()
    urls = platform.urls
    endpoints = Endpoints(
        gateway=urls["gateway"],
        controller=urls["controller"],
        monitor=urls["monitor"],
        mlflow=urls["mlflow"],
        bundles=found.bundles.as_uri(),
    )
    return Fleet(endpoints, text, home=found)
