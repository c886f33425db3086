"""`worklist`: bad answers of a language model, and what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from proa.errors import Conflict, InvalidInput
from proa.fleet.wire import Wire

if TYPE_CHECKING:
    from proa.exam.exam import GoldenTask

__all__ = ["Worklists", "add_task", "task_of"]


class Worklists(Wire):
    """Verbs about the worklist."""

    def worklist(self, name: str, *, resolved: bool = False) -> list[dict[str, Any]]:
        """Answers that somebody or something found bad, the oldest first.

        Args:
            resolved: those that were decided about as well.

        Returns:
            `id made release question answer retrieved signals resolution who reason` each.
        """
        query = "?resolved=true" if resolved else ""
        return list(self._controller("GET", f"/v1/models/{name}/worklist{query}")["items"])

    def worklist_item(self, identity: str) -> dict[str, Any]:
        """One item, by its id or the beginning of it.

        Raises:
            NotFound: there is none.
        """
        return dict(self._controller("GET", f"/v1/worklist/{identity}"))

    def resolve_item(self, identity: str, resolution: str, *, reason: str) -> dict[str, Any]:
        """Say what became of an item: `golden-task`, `document`, `prompt` or `ignore`.

        Raises:
            NotFound: no such item.  Conflict: it was resolved in another way.
        """
        body = {"resolution": resolution, "reason": reason}
        return dict(self._controller("POST", f"/v1/worklist/{identity}", body))


def task_of(
    item: dict[str, Any], *, suite: str, contains: Sequence[str] = (), refuses: bool | None = None
) -> GoldenTask:
    """The golden task that an item becomes.

    What its answer must be like comes from the person; else from a label that is the right answer.

    Raises:
        InvalidInput: neither says it.
    """
    from proa.exam.exam import GoldenTask

    expect: dict[str, Any] = {}
    if contains:
        expect["contains"] = list(contains)
    if refuses is not None:
        expect["refuses"] = refuses
    if not expect:
        told = [s["value"] for s in item["signals"] if s["kind"] == "label"]
        right = [text for text in told if isinstance(text, str) and " " in text.strip()]
        if not right:
            raise InvalidInput(
                f"{item['id']}: nobody said what the right answer is",
                hint="add --contains TEXT, or --refuses",
                param="contains",
            )
        expect["similarity"] = {"to": right[-1], "min": 0.7}
    return GoldenTask.model_validate(
        {"id": f"item-{item['id']}", "suite": suite, "question": item["question"], "expect": expect}
    )


def add_task(task: GoldenTask, file: Path) -> bool:
    """Append a task to a file of golden tasks (JSON lines), for people to review.

    Returns:
        whether it was new; a task of this id that is the same is left alone.

    Raises:
        Conflict: another task has this id.  InvalidInput: the file is none of tasks.
    """
    import orjson

    line = orjson.dumps(task.model_dump(mode="json", exclude_none=True, exclude_defaults=True))
    text = file.read_bytes() if file.exists() else b""
    for number, known in enumerate(text.splitlines(), start=1):
        if not known.strip():
            continue
        try:
            value = orjson.loads(known)
            identity = value["id"]
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{file}: line {number}: expected a golden task") from error
        if identity == task.id:
            if value != orjson.loads(line):
                raise Conflict(f"{file} has another task {task.id} in line {number}")
            return False
    ends = b"" if not text or text.endswith(b"\n") else b"\n"
    with file.open("ab") as handle:
        handle.write(ends + line + b"\n")
    return True
