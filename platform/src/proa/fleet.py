"""The fleet: every verb of proa, once. CLI, pipelines, the story and the tests call these.

It speaks to MLflow (registry), the gateway (calls) and the controller (wishes, state), each with
the caller's key; never to a database.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import orjson

from proa.embedded.files import read_json, write_json
from proa.embedded.home import Home, find_home
from proa.embedded.platform_file import read_platform
from proa.errors import Conflict, InvalidInput, NotFound, Refused, Unavailable, error_from_wire
from proa.release.bundle import BundleStore, list_files
from proa.release.diff import Change, diff, text_diff
from proa.release.manifest import Manifest, check_manifest
from proa.release.reference import ReleaseRef
from proa.release.registry import CHALLENGER, Registered, Registry
from proa.rollout.policy import Policy

if TYPE_CHECKING:
    from proa.exam.exam import Exam
    from proa.exam.runner import Side
    from proa.exam.verdict import Verdict

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, how many there are."""
_POLL_SECONDS = 0.1
_TEXT_FILES = (".txt", ".md", ".yaml", ".yml")  # what people write; not selftest and profile


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the platform answers. Two modes are two presets of these URLs."""

    gateway: str
    controller: str
    monitor: str
    mlflow: str
    bundles: str


@dataclass(frozen=True, slots=True)
class Prediction:
    """Rows predicted by a classic model, and who did it."""

    release: str
    request: str
    predictions: list[dict[str, Any]]


class Fleet:
    """One platform, as one caller may use it."""

    def __init__(self, endpoints: Endpoints, key: str, *, home: Home | None = None) -> None:
        self.endpoints = endpoints
        self.home = home
        self.registry = Registry(endpoints.mlflow)
        self.bundles = BundleStore.from_url(endpoints.bundles)
        self._key = key
        headers = {"authorization": f"Bearer {key}"}
        timeout = httpx.Timeout(30.0, read=600.0)
        self._http = httpx.Client(headers=headers, timeout=timeout)

    def __enter__(self) -> Fleet:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # Releases

    def create(
        self,
        project: Path,
        *,
        overrides: Mapping[str, str] | None = None,
        until: str = "register",
        on_line: Callable[[str], None] = lambda line: None,
    ) -> dict[str, Any]:
        """Run a project's pipeline on this machine, as far as `register`, `gate` or `promote`.

        Returns:
            The pipeline's result: `release`, `verdict` when it came that far, seconds per step.
        """
        from proa.project.load import load
        from proa.project.run import run_pipeline

        loaded = load(project, overrides=overrides or {})
        home = self._home()
        write_json(home.projects / f"{loaded.name}.json", {"folder": str(loaded.folder)})
        return run_pipeline(
            project, home=home.root, overrides=overrides or {}, until=until, on_line=on_line
        )

    def exam_of(self, name: str, project: Path | None = None) -> Exam:
        """The exam of a model: of `project`, or of the project it was created from here.

        Raises:
            NotFound: it was not created here and no project is given.
        """
        from proa.exam.exam import load

        if project is not None:
            return load(project)
        path = self._home().projects / f"{name}.json"
        if not path.exists():
            raise NotFound(f"no project of {name} is known here", hint="proa gate … --exam FOLDER")
        return load(Path(read_json(path)["folder"]))

    def _home(self) -> Home:
        if self.home is None:
            raise Conflict("pipelines run on the machine of an embedded platform: name its --home")
        return self.home

    def create_from_folder(
        self,
        folder: Path,
        manifest: Mapping[str, Any],
        *,
        run_id: str | None = None,
        reason: str = "",
    ) -> ReleaseRef:
        """Make a release of a staged folder: store the bundle, register, journal.

        Args:
            folder: holds every file of the release; `manifest["files"]` is filled in from it.
            manifest: the manifest without `files`, see `proa.release.manifest.Manifest`.
            run_id: the MLflow run it came from.

        Returns:
            The release; the same content again is the same release, not a new version.
        """
        files = [file.model_dump() for file in list_files(folder)]
        checked = check_manifest({**manifest, "files": files})
        self.bundles.put(checked, folder)
        ref, _ = self.registry.register(
            checked, bundle=self.endpoints.bundles, run_id=run_id, links=self._links(run_id)
        )
        body = {"release": str(ref), "reason": reason}
        self._controller("POST", f"/v1/models/{ref.name}/releases", body)
        return ref

    def _links(self, run_id: str | None) -> dict[str, str]:
        if run_id is None:
            return {}
        found = self.registry.run_page(run_id)
        return {"run": found} if found else {}

    def release(self, text: str) -> ReleaseRef:
        """The release named by `name`, `name/version`, `name@alias` or a full reference.

        A bare name means the newest release.

        Raises:
            NotFound: there is none.
        """
        if "@sha256:" in text:
            return ReleaseRef.parse(text)
        name, _, alias = text.partition("@")
        if alias:
            found = self.registry.alias(name, alias)
            if found is None:
                raise NotFound(f"{name}: no alias {alias!r}", hint=f"proa history {name}")
            return found
        name, _, version = text.partition("/")
        if version:
            if not version.isdigit():
                raise InvalidInput(f"release {text!r}: expected name/number, as flight-delay/3")
            return self.registry.ref(name, int(version))
        return self._newest(name)

    def _newest(self, name: str) -> ReleaseRef:
        releases = self.registry.versions(name)
        if not releases:
            raise NotFound(f"model {name!r} has no release", hint="proa create PROJECT")
        return releases[-1].ref

    def releases(self, name: str) -> list[Registered]:
        """Every release of a model, oldest first."""
        return self.registry.versions(name)

    def manifest(self, ref: ReleaseRef) -> Manifest:
        """A release's manifest, its digest verified."""
        return self.bundles.manifest(ref.digest)

    def diff(self, before: ReleaseRef, after: ReleaseRef) -> tuple[list[Change], list[str]]:
        """What differs: keys, and unified diffs of the small text files (prompts, rules)."""
        one, two = self.manifest(before), self.manifest(after)
        changes = diff(one, two)
        return changes, self._text_diffs(changes)

    def _text_diffs(self, changes: Sequence[Change]) -> list[str]:
        lines: list[str] = []
        for change in changes:
            path = change.key.removeprefix("files:")
            if path == change.key or not path.endswith(_TEXT_FILES):
                continue
            texts = [
                self.bundles.text(digest, limit=64 << 10) if digest else ""
                for digest in (change.before, change.after)
            ]
            if texts[0] is not None and texts[1] is not None:
                lines += text_diff(path, texts[0], texts[1])
        return lines

    # Exam

    def gate(self, ref: ReleaseRef, exam: Exam, *, progress: Progress | None = None) -> Verdict:
        """Let candidate and champion sit the exam through the gateway; journal the verdict.

        Raises:
            Conflict: the challenger slot is taken.  Refused: the release does not start.
        """
        from proa.exam.runner import hold

        slot = self._controller("POST", f"/v1/models/{ref.name}/gate", {"release": str(ref)})
        path = f"/v1/models/{ref.name}/gate/{slot['slot']}"
        try:
            with ExitStack() as stack:
                champion = slot["champion"]
                evidence = hold(
                    exam,
                    model=ref.name,
                    runtime=slot["runtime"],
                    candidate=self._side(ref, "challenger", stack),
                    champion=champion and self._side(ReleaseRef.parse(champion), "champion", stack),
                    progress=progress,
                )
            body = {"slot": slot["slot"], "evidence": evidence}
            journaled = self._controller("POST", f"/v1/models/{ref.name}/verdicts", body)
        finally:
            self._controller("DELETE", path)
        return self._keep_verdict(ref, evidence, journaled)

    def _side(self, ref: ReleaseRef, track: str, stack: ExitStack) -> Side:
        from proa.exam.asking import GatewayAsk
        from proa.exam.runner import Side

        ask = GatewayAsk(
            url=self.endpoints.gateway,
            key=self._key,
            model=ref.name,
            track=track,
            release=str(ref),
        )
        return Side(ref.digest, stack.enter_context(ask))

    def _keep_verdict(
        self, ref: ReleaseRef, evidence: Mapping[str, Any], journaled: Mapping[str, Any]
    ) -> Verdict:
        """Put the verdict on the release's page and its evidence into an MLflow run.

        Raises:
            Conflict: the controller, from the same evidence, came to another verdict.
        """
        from proa.exam.runner import MlflowLog
        from proa.exam.verdict import judge

        verdict = judge(evidence)
        if verdict.value != journaled["value"]:
            raise Conflict(
                f"{ref.short}: this machine's verdict is {verdict.value}, the controller's is "
                f"{journaled['value']}: their versions of proa or NumPy differ"
            )
        run_id = MlflowLog(self.endpoints.mlflow).record(evidence, verdict)
        page = self.registry.run_page(run_id)
        story = {"verdict": verdict.value, "because": verdict.reason, "exam": f"[{page}]({page})"}
        self.registry.tell(ref, self.manifest(ref), story)
        return verdict

    # Rollout

    def promote(
        self,
        ref: ReleaseRef,
        *,
        reason: str = "",
        policy: Policy | None = None,
        wait: bool = True,
        dry_run: bool = False,
        progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Ask for a rollout, and wait for its end unless told otherwise.

        Returns:
            The model's status afterwards.

        Raises:
            Refused: not admitted, or the canary did not hold.  Conflict: one is under way.
        """
        body = {
            "release": str(ref),
            "reason": reason,
            "policy": (policy or Policy()).to_json(),
            "dry_run": dry_run,
        }
        status: dict[str, Any] = self._controller("POST", f"/v1/models/{ref.name}/promote", body)
        if dry_run:
            return status
        self.registry.set_alias(ref, CHALLENGER)
        if not wait:
            return status
        status = self.settle(ref.name, progress=progress)
        if status["champion"] != str(ref):
            raise Refused(
                f"{ref.short} did not become champion: {status['message']}",
                hint=f"proa history {ref.name}",
                code="RolloutStopped",
            )
        return status

    def settle(
        self,
        name: str,
        *,
        seconds: float = 3600.0,
        progress: Callable[[Mapping[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Wait until nothing is under way and every gateway knows it; return the status.

        Raises:
            Unavailable: it took longer than `seconds`.
        """
        deadline = time.monotonic() + seconds
        while True:
            status = self.status(name)
            if progress is not None:
                progress(status)
            if status["phase"] == "idle" and (status["routed"] or status["champion"] is None):
                return status
            if time.monotonic() > deadline:
                raise Unavailable(
                    f"{name} is still {status['phase']} after {seconds:.0f} s: {status['message']}",
                    hint=f"proa status {name}",
                )
            time.sleep(_POLL_SECONDS)

    def rollback(self, name: str, *, reason: str = "", wait: bool = True) -> dict[str, Any]:
        """Return to the previous release.

        Returns:
            The status, with `traffic_seconds` (until every call went to the previous release)
            and `seconds` (until its template was back as well).
        """
        began = time.monotonic()
        path = f"/v1/models/{name}/rollback"
        status: dict[str, Any] = self._controller("POST", path, {"reason": reason})
        target = status["previous"]
        moved: float | None = None
        while wait:
            status = self.status(name)
            if moved is None and status["routed"] and status["traffic"].get(target) == 1.0:
                moved = time.monotonic() - began
            if status["phase"] == "idle" and status["routed"]:
                break
            time.sleep(_POLL_SECONDS / 2)
        seconds = time.monotonic() - began
        return {**status, "traffic_seconds": moved or seconds, "seconds": seconds}

    def undo(self, name: str, *, reason: str = "") -> dict[str, Any]:
        """What `kubectl rollout undo` does: the template before this one, followed by the alias."""
        before = self.status(name)
        self._controller("POST", f"/v1/models/{name}/undo", {"reason": reason})
        deadline = time.monotonic() + 60
        while (status := self.status(name))["sequence"] == before["sequence"]:
            if time.monotonic() > deadline:
                raise Unavailable(f"{name}: the undo was not seen within 60 s")
            time.sleep(_POLL_SECONDS)
        return status

    def abort(self, name: str, *, reason: str = "") -> dict[str, Any]:
        """Stop a canary: its weight goes to 0."""
        body = {"reason": reason}
        return dict(self._controller("POST", f"/v1/models/{name}/abort", body))

    def pause(self, name: str) -> dict[str, Any]:
        """Hold a canary at its step."""
        return dict(self._controller("POST", f"/v1/models/{name}/pause", {}))

    def resume(self, name: str) -> dict[str, Any]:
        """Let a paused canary go on."""
        return dict(self._controller("POST", f"/v1/models/{name}/resume", {}))

    def status(self, name: str) -> dict[str, Any]:
        """What runs, what is under way, the share of traffic per release."""
        return dict(self._controller("GET", f"/v1/models/{name}"))

    def models(self) -> list[dict[str, Any]]:
        """The status of every model."""
        return list(self._controller("GET", "/v1/models")["models"])

    def history(self, name: str | None = None) -> list[dict[str, Any]]:
        """The journal, oldest line first."""
        path = "/v1/journal" if name is None else f"/v1/models/{name}/history"
        return list(self._controller("GET", path)["lines"])

    # Calls

    def predict(
        self,
        name: str,
        *,
        rows: Sequence[Mapping[str, Any]] | None = None,
        entities: Sequence[Mapping[str, Any]] | None = None,
        explain: bool = False,
        headers: Mapping[str, str] | None = None,
    ) -> Prediction:
        """Predict raw rows, or entities whose features are read online."""
        body: dict[str, Any] = {"explain": explain}
        if rows is not None:
            body["rows"] = list(rows)
        if entities is not None:
            body["entities"] = list(entities)
        url = f"{self.endpoints.gateway}/v1/models/{name}/predict"
        answer = self._send("POST", url, body, headers)
        return Prediction(
            release=answer.headers["x-proa-release"],
            request=answer.headers["x-proa-request"],
            predictions=answer.json()["predictions"],
        )

    def chat(
        self,
        name: str,
        messages: Sequence[Mapping[str, str]],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        """One answer of an assistant, whole: an OpenAI chat completion with a `proa` object."""
        body = {"model": name, "messages": list(messages)}
        url = f"{self.endpoints.gateway}/v1/chat/completions"
        return dict(self._send("POST", url, body, headers).json())

    def chat_stream(
        self,
        name: str,
        messages: Sequence[Mapping[str, str]],
        *,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[dict[str, Any]]:
        """The chunks of a streamed answer; ends after `[DONE]`.

        Raises:
            Unavailable: the stream broke or carried an error.
        """
        body = {
            "model": name,
            "messages": list(messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        url = f"{self.endpoints.gateway}/v1/chat/completions"
        with self._http.stream("POST", url, json=body, headers=dict(headers or {})) as answer:
            if answer.status_code != 200:
                answer.read()
                raise error_from_wire(answer.status_code, _decoded(answer))
            for line in answer.iter_lines():
                if not line.startswith("data: "):
                    continue
                data = line.removeprefix("data: ")
                if data == "[DONE]":
                    return
                chunk = orjson.loads(data)
                if "error" in chunk:
                    raise error_from_wire(503, chunk)
                yield chunk
        raise Unavailable("the stream ended before it was complete")

    def calls(self, **query: str) -> list[dict[str, Any]]:
        """Calls from the ledger; filters: since, model, request, limit."""
        return list(self._gateway("GET", "/proa/v1/calls", params=query)["calls"])

    def costs(self, by: str = "team", **query: str) -> dict[str, Any]:
        """Calls, tokens and cost by team, feature, model, release or purpose."""
        return dict(self._gateway("GET", "/proa/v1/costs", params={"by": by, **query}))

    def create_key(self, **settings: Any) -> dict[str, Any]:
        """Make a key; its text is in the answer and nowhere else."""
        return dict(self._gateway("POST", "/proa/v1/keys", settings))

    # Monitor

    def watch(self, name: str) -> dict[str, Any]:
        """What the monitor knows: windows, counts, the drift figure of each window."""
        return dict(self._ask("GET", f"{self.endpoints.monitor}/v1/models/{name}"))

    def report(self, name: str) -> dict[str, Any]:
        """Have the monitor write an Evidently report of the present window."""
        return dict(self._ask("POST", f"{self.endpoints.monitor}/v1/models/{name}/report", {}))

    def seen_requests(self, **query: str) -> list[str]:
        """Request ids for which the monitor has an event."""
        url = f"{self.endpoints.monitor}/v1/requests"
        return list(self._ask("GET", url, params=query)["requests"])

    # Wire

    def _controller(self, method: str, path: str, body: Any = None) -> Any:
        return self._ask(method, f"{self.endpoints.controller}{path}", body)

    def _gateway(
        self, method: str, path: str, body: Any = None, params: Mapping[str, str] | None = None
    ) -> Any:
        return self._ask(method, f"{self.endpoints.gateway}{path}", body, params=params)

    def _ask(
        self, method: str, url: str, body: Any = None, *, params: Mapping[str, str] | None = None
    ) -> Any:
        return self._send(method, url, body, params=params).json()

    def _send(
        self,
        method: str,
        url: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        *,
        params: Mapping[str, str] | None = None,
    ) -> httpx.Response:
        try:
            answer = self._http.request(
                method,
                url,
                content=None if body is None else orjson.dumps(body),
                headers={"content-type": "application/json", **(headers or {})},
                params=dict(params) if params else None,
            )
        except httpx.HTTPError as error:
            raise Unavailable(
                f"{url} did not answer: {type(error).__name__}", hint="proa status"
            ) from error
        if answer.status_code >= 400:
            raise error_from_wire(answer.status_code, _decoded(answer))
        return answer


def _decoded(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except ValueError:
        return answer.text


def connect(home: str | Path | None = None, *, key: str | None = None) -> Fleet:
    """The fleet of the platform in `home` (else PROA_HOME, else ./.proa).

    Args:
        key: the caller's key; else PROA_KEY, else the local user's key that `proa up` made.

    Raises:
        NotFound: no platform there; the hint is `proa up`.
    """
    found = find_home(None if home is None else Path(home), os.environ)
    platform = read_platform(found)
    text = key or os.environ.get("PROA_KEY")
    if text is None:
        path = found.key("admin")
        if not path.exists():
            raise Conflict(f"no key: set PROA_KEY, or run proa up to make {path}")
        text = path.read_text().strip()
    urls = platform.urls
    endpoints = Endpoints(
        gateway=urls["gateway"],
        controller=urls["controller"],
        monitor=urls["monitor"],
        mlflow=urls["mlflow"],
        bundles=found.bundles.as_uri(),
    )
    return Fleet(endpoints, text, home=found)
