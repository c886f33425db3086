"""Features by entity, from the feature server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import aiohttp

from proa.features import online
from proa.release.manifest import FeatureView

__all__ = ["OnlineFeatures"]


class OnlineFeatures:
    """The feature views of one release at the feature server `url`."""

    def __init__(self, url: str, views: Sequence[FeatureView]) -> None:
        self._url = url.rstrip("/")
        self._views = views
        self._session: aiohttp.ClientSession | None = None

    async def read(
        self, entities: Mapping[str, list[Any]], now: datetime
    ) -> tuple[dict[str, list[Any]], dict[str, list[float]]]:
        """Columns and, by view, ages in seconds at `now`; see `proa.features.online.read`."""
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=64, keepalive_timeout=30)
            self._session = aiohttp.ClientSession(connector=connector)
        found = await online.read(self._session, self._url, self._views, entities, now=now)
        return found.columns, found.ages

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
