"""Stands in for Kubeflow Pipelines' API server, whose backend cannot be built here.

Generated: every path, method, query name and body is read from KFP's own client
(`kfp_server_api`, made by KFP from its OpenAPI document); a request that the document does not know
is refused with 4xx, and a body is checked field by field against the client's models. A pipeline is
checked by KFP's protobuf of its IR, and a run's parameters against the pipeline's inputs.
Faked: what happens then. Nothing runs; a run goes through the states that a test gives it. The
order of checks (token, then namespace, then body) and the texts of refusals are ours.
"""

from __future__ import annotations

import inspect
import json
import re
import ssl
import threading
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import kfp_server_api
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

CREATED = "2026-11-21T12:00:00Z"


class RefusedRequest(Exception):
    """What is answered instead: an HTTP status and a sentence."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Operation:
    """One operation of the OpenAPI document, as the generated client has it."""

    name: str
    method: str
    path: re.Pattern[str]
    query: frozenset[str]
    body: str | None


@cache
def operations() -> tuple[Operation, ...]:
    """Every operation that the client knows."""
    found = []
    for _, api in inspect.getmembers(kfp_server_api.api, inspect.ismodule):
        for _, cls in inspect.getmembers(api, inspect.isclass):
            if cls.__module__ == api.__name__ and cls.__name__.endswith("Api"):
                members = inspect.getmembers(cls, inspect.isfunction)
                found += [_operation(n, m) for n, m in members if n.endswith("_with_http_info")]
    return tuple(found)


def _operation(name: str, member: Any) -> Operation:
    source = inspect.getsource(member)
    called = re.search(r"call_api\(\s*'([^']+)', '([A-Z]+)'", source)
    assert called is not None, name
    body = re.search(r"body_params = local_var_params\['(\w+)'\]", source)
    model = None
    if body is not None:
        typed = re.search(rf":type {body[1]}: (\w+)", source)
        assert typed is not None, name
        model = typed[1]
    # `{id}` is one part of a path; a colon begins a verb, as in `/runs/{run_id}:archive`
    path = re.sub(r"\\{[\w\\.]+\\}", "([^/:]+)", re.escape(called[1]))
    query = frozenset(re.findall(r"query_params\.append\(\('([^']+)'", source))
    return Operation(
        name.removesuffix("_with_http_info"), called[2], re.compile(path), query, model
    )


def check(value: Any, model: str, where: str = "") -> None:
    """Check JSON against one of the client's models; the first unknown or wrong field ends it."""
    if model == "object" or value is None:
        return
    if model in ("str", "datetime"):
        _expect(isinstance(value, str), f"{where}: expected text")
    elif model == "int":
        _expect(isinstance(value, int) and not isinstance(value, bool), f"{where}: expected int")
    elif model == "bool":
        _expect(isinstance(value, bool), f"{where}: expected true or false")
    elif model.startswith("list["):
        _expect(isinstance(value, list), f"{where}: expected a list")
        for number, item in enumerate(value):
            check(item, model[5:-1], f"{where}[{number}]")
    elif model.startswith("dict("):
        _expect(isinstance(value, dict), f"{where}: expected an object")
        for key, item in value.items():
            check(item, model[5:-1].split(", ", 1)[1], f"{where}.{key}")
    else:
        _check_model(value, getattr(kfp_server_api.models, model), where)


def _check_model(value: Any, cls: Any, where: str) -> None:
    allowed = getattr(cls, "allowable_values", None)
    if not cls.openapi_types:  # an enumeration
        names = allowed or [v for k, v in vars(cls).items() if k.isupper()]
        _expect(value in names, f"{where}: {value!r} is none of {names}")
        return
    _expect(isinstance(value, dict), f"{where}: expected an object")
    fields = {key: cls.openapi_types[name] for name, key in cls.attribute_map.items()}
    for key, item in value.items():
        _expect(key in fields, f"{where}: {cls.__name__} has no field {key}")
        # KFP writes 64-bit numbers as text and takes both
        if key == "max_concurrency" and isinstance(item, int):
            continue
        check(item, fields[key], f"{where}.{key}")


def _expect(holds: bool, message: str) -> None:
    if not holds:
        raise RefusedRequest(400, message)


def check_pipeline(spec: Mapping[str, Any], parameters: Mapping[str, Any]) -> None:
    """Check a pipeline by KFP's protobuf, and a run's parameters by the pipeline's inputs."""
    body = spec.get("pipeline_spec", spec)
    try:
        parsed = json_format.ParseDict(body, pipeline_spec_pb2.PipelineSpec())
        if "platform_spec" in spec:
            json_format.ParseDict(spec["platform_spec"], pipeline_spec_pb2.PlatformSpec())
    except json_format.ParseError as error:
        raise RefusedRequest(400, f"pipeline_spec: {error}") from error
    inputs = parsed.root.input_definitions.parameters
    for name in parameters:
        _expect(name in inputs, f"parameter {name} is no input of the pipeline")
    for name, definition in inputs.items():
        optional = definition.is_optional or definition.HasField("default_value")
        _expect(optional or name in parameters, f"parameter {name} is missing")


