"""Where a release came from: the commit of its project, and the run that made it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from proa.project import Project
from proa.release.manifest import Source

STATED = "proa-origin.json"
"""In a packed project: what git said of the folder where it was packed."""


def source(project: Project, run: str) -> Source:
    """Commit, whether files were changed since, and the run; None for what git cannot say."""
    stated = project.folder / STATED
    if stated.is_file():
        return Source(**json.loads(stated.read_bytes()), pipeline_run=run)
    commit = _git(project.folder, "rev-parse", "HEAD")
    dirty = None if commit is None else bool(_git(project.folder, "status", "--porcelain"))
    return Source(git_commit=commit, git_dirty=dirty, pipeline_run=run)


def _git(folder: Path, *arguments: str) -> str | None:
    """What git says; None without git, a repository or a first commit."""
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
