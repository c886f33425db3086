"""Looks at vLLM's own counters from inside its container: `live` and `drain`.

/health answers 200 while an engine hangs, and a saturated engine is slow to answer at all. So
`live` fails only on proof: requests are running and the count of iterations has not moved for
--stall-seconds. What cannot be read proves nothing, and passes.

`drain` is the preStop hook: it waits for --linger-seconds, in which nobody sends this pod new
requests any more, and then until the engine has been idle twice in a row, at most for
--timeout-seconds. vLLM itself would use the whole of its shutdown time, idle or not.
"""

import argparse
import json
import math
import time
import urllib.request
from pathlib import Path

RUNNING = "vllm:num_requests_running"
WAITING = "vllm:num_requests_waiting"
ITERATIONS = "vllm:iteration_tokens_total_count"


def read(url: str, seconds: float) -> dict[str, float]:
    """Sums of the three families over all engines; empty when nothing can be read."""
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:  # noqa: S310 (loopback)
            return parse(answer.read().decode())
    except (OSError, ValueError):
        return {}


def parse(text: str) -> dict[str, float]:
    """Prometheus text; families that are missing stay missing."""
    sums: dict[str, float] = {}
    for line in text.splitlines():
        name = line.partition("{")[0].partition(" ")[0]
        if name in (RUNNING, WAITING, ITERATIONS):
            value = float(line.rpartition("}")[2].split()[0] if "}" in line else line.split()[1])
            if not math.isfinite(value):
                raise ValueError(line)
            sums[name] = sums.get(name, 0.0) + value
    return sums


def stalled(now: float, seen: dict[str, float], state: Path, stall_seconds: float) -> bool:
    """Whether the engine had work for `stall_seconds` and did none of it."""
    running, iterations = seen.get(RUNNING), seen.get(ITERATIONS)
    if running is None or iterations is None:
        return False
    try:
        before = json.loads(state.read_text())
        same = running > 0 and before["running"] and before["iterations"] == iterations
        since = float(before["since"]) if same else now
    except (OSError, ValueError, KeyError, TypeError):
        since = now
    new = {"iterations": iterations, "running": running > 0, "since": since}
    temporary = state.with_suffix(".new")
    temporary.write_text(json.dumps(new))
    temporary.replace(state)
    return now - since >= stall_seconds


def live(asked: argparse.Namespace) -> int:
    seen = read(asked.metrics, asked.read_seconds)
    if stalled(time.monotonic(), seen, asked.state, asked.stall_seconds):
        print(f"no iteration for {asked.stall_seconds:.0f} s with {seen[RUNNING]:.0f} running")
        return 1
    return 0


def drain(asked: argparse.Namespace) -> int:
    begun = time.monotonic()
    time.sleep(asked.linger_seconds)
    idle = 0
    while idle < 2 and time.monotonic() - begun < asked.linger_seconds + asked.timeout_seconds:
        seen = read(asked.metrics, asked.read_seconds)
        busy = seen.get(RUNNING, 1.0) + seen.get(WAITING, 0.0)
        idle = 0 if busy else idle + 1
        time.sleep(0.5)
    return 0


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--metrics", default="http://127.0.0.1:8000/metrics")
    parser.add_argument("--read-seconds", type=float, default=4.0)
    commands = parser.add_subparsers(required=True)
    command = commands.add_parser("live")
    command.add_argument("--stall-seconds", type=float, required=True)
    command.add_argument("--state", type=Path, required=True)
    command.set_defaults(run=live)
    command = commands.add_parser("drain")
    command.add_argument("--linger-seconds", type=float, required=True)
    command.add_argument("--timeout-seconds", type=float, required=True)
    command.set_defaults(run=drain)
    asked = parser.parse_args(argv)
    return int(asked.run(asked))


if __name__ == "__main__":
    raise SystemExit(main())
