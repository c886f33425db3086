"""`gc`: the bundle store without what no release needs."""

from __future__ import annotations

from dataclasses import asdict

import click

from proa.cli.output import Output


@click.command()
@click.option("--days", default=30, show_default=True, help="What is younger stays.")
@click.option(
    "--history",
    default=10,
    show_default=True,
    help="Releases per model that served and stay (the charts' revisionHistoryLimit).",
)
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@click.pass_obj
def gc(output: Output, days: int, history: int, dry_run: bool) -> None:
    """Delete from the bundle store what no release needs any more.

    Champion, challenger and the releases that a rollback or `kubectl rollout undo` reaches stay.
    One platform, one store: what another platform needs is not known here.
    """
    found = output.fleet().gc(days=days, history=history, dry_run=dry_run)
    unneeded = [asdict(blob) for blob in found.unneeded]
    told = {"kept": len(found.kept), "freed": found.freed, "unneeded": unneeded, "dry_run": dry_run}
    if output.value(told):
        return
    if unneeded:
        rows = [(blob.digest, f"{blob.size / 1e6:.1f} MB") for blob in found.unneeded]
        output.table(["blob", "size"], rows)
    verb = "would go" if dry_run else "gone"
    output.say(f"{len(unneeded)} blobs, {found.freed / 1e6:.1f} MB {verb}; {len(found.kept)} stay")
