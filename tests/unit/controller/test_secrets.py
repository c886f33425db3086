"""What the Secrets of a new installation hold, as those who read them do; no cluster is asked."""

from __future__ import annotations

import configparser
from urllib.parse import unquote, urlsplit

import pytest

from proa_controller import secrets


def test_three_urls_with_one_password() -> None:
    made = secrets.database_entries("proa-postgres.proa.svc", "5432")
    password = made.pop("postgres-password")
    assert len(password) >= 32
    for entry, database in (
        ("ledger-url", "proa"),
        ("mlflow-url", "mlflow"),
        ("mlflow-auth-url", "mlflow_auth"),
    ):
        url = urlsplit(made.pop(entry))
        assert (url.scheme, url.hostname, url.port) == (
            "postgresql",
            "proa-postgres.proa.svc",
            5432,
        )
        assert url.path == f"/{database}"
        assert (url.username, unquote(url.password or "")) == ("proa", password)
    assert not made
    again = secrets.database_entries("proa-postgres.proa.svc", "5432")
    assert again["postgres-password"] != password


def test_mlflow_reads_its_configuration_whatever_the_password_holds() -> None:
    url = "postgresql://me:p%40%25s@db.example.org:6432/users"
    made = secrets.mlflow_entries(f"{url}\n")
    server, client = configparser.ConfigParser(), configparser.ConfigParser()
    server.read_string(made["auth.ini"])
    client.read_string(made["credentials"])
    assert server["mlflow"]["database_uri"] == url
    assert server["mlflow"]["admin_password"] == client["mlflow"]["mlflow_tracking_password"]
    assert made["flask-secret-key"] not in made["auth.ini"]


@pytest.mark.parametrize(
    "given", [["--postgres=secret:host"], ["--mlflow=secret"], ["--postgres=secret:host:"]]
)
def test_a_flag_with_parts_missing_is_named(
    given: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(secrets, "connect", lambda: None)
    least = [
        "--namespace=n",
        "--prefix=p",
        "--keys=",
        "--model-namespaces=",
        "--engine-namespaces=",
    ]
    assert secrets.main([*least, *given]) == 2
    flag = given[0].partition("=")[0]
    assert capsys.readouterr().err.startswith(f"{flag} = ")
