"""charts/proa/METRICS.md as data: what people read is what tests hold processes and queries to."""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parents[1] / "charts/proa/METRICS.md"
RELEASE = ("model", "release", "digest", "track")
_ROW = re.compile(r"^\| `(\w+)` \| (counter|gauge|histogram) \|([^|]*)\| ([^|]+) \|$")
_NAMED = re.compile(
    r"(?<![\w:])proa_(?:gateway|controller|rollout|retraining|monitor|model|drift|window|finding|"
    r"findings|quality|label|fairness|topic|answer|judge|worklist|predictor|assistant)_?\w*"
)
# Names of settings of Prometheus, not of series.
_OF_PROMETHEUS = {"proa_model", "proa_track", "proa_version"}


@dataclass(frozen=True)
class Family:
    """One row: `labels` without those of a histogram's buckets."""

    name: str
    type: str
    labels: tuple[str, ...]


@functools.cache
def sections() -> dict[str, dict[str, Family]]:
    """Families by section of the page and name."""
    found: dict[str, dict[str, Family]] = {}
    for section in PAGE.read_text().split("\n## ")[1:]:
        title, _, text = section.partition("\n")
        families = found.setdefault(title, {})
        for match in filter(None, map(_ROW.match, text.splitlines())):
            named = [label.strip() for label in match[3].split(",") if label.strip()]
            labels = [label for name in named for label in (RELEASE if name == "M" else (name,))]
            assert match[1] not in families, f"{match[1]} is there twice"
            families[match[1]] = Family(match[1], match[2], tuple(labels))
    return found


def documented(name: str) -> Family | None:
    """The family of a series' name, as a query writes it."""
    for families in sections().values():
        plain = re.sub(r"_(bucket|count|sum)$", "", name)
        for candidate in (name, plain):
            family = families.get(candidate)
            if family is not None and (candidate == name or family.type == "histogram"):
                return family
    return None


def named_in(text: str) -> set[str]:
    """Series of proa that a text names; a name's beginning, as in a pattern, is none."""
    found = set(_NAMED.findall(re.sub(r"\w+:proa_\w+:\w+", "", text)))
    return {name for name in found if not name.endswith("_")} - _OF_PROMETHEUS
