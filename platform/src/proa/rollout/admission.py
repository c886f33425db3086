"""Admission: may this release be rolled out? A pure rule over the journal (design §4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from proa.errors import Refused
from proa.release.reference import ReleaseRef

Line = Mapping[str, Any]
"""A journal line as a JSON object: `action`, `release`, `details`."""


def admit(
    release: ReleaseRef,
    *,
    champion: ReleaseRef | None,
    runtime: str,
    journal: Sequence[Line],
    missing_engine: str | None = None,
) -> Line:
    """Return the journal line of the verdict that lets the release in.

    The latest verdict on this digest counts, and it must be a `pass` against today's champion and
    on the same runtime.

    Raises:
        Refused: no such verdict, or its engine is not there; the hint is the mending command.
    """
    gate = f"proa gate {release.short}"
    judged = [line for line in journal if _judges(line, release.digest)]
    if not judged:
        raise Refused(
            f"{release.short} has not been judged: no verdict in the journal",
            hint=gate,
            code="GateMissing",
        )
    latest = judged[-1]
    verdict = latest["details"]
    if verdict["value"] != "pass":
        raise Refused(
            f"{release.short}: the verdict is {verdict['value']}: {verdict['reason']}",
            hint=f"proa diff {release.short}",
            code="GateFailed" if verdict["value"] == "fail" else "GateInconclusive",
        )
    if verdict["champion"] != (champion.digest if champion else None):
        raise Refused(
            f"{release.short} was judged against another champion than "
            f"{champion.short if champion else 'none'}",
            hint=gate,
            code="GateStale",
        )
    if verdict["runtime"] != runtime:
        raise Refused(f"{release.short} was judged on another runtime", hint=gate, code="GateStale")
    if missing_engine is not None:
        raise Refused(
            f"{release.short} needs the engine {missing_engine}, which is not running",
            hint="proa status",
            code="EngineMissing",
        )
    return latest


def _judges(line: Line, digest: str) -> bool:
    return bool(line["action"] == "judged" and line["details"].get("candidate") == digest)
