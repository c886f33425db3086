"""`python -m tests.build`: everything that tests build, one after the other: tools, then images.

Nothing has to call it: every lane builds what it needs. A run of all lanes starts it early, so that
the charts and the cluster find it ready; two that build the same wait for each other.
"""

from __future__ import annotations

import signal
import sys

from tests import go, tools
from tests.charts import schemas
from tests.cluster import images, kubernetes, packages


def main() -> int:
    """Build in the order in which the lanes need it; without Go say so."""
    # An exception ends the compiler, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    reason = go.missing()
    if reason:
        print(reason, file=sys.stderr)
        return 0
    for name in tools.TOOLS:
        tools.path(name)
    for version in (schemas.OLDEST, schemas.NEWEST):
        schemas.of_kubernetes(version)
    schemas.of_others()
    kubernetes.folder()
    kubernetes.pause()
    if packages.missing() is None:
        packages.install()
        images.build(tuple(images.all_images()))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
