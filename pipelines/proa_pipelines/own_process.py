"""A process of any kind, started once: does it honour the contract, and what does it answer?"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from proa.errors import Refused
from proa.exam.asking import datatypes_of, to_columns, to_predictions
from proa.exam.exam import Row

__all__ = ["answers", "running"]

_START_SECONDS: Final = 60.0
_BATCH: Final = 500


@contextlib.contextmanager
def running(command: Sequence[str], folder: Path, *, release: str, log: Path) -> Iterator[str]:
    """Start the process in `folder`, wait until it is ready, yield its address, stop it.

    Raises:
        Refused: it ends or does not become ready; its last words are named.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [part.replace("{host}", "127.0.0.1").replace("{port}", str(port)) for part in command]
    url = f"http://127.0.0.1:{port}"
    environment = {**os.environ, "PROA_RELEASE": release, "PYTHONUNBUFFERED": "1"}
    with log.open("wb") as sink:
        try:
            process = subprocess.Popen(
                argv, cwd=folder, env=environment, stdout=sink, stderr=subprocess.STDOUT
            )
        except OSError as error:
            raise Refused(
                f"serve.command: {argv[0]!r} does not start: {error.strerror}",
                code="RuntimeBroken",
                hint="give an absolute path, or {python} for Python",
            ) from error
        try:
            _wait(process, url, log)
            yield url
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if httpx.get(f"{url}/readyz", timeout=2, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.05)
    code = process.poll()
    what = f"ended with {code}" if code is not None else f"is not ready in {_START_SECONDS:.0f} s"
    said = log.read_text(errors="replace").strip().splitlines()[-3:]
    raise Refused(
        f"serve.command {what}; its last words: {' | '.join(said)[:500] or 'none'}",
        code="RuntimeBroken",
        hint="run it by hand with PROA_RELEASE set; services/CONTRACT.md says what it must answer",
    )


def answers(url: str, name: str, rows: Sequence[dict[str, Any]], *, binary: bool) -> dict[str, Any]:
    """What the process answers for the rows, as the predictor's outputs.

    Raises:
        Refused: no usable answer.
    """
    exam_rows = [Row(id=str(i), unit="", label=0.0, inputs=row) for i, row in enumerate(rows)]
    datatypes = datatypes_of(exam_rows)
    values: list[Any] = []
    decisions: list[Any] = []
    with httpx.Client(base_url=url, timeout=120, trust_env=False) as client:
        for start in range(0, len(exam_rows), _BATCH):
            batch = exam_rows[start : start + _BATCH]
            body = {"inputs": to_columns(batch, datatypes)}
            answer = client.post(f"/v2/models/{name}/infer", json=body)
            if answer.status_code != 200:
                raise Refused(
                    f"the process answers {len(batch)} rows with {answer.status_code}: "
                    f"{answer.text[:300]}",
                    code="contract_broken",
                )
            found = to_predictions(answer.json(), len(batch))
            values += [item.value for item in found]
            decisions += [item.decision for item in found]
    many = bool(values) and isinstance(values[0], list)
    name_of_value = "probabilities" if many else "probability" if binary else "prediction"
    outputs = {name_of_value: values}
    if all(decision is not None for decision in decisions):
        outputs["label"] = decisions
    return outputs
