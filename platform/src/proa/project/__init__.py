"""Projects: the folder a user writes, its settings checked, its functions found when called for."""

from __future__ import annotations

from proa.project.load import Project, load
from proa.project.model import ClassicProject, LlmProject, OwnProject

__all__ = ["ClassicProject", "LlmProject", "OwnProject", "Project", "load"]
