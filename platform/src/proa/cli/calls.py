"""`predict`, `chat`, `costs`: calls and their price."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import orjson

from proa.cli.output import Output, short
from proa.errors import InvalidInput


def calls_commands() -> list[click.Command]:
    """The commands of this file."""
    return [predict, chat, costs]


@click.command()
@click.argument("name")
@click.option("--entity", "entities", multiple=True, metavar="KEY=VALUE[,KEY=VALUE]")
@click.option("--row", "rows", multiple=True, metavar="JSON", help="One row of raw columns.")
@click.option(
    "--file",
    "path",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="JSON lines, one row each.",
)
@click.option("--explain", is_flag=True, help="With the reasons (SHAP).")
@click.option("--at", metavar="TIME", help="Event time, RFC 3339; needs the right replay.")
@click.pass_obj
def predict(
    output: Output,
    name: str,
    entities: tuple[str, ...],
    rows: tuple[str, ...],
    path: Path | None,
    explain: bool,
    at: str | None,
) -> None:
    """Ask a classic model: by entity (features are read online) or by raw rows."""
    given = [_object(row, "--row") for row in rows]
    if path is not None:
        lines = path.read_text().splitlines()
        given += [_object(line, f"{path}:{number}") for number, line in enumerate(lines, 1)]
    if bool(entities) == bool(given):
        raise InvalidInput("give --entity, or --row or --file, and not both")
    answer = output.fleet().predict(
        name,
        rows=given or None,
        entities=[_entity(entity) for entity in entities] or None,
        explain=explain,
        headers={"x-proa-event-time": at} if at else None,
    )
    value = {
        "release": answer.release,
        "request": answer.request,
        "predictions": answer.predictions,
    }
    if output.value(value):
        return
    for prediction in answer.predictions:
        reasons = prediction.pop("reasons", None)
        output.line("  ".join(f"{key} {_brief(item)}" for key, item in prediction.items()))
        for reason in (reasons or [])[:5]:
            output.line(
                f"    {reason['contribution']:+.3f}  {reason['feature']} = {reason['value']}"
            )
    output.say(f"{short(answer.release)}, request {answer.request}")


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidInput(f"{where}: not valid JSON: {error}") from error
    if not isinstance(value, dict):
        raise InvalidInput(f"{where}: expected a JSON object of column: value")
    return value


def _entity(text: str) -> dict[str, str]:
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(key and equals for key, equals, _ in pairs):
        raise InvalidInput(f"--entity {text!r}: expected key=value, as flight_id=…")
    return {key: value for key, _, value in pairs}


def _brief(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@click.command()
@click.argument("name")
@click.argument("question", required=False)
@click.pass_obj
def chat(output: Output, name: str, question: str | None) -> None:
    """Ask a language model; without a question, talk until an empty line."""
    fleet = output.fleet()
    if question is not None and output.as_json:
        output.value(fleet.chat(name, [{"role": "user", "content": question}]))
        return
    messages: list[dict[str, str]] = []
    while True:
        text = question if question is not None else click.prompt("you", default="", err=True)
        if not text:
            return
        messages.append({"role": "user", "content": text})
        parts = []
        last: Mapping[str, Any] = {}
        for chunk in fleet.chat_stream(name, messages):
            for choice in chunk.get("choices", []):
                piece = choice.get("delta", {}).get("content") or ""
                click.echo(piece, nl=False)
                parts.append(piece)
            last = chunk
        click.echo()
        messages.append({"role": "assistant", "content": "".join(parts)})
        _say_source(output, last)
        if question is not None:
            return


def _say_source(output: Output, last: Mapping[str, Any]) -> None:
    extra, usage = last.get("proa") or {}, last.get("usage") or {}
    if extra:
        output.say(
            f"{short(extra['release'])}, {usage.get('prompt_tokens')} tokens in, "
            f"{usage.get('completion_tokens')} out, request {extra['request']}"
        )


@click.command()
@click.option(
    "--by",
    default="team",
    show_default=True,
    type=click.Choice(["team", "feature", "model", "release", "purpose"]),
)
@click.option("--since", metavar="TIME", help="RFC 3339.")
@click.option("--until", metavar="TIME")
@click.pass_obj
def costs(output: Output, by: str, since: str | None, until: str | None) -> None:
    """Calls, tokens and cost of both kinds of model, on one bill."""
    query = {key: value for key, value in (("since", since), ("until", until)) if value}
    bill = output.fleet().costs(by, **query)
    if output.value(bill):
        return
    rows = [
        (
            row["key"] or "-",
            row["calls"],
            row["engine_calls"],
            row["tokens_in"],
            row["tokens_out"],
            row["cost_micro"] / 1e6,
        )
        for row in bill["costs"]
    ]
    columns = [by, "calls", "engine calls", "tokens in", "tokens out", "cost"]
    output.table(columns, rows)
