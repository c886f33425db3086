"""`runtime image`: the image in which a release with requirements of its own runs on a cluster."""

from __future__ import annotations

from importlib.metadata import version as version_of
from pathlib import Path

import click

from proa.cli.output import Output


@click.group()
def runtime() -> None:
    """The Python packages that releases bring."""


@runtime.command("image")
@click.argument("release")
@click.option("--registry", default="", help="What stands before proa-predictor in your images.")
@click.option("--tag", help="The tag of proa's images (default: this proa's version).")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("build/runtime"),
    show_default=True,
    help="The folder for the build context.",
)
@click.pass_obj
def image(output: Output, release: str, registry: str, tag: str | None, into: Path) -> None:
    """Write what builds the image of RELEASE's requirements; say the commands that follow."""
    from proa.release.image import write_context

    fleet = output.fleet()
    ref = fleet.release(release)
    made = write_context(
        fleet.manifest(ref),
        fleet.bundles,
        into,
        release=ref.short,
        registry=registry,
        version=tag or version_of("proa"),
    )
    if output.value({"image": made.reference, "lock": made.lock, "folder": str(into)}):
        return
    output.line(made.reference)
    output.say(f"next: docker build -t {made.reference} {into} && docker push {made.reference}")
    output.say(f"then: kubectl -n NAMESPACE apply -f {into}/runtimes.yaml")
