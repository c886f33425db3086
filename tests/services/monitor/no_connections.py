"""Children that end at once when they open a connection: a hook of Python, which none can undo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

CODE = 99
"""Their exit status then."""
_HOOK = """
import os, sys
def hook(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto", "socket.sendmsg"):
        sys.stderr.write(f"a connection: {{event}} {{arguments}}")
        sys.stderr.flush()
        os._exit({code})
if any({module!r} in word for word in sys.orig_argv):
    sys.addaudithook(hook)
"""


def forbid(patch: pytest.MonkeyPatch, folder: Path, module: str) -> None:
    """In every Python started from now on whose command line names `module`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "sitecustomize.py").write_text(_HOOK.format(code=CODE, module=module))
    patch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
