"""The real controller, which kills itself (SIGKILL) once after each state and template it writes.

`HOME/mortal.json` says of which model and what it died of already: `{"model": …, "died": […]}`.
Each kind of write at each step of a rollout is a cause of its own, so a rollout under it meets a
kill at every one of them. Nothing else is changed: this stands in for a person with `kill -9` who
is never late.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from proa.embedded.files import write_json
from proa.embedded.workloads import WorkloadFiles
from proa_controller.__main__ import main
from proa_controller.states import FileStates


def die(home: Path, model: str, cause: str) -> None:
    """End as by `kill -9`, unless this process died of the cause before."""
    path = home / "mortal.json"
    told = json.loads(path.read_text()) if path.exists() else {"model": None}
    if told["model"] != model or cause in told["died"]:
        return
    write_json(path, {**told, "died": [*told["died"], cause]})
    os.kill(os.getpid(), signal.SIGKILL)


def follow(owner: type, name: str, cause: Any) -> None:
    """After `owner.name` returns, ask `cause` of its arguments what to die of."""
    real = getattr(owner, name)

    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = real(self, *args, **kwargs)
        found = cause(*args, **kwargs)
        die(HOME, *found)
        return result

    setattr(owner, name, wrapped)


def after_state(state: Any, *_: Any) -> tuple[str, str]:
    # With its policy but without what it counts: the message changes with every call.
    step = f"{state.phase} {state.step} {state.step_since is not None}"
    return state.model, f"state {step} {state.applying is not None} {state.applied}"


def after_apply(workload: Any, **_: Any) -> tuple[str, str]:
    release = workload.template.release or ""
    return release.partition("/")[0], f"apply {workload.name} {release}"


def after_delete(name: str) -> tuple[str, str]:
    return name.removesuffix("-challenger"), f"delete {name}"


HOME = Path(sys.argv[sys.argv.index("--home") + 1])

if __name__ == "__main__":
    follow(FileStates, "put", after_state)
    follow(WorkloadFiles, "apply", after_apply)
    follow(WorkloadFiles, "delete", after_delete)
    main()
