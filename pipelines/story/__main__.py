"""`python -m story`: tell the whole story on this machine (`make demo`).

    python -m story                  # full scale, home in build/demo/home
    python -m story --scale test     # as the tests tell it
    python -m story --keep           # leave the platform running; `proa --home … down` ends it

Writes build/demo/summary.json for machines and build/demo/report.html for people.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from pathlib import Path

from proa.embedded.home import Home
from proa.embedded.up import down
from story.chapters import Story
from story.projects import lay_out
from story.report import write_report
from story.scale import FULL, TEST, Scale
from story.telling import Told, Voice, tell, write_summary

PROJECTS = Path(__file__).resolve().parents[1]
CHAPTERS = 7


def main() -> int:
    """Parse, tell, write; 0 when every chapter was told well."""
    parser = argparse.ArgumentParser(prog="story", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("build/demo"))
    parser.add_argument("--scale", choices=["full", "test"], default="full")
    parser.add_argument("--keep", action="store_true", help="leave the platform running")
    options = parser.parse_args()
    out = options.out.absolute()
    told, seconds = tell_story(out, FULL if options.scale == "full" else TEST, keep=options.keep)
    ok = write_summary(told, CHAPTERS, seconds, out / "summary.json")
    write_report(told, seconds, out / "report.html")
    print()
    for chapter in told:
        print(f"  {'ok  ' if chapter.ok else 'FAIL'} {chapter.seconds:6.1f} s  {chapter.name}")
    print(f"\n  {'everything held' if ok else 'NOT everything held'} after {seconds:.0f} s")
    print(f"  {out / 'summary.json'}\n  {out / 'report.html'}")
    return 0 if ok else 1


def tell_story(
    out: Path, scale: Scale, *, keep: bool = False, projects: Path = PROJECTS
) -> tuple[list[Told], float]:
    """Tell all chapters in a fresh home below `out`, of the two projects below `projects`."""
    laid_out = lay_out(projects, out / "projects", every=scale.every)
    home = out / "home"
    if home.exists():
        down(Home(home))  # an earlier telling may have been killed
        shutil.rmtree(home)
    home.mkdir(parents=True)
    began = time.monotonic()
    story = Story(Home(home), laid_out, scale, Voice(), os.environ)
    chapters = [
        ("The platform comes up", story.bring_up),
        ("A classic model: from flights to answers", story.classic),
        ("A language model: from documents to answers", story.llm),
        ("A bad change of each kind is refused", story.bad_changes),
        ("A good change of each kind, and back again", story.good_changes),
        ("April to June: the world changes, and a new release is made", story.spring),
        ("What it came to", story.summary),
    ]
    told = tell(chapters, story.voice, last=lambda: None if keep else story.take_down())
    return told, time.monotonic() - began


if __name__ == "__main__":
    sys.exit(main())
