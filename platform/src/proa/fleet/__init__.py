"""The fleet: every verb of proa, once. CLI, pipelines, the story and the tests call these.

It speaks to MLflow (registry), the gateway (calls) and the controller (wishes, state), each with
the caller's key; never to a database.
"""

from __future__ import annotations

import os
from pathlib import Path

from proa.embedded.home import Home, find_home
from proa.errors import Conflict
from proa.fleet.calls import Calls, Prediction
from proa.fleet.decisions import Decisions
from proa.fleet.environments import Promotions
from proa.fleet.pipelines import Pipelines
from proa.fleet.preset import Endpoints, Preset, read_preset
from proa.fleet.retraining import Retrainings
from proa.fleet.sweeping import Sweeping
from proa.fleet.worklist import Worklists

__all__ = ["PLATFORM", "Endpoints", "Fleet", "Prediction", "connect"]

PLATFORM = "PROA_PLATFORM"
"""Environment variable: the platform file of a platform on a cluster."""


class Fleet(Pipelines, Promotions, Sweeping, Decisions, Retrainings, Worklists, Calls):
    """One platform, as one caller may use it."""


def connect(
    home: str | Path | None = None,
    *,
    platform: str | Path | None = None,
    key: str | None = None,
    person: str | None = None,
) -> Fleet:
    """The fleet of a platform: of the file `platform`, else of the one in `home`.

    When neither is given: the file PROA_PLATFORM, else the home PROA_HOME, else ./.proa.

    Args:
        home: with `platform`, the folder for what is done on this machine.
        key: the caller's key; else PROA_KEY, else the platform file's `key_file`, or the local
            user's key that `proa up` made.
        person: who decides, for the journal; else PROA_PERSON.

    Raises:
        NotFound: no platform there; the hint is `proa up`.
        Conflict: there is no key.
    """
    if platform is None and home is None:
        platform = os.environ.get(PLATFORM) or None
    if platform is not None:
        found = None if home is None else Home(Path(home).expanduser().absolute()).create()
        preset = read_preset(Path(platform))
    else:
        found = find_home(None if home is None else Path(home), os.environ)
        preset = Preset.of(found)
    return Fleet(
        preset.endpoints,
        key or os.environ.get("PROA_KEY") or _key_of(preset),
        home=found,
        preset=preset,
        person=person or os.environ.get("PROA_PERSON"),
    )


def _key_of(preset: Preset) -> str:
    path = preset.key_file
    if path is None:
        raise Conflict(f"no key: set PROA_KEY, or name key_file in {preset.source}")
    try:
        return path.read_text().strip()
    except OSError as error:
        raise Conflict(
            f"no key: set PROA_KEY, or mend {path}: {error.strerror}",
            hint=None if preset.pipelines or preset.source.is_file() else "proa up",
        ) from error
