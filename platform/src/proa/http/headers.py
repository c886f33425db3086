"""HTTP headers of proa, version 1.

The gateway mints `x-proa-request` and strips every client's copy of the headers in `INTERNAL`
before it adds its own; services trust them because nothing but the gateway reaches a service.
"""

from __future__ import annotations

from typing import Final

HTTP_VERSION: Final = "1"

REQUEST: Final = "x-proa-request"
"""Id of one call, minted by the gateway: 26 characters, sortable by time (ULID)."""
PARENT: Final = "x-proa-parent"
"""Request id of the user's call that caused this one (assistant → engine door, tool calls)."""
RELEASE: Final = "x-proa-release"
"""On every answer of a predictor or assistant: `name/version@sha256:hex`."""
TRACK: Final = "x-proa-track"
"""`champion` or `challenger`. In a request it pins the track and needs the right `judge`."""
PURPOSE: Final = "x-proa-purpose"
"""`user`, `gate`, `judge`, `agent` or `shadow`. Anything but `user` in a request needs the right
`judge` (or `internal`, for services that pass on what they were given); `shadow` is the gateway's
own: a copy of a user's call, answered and only recorded."""
UNIT: Final = "x-proa-unit"
"""Who is being served: the key of a canary's stickiness. The gateway tells the service which unit
it went by; a client that sets it decides, else it is the entity (classic, the column that the
release names), the user, the conversation, or the request."""
USER: Final = "x-proa-user"
"""The user served, where a request's body has no field for it."""
CONVERSATION: Final = "x-proa-conversation"
"""The conversation a request belongs to: the unit of users who are not named."""
FACTS: Final = "x-proa-facts"
"""On answers of a service, for the gateway alone: see `proa.http.facts`."""
TEAM: Final = "x-proa-team"
FEATURE: Final = "x-proa-feature"
VARIANT: Final = "x-proa-variant"
EVENT_TIME: Final = "x-proa-event-time"
"""RFC 3339 event time; needs the right `replay`."""
TRACEPARENT: Final = "traceparent"

INTERNAL: Final = frozenset(
    {REQUEST, PARENT, RELEASE, TRACK, PURPOSE, TEAM, FEATURE, VARIANT, FACTS}
)
"""Headers a client may not set unless its key has the right that the header needs."""
