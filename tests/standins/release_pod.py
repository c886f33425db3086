"""A release in a pod: `release_server.py` started as charts start predictor and assistant.

Stands in for both where a test is about rollouts: a pod of it is Ready in a second. It takes the
charts' flags and needs none of their files. What becomes of a release is told by its version:

    901  ends at once, with what a person needs as its last words
    902  its init container does not get the bundle
    903  starts and never becomes ready
    904  answers every fourth call with 500
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from pathlib import Path


def main() -> int:
    """Serve, or fail as the version tells."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", default="8080")
    parser.add_argument("--release", default="")
    parser.add_argument("--pieces", default="3")
    parser.add_argument("--pace-ms", default="100")
    options, _ = parser.parse_known_args()
    version = version_of(options.release)
    if Path(sys.argv[0]).name == "fetch.py":
        if version == 902:
            print(f"bundle {options.release} is not in the store", file=sys.stderr)
        return int(version == 902)
    if version == 901:
        print("the runtime lacks numpy 2.2", file=sys.stderr)
        return 78
    if version == 903:
        time.sleep(3600)
    os.environ["PROA_RELEASE"] = options.release
    more = ["--pieces", options.pieces, "--pace-ms", options.pace_ms]
    if version == 904:
        more += ["--error-ratio", "0.25"]
    sys.argv = ["release_server", "--host", "0.0.0.0", "--port", options.port, *more]
    import release_server  # type: ignore[import-not-found]  # beside this file in the image

    return int(release_server.main())


def version_of(release: str) -> int:
    """The version in `NAME/VERSION@DIGEST`; 0 when there is none."""
    found = re.search(r"/(\d+)@", release)
    return int(found[1]) if found else 0


if __name__ == "__main__":
    sys.exit(main())