@dataclass
class Kubeflow:
    """The server's state, and what a test says about it.

    Attributes:
        token: the bearer token that it wants; None wants none.
        namespaces: profiles; None for an installation without.
        script: the states of a run, one per look; the last one stays.
        seen: every request: method, path, the token that came with it.
    """

    token: str | None = None
    namespaces: frozenset[str] | None = None
    script: list[dict[str, Any]] = field(default_factory=lambda: [{"state": "SUCCEEDED"}])
    experiments: list[dict[str, Any]] = field(default_factory=list)
    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    recurring: list[dict[str, Any]] = field(default_factory=list)
    seen: list[tuple[str, str, str | None]] = field(default_factory=list)
    page: int = 100
    _looks: dict[str, int] = field(default_factory=dict)

    def answer(self, method: str, target: str, authorization: str | None, body: Any) -> Any:
        """The JSON answer to one request.

        Raises:
            RefusedRequest: with the status to answer.
        """
        url = urlsplit(target)
        self.seen.append((method, url.path, authorization))
        found = [o for o in operations() if o.method == method and o.path.fullmatch(url.path)]
        if not found:
            raise RefusedRequest(404, f"no operation {method} {url.path}")
        operation = found[0]
        if self.token is not None and authorization != f"Bearer {self.token}":
            raise RefusedRequest(401, "the token is not valid")
        query = {key: values[0] for key, values in parse_qs(url.query).items()}
        for name in query:
            _expect(name in operation.query, f"{operation.name} has no parameter {name}")
        if operation.body is not None:
            _expect(body is not None, f"{operation.name}: a body is missing")
            check(body, operation.body, operation.body)
        act = getattr(self, f"_{operation.name}", None)
        if act is None:
            raise RefusedRequest(501, f"the stand-in does not know {operation.name}")
        match = operation.path.fullmatch(url.path)
        assert match is not None
        return act(query, body, *match.groups())

    def _healthz_service_get_healthz(self, query: Any, body: Any) -> Any:
        return {"multi_user": self.namespaces is not None}

    def _allowed(self, namespace: str | None) -> None:
        if self.namespaces is not None and namespace not in self.namespaces:
            raise RefusedRequest(403, f"User may not use namespace {namespace}")

    def _experiment_service_list_experiments(self, query: Any, body: Any) -> Any:
        self._allowed(query.get("namespace"))
        wanted = [p["stringValue"] for p in json.loads(query["filter"])["predicates"]]
        found = [e for e in self.experiments if e["display_name"] in wanted]
        return {"experiments": found} if found else {}

    def _experiment_service_create_experiment(self, query: Any, body: Any) -> Any:
        self._allowed(body.get("namespace"))
        made = {**body, "experiment_id": str(uuid.uuid4()), "created_at": CREATED}
        self.experiments.append(made)
        return made

    def _run_service_create_run(self, query: Any, body: Any) -> Any:
        self._startable(body)
        made = {**body, "run_id": str(uuid.uuid4()), "created_at": CREATED, "state": "PENDING"}
        self.runs[made["run_id"]] = made
        return made

    def _run_service_list_runs(self, query: Any, body: Any) -> Any:
        wanted = [p["stringValue"] for p in json.loads(query["filter"])["predicates"]]
        found = [
            self._run_service_get_run({}, None, key)
            for key, run in self.runs.items()
            if run["experiment_id"] == query["experiment_id"] and run["display_name"] in wanted
        ]
        return {"runs": found} if found else {}

    def _run_service_terminate_run(self, query: Any, body: Any, run: str) -> Any:
        self.script = [{"state": "CANCELED"}]
        return {}

    def _run_service_get_run(self, query: Any, body: Any, run: str) -> Any:
        if run not in self.runs:
            raise RefusedRequest(404, f"Run {run} not found")
        look = self._looks.get(run, 0)
        self._looks[run] = look + 1
        known = {**self.runs[run], **self.script[min(look, len(self.script) - 1)]}
        check(known, "V2beta1Run", "script")
        return known

    def _recurring_run_service_create_recurring_run(self, query: Any, body: Any) -> Any:
        self._startable(body)
        cron = body["trigger"]["cron_schedule"]["cron"]
        _expect(len(cron.split()) == 6, f"cron {cron!r}: expected 6 fields")
        made = {**body, "recurring_run_id": str(uuid.uuid4()), "created_at": CREATED}
        self.recurring.append(made)
        return made

    def _recurring_run_service_list_recurring_runs(self, query: Any, body: Any) -> Any:
        mine = [r for r in self.recurring if r["experiment_id"] == query["experiment_id"]]
        start = int(query.get("page_token") or 0)
        page: dict[str, Any] = {"recurringRuns": mine[start : start + self.page]}
        if start + self.page < len(mine):
            page["next_page_token"] = str(start + self.page)
        return page

    def _recurring_run_service_delete_recurring_run(self, query: Any, body: Any, one: str) -> Any:
        self.recurring = [item for item in self.recurring if item["recurring_run_id"] != one]
        return {}

    def _startable(self, body: Mapping[str, Any]) -> None:
        known = [e["experiment_id"] for e in self.experiments]
        if body.get("experiment_id") not in known:
            raise RefusedRequest(404, f"Experiment {body.get('experiment_id')} not found")
        parameters = body.get("runtime_config", {}).get("parameters", {})
        check_pipeline(body["pipeline_spec"], parameters)


@contextmanager
def serving(state: Kubeflow, *, certificate: Path | None = None) -> Iterator[str]:
    """Serve on loopback; yields the address. `certificate`: PEM with the key, for TLS."""

    class Handler(BaseHTTPRequestHandler):
        def handle_any(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            raw = self.rfile.read(length)
            try:
                body = json.loads(raw) if raw else None
                authorization = self.headers.get("authorization")
                value = state.answer(self.command, self.path, authorization, body)
                status = 200
            except RefusedRequest as error:
                status, value = error.status, {"error": str(error), "message": str(error)}
            data = json.dumps(value).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_DELETE = do_PUT = handle_any  # noqa: N815 (names of the library)

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    scheme = "http"
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        scheme = "https"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"{scheme}://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
