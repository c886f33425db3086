"""Bring one release's bundle to this machine: `python -m proa.release.fetch --help`.

The init container of predictors and assistants. It alone has the bundle store's credentials; the
process that serves reads the folder it filled, and speaks to no store. Without a release (a model
that nothing was promoted to yet) there is nothing to do. What fails is said in one line with what
was wrong, where, and what was expected: Kubernetes shows it as the termination message.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from proa.errors import Conflict, ProaError, Unavailable
from proa.release.bundle import BundleStore
from proa.release.reference import ReleaseRef
from proa.release.transfer import Copied, copy_release

__all__ = ["fetch", "main"]

_PAUSES: Final = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Seconds before another try when the store does not answer; then the kubelet tries again."""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser("proa.release.fetch", description=__doc__, allow_abbrev=False)
    parser.add_argument("--release", required=True, help="name/version@sha256:hex, or nothing")
    parser.add_argument("--from", dest="source", required=True, help="file:///… or s3://…")
    parser.add_argument("--to", required=True, help="file:///folder")
    parser.add_argument(
        "--lay", type=Path, metavar="FOLDER", help="lay the release's files out in FOLDER/HEX, too"
    )
    return parser.parse_args(argv)


def fetch(
    ref: ReleaseRef,
    source: BundleStore,
    target: BundleStore,
    *,
    pause: Callable[[float], None] = time.sleep,
    say: Callable[[str], None] = print,
) -> Copied:
    """Copy a release, again while the store does not answer; blobs that arrived stay.

    Raises:
        ProaError: what is missing, damaged or refused; Unavailable after the last try.
    """
    copied = _patiently(lambda: copy_release(ref.digest, source, target), pause, say)
    if copied.manifest.name != ref.name:
        raise Conflict(
            f"{ref.short}: the bundle {ref.digest} is of {copied.manifest.name!r}, "
            f"expected {ref.name!r}",
            code="corrupt",
        )
    return copied


def _patiently(
    work: Callable[[], Copied], pause: Callable[[float], None], say: Callable[[str], None]
) -> Copied:
    for seconds in _PAUSES:
        try:
            return work()
        except Unavailable as error:
            say(f"fetch: {error.message}; once more in {seconds:.0f} s")
            pause(seconds)
    return work()


def main(argv: Sequence[str] | None = None) -> int:
    """Fetch; returns the exit code of `proa.errors`."""
    asked = parse(argv)
    if not asked.release:
        print("fetch: no release yet: nothing to bring")
        return 0
    began = time.monotonic()
    try:
        ref = ReleaseRef.parse(asked.release)
        source, target = BundleStore.from_url(asked.source), BundleStore.from_url(asked.to)
        copied = fetch(ref, source, target)
        if asked.lay is not None:
            target.materialize(ref.digest, asked.lay / ref.digest.removeprefix("sha256:"))
    except ProaError as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"fetch {asked.release} from {asked.source}: {error.message}{hint}", file=sys.stderr)
        return error.exit_code
    if copied.no_weights is not None:
        print(f"fetch: weights {copied.no_weights} are not in the store: expected in --weights")
    print(
        f"fetch: {ref.short}: {copied.files} blobs, {copied.moved} brought, "
        f"{copied.moved_bytes / 1e6:.1f} MB, {time.monotonic() - began:.2f} s"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
