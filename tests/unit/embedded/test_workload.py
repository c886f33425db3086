"""Workload files: what is read back, and what is said about bad ones."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proa.embedded.workload import Template, Workload, parse_template, parse_workload
from proa.errors import InvalidInput

GOOD: dict[str, Any] = {
    "schema_version": 1,
    "name": "flight-delay",
    "command": ["python", "-m", "x", "--port", "{port}"],
    "generation": 3,
}

texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
templates = st.builds(
    Template,
    command=st.lists(texts, max_size=4).map(lambda parts: ("program", *parts)),
    env=st.dictionaries(st.from_regex(r"[A-Z_]{1,5}_FILE", fullmatch=True), texts, max_size=3),
    cwd=st.none() | texts.map(lambda text: "/" + text),
    listen=st.just("port"),
    port=st.none() | st.integers(1, 65535),
    release=st.none() | texts,
    labels=st.dictionaries(texts, texts, max_size=3),
    startup_seconds=st.floats(0, 86400),
    drain_seconds=st.integers(0, 86400).map(float),
)


@given(templates, st.sampled_from([0, 1]), st.integers(0, 10**9))
def test_what_is_written_is_read_back_equal(
    template: Template, replicas: int, generation: int
) -> None:
    workload = Workload("a-name", template, replicas=replicas, generation=generation)
    text = json.dumps(workload.to_json())
    assert parse_workload(json.loads(text), where="x") == workload
    assert parse_template(json.loads(json.dumps(template.to_json())), where="x") == template


def test_what_may_be_left_out_has_a_default() -> None:
    workload = parse_workload(GOOD, where="x")
    assert workload.template == Template(command=tuple(GOOD["command"]))
    assert (workload.replicas, workload.generation) == (1, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema_version": 2}, "f.json: schema_version = 2: expected the number 1"),
        ({"name": "Bad_Name"}, "f.json: name = 'Bad_Name': expected lower-case letters"),
        ({"command": []}, "f.json: command = []: expected a list of strings"),
        ({"command": "python"}, "f.json: command = 'python': expected a list of strings"),
        ({"command": ["a", 1]}, "f.json: command = ['a', 1]: expected a list of strings"),
        ({"command": ["", "x"]}, "a program as its first part"),
        ({"replicas": 2}, "f.json: replicas = 2: expected 0 or 1"),
        ({"replicas": True}, "f.json: replicas = True: expected 0 or 1"),
        ({"generation": -1}, "f.json: generation = -1: expected a whole number"),
        ({"generation": "1"}, "f.json: generation = '1': expected a whole number"),
        ({"listen": "tcp"}, "f.json: listen = 'tcp': expected port, none or uds"),
        ({"port": 0}, "f.json: port = 0: expected 1 to 65535 or null"),
        ({"listen": "uds", "port": 80}, "f.json: port = 80: expected null, as listen is uds"),
        ({"ready": "readyz"}, "f.json: ready = 'readyz': expected an HTTP path"),
        ({"ready": "/a\r\nHost: b"}, "expected an HTTP path"),
        ({"cwd": "here"}, "f.json: cwd = 'here': expected an absolute path or null"),
        ({"env": {"A": 1}}, "f.json: env.A = 1: expected a string"),
        ({"env": {"A B": "x"}}, "f.json: env = 'A B': expected names of letters"),
        ({"labels": ["x"]}, "f.json: labels = ['x']: expected an object of strings"),
        ({"drain_seconds": -1}, "f.json: drain_seconds = -1: expected seconds, 0 to 86400"),
        ({"startup_seconds": float("nan")}, "expected seconds, 0 to 86400"),
        ({"replica": 1}, "f.json: unknown keys: replica"),
    ],
)
def test_bad_workloads_are_named(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_workload({**GOOD, **change}, where="f.json")
    assert message in caught.value.message


def test_a_missing_key_and_another_type_are_named() -> None:
    with pytest.raises(InvalidInput, match="command is missing"):
        parse_workload({"name": "a"}, where="x")
    with pytest.raises(InvalidInput, match="expected a JSON object, found list"):
        parse_workload([], where="x")


@pytest.mark.parametrize("name", ["API_KEY", "HF_TOKEN", "DB_PASSWORD", "client_secret"])
def test_secrets_are_refused_in_the_environment(name: str) -> None:
    with pytest.raises(InvalidInput, match=f"env.{name}: secrets do not belong") as caught:
        parse_workload({**GOOD, "env": {name: "hunter2"}}, where="x")
    assert "hunter2" not in str(caught.value.to_wire())
    parse_workload({**GOOD, "env": {f"{name}_FILE": "/keys/x.key"}}, where="x")


@pytest.mark.parametrize(
    ("template", "fixed"),
    [
        (Template(("x",)), False),
        (Template(("x",), port=80), True),
        (Template(("x",), listen="uds"), True),
        (Template(("x",), listen="none"), False),
    ],
)
def test_which_addresses_are_fixed(template: Template, fixed: bool) -> None:
    assert template.fixed_address is fixed
    assert replace(template, command=("y",)).fixed_address is fixed
