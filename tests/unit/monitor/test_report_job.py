"""What a report of a finding compares: the right rows, what was found first, a safe page."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from proa.errors import Refused
from proa.findings.finding import Finding
from proa.profile.bins import NumberBins
from proa.profile.reference import WatchedFeature
from proa_monitor.report_job import _headed, _in_order, _slice_of, _wanted
from proa_monitor.reports import Reports

FINDING = {
    "type": "feature_drift",
    "subject": "carrier=UA/wind",
    "message": "wind moved by 3 <sigma> & more",
    "since": "2013-04-01T00:00:00Z",
    "evidence": {"features": [{"name": "temp"}, {"name": "hour"}], "against": {"rows": 9}},
}


def spec(**more: Any) -> dict[str, Any]:
    about = {"release": "flight-delay/7@sha256:00", "window": "2013-04-01", "track": "champion"}
    return {**about, "finding": FINDING, **more}


@pytest.mark.parametrize(
    ("window", "inside", "outside"),
    [
        ("2013-04-01", "2013-04-01T23:59:59.999Z", "2013-04-02T00:00:00Z"),
        ("2013-04-01T10", "2013-04-01T10:59:59Z", "2013-04-01T11:00:00Z"),
        ("2013-04-01/P7D", "2013-04-07T23:59:59Z", "2013-04-08T00:00:00Z"),
        ("2013-12-30/P7D", "2014-01-05T23:59:59Z", "2013-12-29T23:59:59Z"),
    ],
)
def test_the_window_is_the_findings(window: str, inside: str, outside: str) -> None:
    wanted = _wanted(spec(window=window))
    event = {"release": "flight-delay/7@sha256:00", "type": "prediction", "purpose": "user",
             "track": "champion", "status": 200}  # fmt: skip
    assert wanted({**event, "time": inside})
    assert not wanted({**event, "time": outside})
    assert not wanted({**event, "time": inside, "purpose": "gate"})


def test_features_of_the_finding_come_first() -> None:
    names = ["carrier", "hour", "temp", "dewp", "wind"]
    bins = NumberBins([1.0])
    features = [WatchedFeature(name, "inputs", name, bins, (5, 5), None) for name in names]
    found = [feature.name for feature in _in_order(spec(), features)]
    assert found == ["wind", "temp", "hour", "carrier", "dewp"]
    assert [feature.name for feature in _in_order(spec(finding={}), features)] == names


def test_a_slices_finding_compares_the_slice() -> None:
    frame = pd.DataFrame({"carrier": ["UA", "DL", None, "UA"], "wind": [1, 2, 3, 4]})
    assert list(_slice_of(spec(), frame).wind) == [1, 4]
    for subject in ("wind", "", "origin=EWR", "carrier=(other)"):
        other = {**FINDING, "subject": subject}
        assert len(_slice_of(spec(finding=other), frame)) == 4


def test_the_page_says_what_was_found_and_nothing_else() -> None:
    page = _headed('<html><body class="x"><script>1</script></body></html>', spec())
    assert "wind moved by 3 &lt;sigma&gt; &amp; more" in page
    assert page.index("feature drift") > page.index('<body class="x">')
    assert page.index("feature drift") < page.index("<script>")


def test_a_finding_of_no_release_has_no_report(tmp_path: Path) -> None:
    more = dict.fromkeys(Finding.__slots__, "")
    finding = Finding(**{**more, "type": "call_without_event", "model": "m", "evidence": {}})
    with pytest.raises(Refused, match="of no release"):
        asyncio.run(Reports(tmp_path, tmp_path, "file:///").of_finding(finding))
