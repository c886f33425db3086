"""The airline in a replay: a child process that knows the flights, and the calls made for them.

The story itself knows neither pandas nor Feast: `flight_delay.live` tells hour by hour which
flights are due and which outcomes were reported, and writes the features known by then.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from proa.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Hour:
    """One virtual hour: what is due in it, and what was reported up to its beginning.

    Attributes:
        time: its beginning, RFC 3339.
        day: the local day, as 2013-04-01.
        flights: ids.
        labels: `entity`, `value`, `time` of each.
    """

    time: str
    day: str
    flights: Sequence[str]
    labels: Sequence[dict[str, Any]]


@dataclass
class Answered:
    """What the users were told, and what came true.

    Attributes:
        said: by flight: the release that answered and its probability.
        late: by flight, as reported.
        calls: made through the gateway.
    """

    said: dict[str, tuple[str, float]] = field(default_factory=dict)
    late: dict[str, bool] = field(default_factory=dict)
    calls: int = 0

    def calibration(self, release: str) -> dict[str, Any]:
        """Of one release's answers whose outcome is known: what was said, what came true."""
        pairs = [
            (probability, self.late[flight])
            for flight, (by, probability) in self.said.items()
            if by == release and flight in self.late
        ]
        if not pairs:
            return {"rows": 0, "said": None, "true": None, "gap": None}
        said = sum(probability for probability, _ in pairs) / len(pairs)
        true = sum(late for _, late in pairs) / len(pairs)
        return {
            "rows": len(pairs),
            "said": round(said, 4),
            "true": round(true, 4),
            "gap": round(said - true, 4),
        }

    def by_day(self) -> list[tuple[str, str, int, float, float]]:
        """Day, release, rows with an outcome, mean of what was said and of what came true."""
        sums: dict[tuple[str, str], list[float]] = {}
        for flight, (release, probability) in self.said.items():
            if flight in self.late:
                row = sums.setdefault((flight[:10], release), [0.0, 0.0, 0.0])
                for place, value in enumerate((1.0, probability, float(self.late[flight]))):
                    row[place] += value
        return [
            (day, release, int(rows), round(said / rows, 4), round(true / rows, 4))
            for (day, release), (rows, said, true) in sorted(sums.items())
        ]


@contextmanager
def hours(
    home: Path, projects: Path, *, start: str, end: str, flights: int
) -> Iterator[Iterator[Hour]]:
    """Hours of whole days in which flights are due; asking for the next one moves the features."""
    command = [sys.executable, "-m", "flight_delay.live", "--home", str(home)]
    command += ["--start", start, "--end", end, "--flights", str(flights)]
    with subprocess.Popen(
        command, cwd=projects, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        try:
            yield _following(child)
        finally:
            child.kill()


def _following(child: subprocess.Popen[str]) -> Iterator[Hour]:
    assert child.stdin is not None
    assert child.stdout is not None
    while True:
        child.stdin.write("\n")
        child.stdin.flush()
        line = child.stdout.readline()
        if not line:
            raise RuntimeError(f"flight_delay.live ended with exit code {child.wait()}")
        told = json.loads(line)
        if told["time"] is None:
            return
        yield Hour(**told)


def ask(
    fleet: Fleet, model: str, hour: Hour, answered: Answered, pool: ThreadPoolExecutor, size: int
) -> None:
    """Ask for every flight of the hour, `size` of them a call, at the hour's own time."""
    groups = [hour.flights[first : first + size] for first in range(0, len(hour.flights), size)]

    def call(flights: Sequence[str]) -> None:
        answer = fleet.predict(
            model,
            entities=[{"flight_id": flight} for flight in flights],
            headers={"x-proa-event-time": hour.time, "x-proa-unit": flights[0]},
        )
        for flight, prediction in zip(flights, answer.predictions, strict=True):
            answered.said[flight] = (answer.release, prediction["probability"])

    list(pool.map(call, groups))
    answered.calls += len(groups)
