"""The real controller of a cluster, which kills itself (SIGKILL) once after each kind of write.

The file `MORTAL` says of which model and what it died of already: `{"model": …, "died": […]}`.
Writes of state, routes and Deployments count, each at each step of a rollout; leases and Events do
not. As `mortal_controller` does for one machine.
"""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

from proa.cluster.api import Cluster
from proa.embedded.files import write_json
from proa_controller.__main__ import main


def die(cause: str) -> None:
    """End as by `kill -9`, unless an earlier process died of the cause."""
    path = Path(os.environ["MORTAL"])
    told = json.loads(path.read_text())
    if cause not in told["died"]:
        write_json(path, {**told, "died": [*told["died"], cause]})
        os.kill(os.getpid(), signal.SIGKILL)


def cause_of(kind: str, name: str, body: dict[str, Any]) -> str | None:
    """What was written, without what changes with every write."""
    if kind == "deployments":
        template = body.get("spec", {}).get("template", {})
        return f"{name} {template.get('metadata', {}).get('annotations')}"
    if kind != "configmaps":
        return f"{kind} {name}" if kind == "services" else None
    data = body.get("data", {})
    if "rollout.json" in data:
        state = json.loads(data["rollout.json"])
        words = (state["phase"], state["step"], state["applying"] is not None, state["applied"])
        return f"state {words} {state['step_since'] is not None}"
    return f"routes {json.dumps(json.loads(data['routes.json'])['models'])}"


def follow(name: str) -> None:
    """After a write returned, perhaps die of it."""
    real = getattr(Cluster, name)

    def wrapped(self: Cluster, kind: str, namespace: str, *args: Any, **kwargs: Any) -> Any:
        result = real(self, kind, namespace, *args, **kwargs)
        body = args[-1] if args and isinstance(args[-1], dict) else {}
        named = args[0] if isinstance(args[0], str) else args[0]["metadata"]["name"]
        cause = cause_of(kind, named, body) if body or name == "delete" else None
        if cause is not None:
            die(f"{name} {cause}")
        return result

    setattr(Cluster, name, wrapped)


if __name__ == "__main__":
    for verb in ("create", "replace", "patch", "delete"):
        follow(verb)
    main()
