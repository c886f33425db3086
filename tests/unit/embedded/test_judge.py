"""`proa up --judge`: which engine judges answers, what the monitor is told of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from proa.embedded.home import Home
from proa.embedded.parts import static_workloads
from proa.embedded.platform_file import Platform, read_platform, write_platform
from proa.embedded.ports import PortPlan
from proa.embedded.up import _with_judge
from proa.errors import InvalidInput
from proa.http import rights


@pytest.fixture
def platform(tmp_path: Path) -> Platform:
    home = Home(tmp_path)
    home.create()
    return Platform(home=home, ports=PortPlan(), engines={"smol-1": {"url": "unix:///x"}})


def flags(platform: Platform) -> tuple[str, ...]:
    workloads = static_workloads(platform.home, platform.ports, judge=platform.judge)
    return next(w.template.command for w in workloads if w.name == "monitor")


def test_nobody_judges_unless_asked(platform: Platform) -> None:
    assert not [flag for flag in flags(platform) if flag.startswith("--judge")]
    with pytest.raises(InvalidInput, match="no engine can judge"):
        _with_judge(replace(platform, engines={}), None, 0.1)
    with pytest.raises(InvalidInput, match="a share from 0 to 1"):
        _with_judge(platform, None, 1.5)


def test_a_share_is_judged_until_it_is_ended(platform: Platform) -> None:
    judged = _with_judge(platform, None, 0.1)
    given = flags(judged)
    assert given[given.index("--judge-engine") + 1] == "smol-1"
    assert given[given.index("--judge-share") + 1] == "0.1"
    assert given[given.index("--judge-key-file") + 1] == str(platform.home.key("monitor"))
    assert set(rights.PARTS["monitor"]) == {rights.ENGINE, rights.JUDGE}
    write_platform(judged)
    kept = read_platform(platform.home)
    assert kept.judge == judged.judge
    assert _with_judge(kept, None, None).judge == judged.judge
    assert _with_judge(kept, None, 0.0).judge is None
