"""`python -m tests.cluster up|down|status|images`: a real cluster on this machine, for developers.

`images` builds every image with buildah and prints its size; the others are about the cluster.
"""

from __future__ import annotations

import sys

from tests.cluster import images, machine, node, packages, record
from tests.cluster import layout as at


def main(arguments: list[str]) -> int:
    layout = at.here()
    if arguments == ["up"]:
        reason = packages.missing()
        if reason:
            print(reason, file=sys.stderr)
            return 1
        if not node.running(layout):
            node.start(layout, kept=True)
        print(f"export KUBECONFIG={layout.kubeconfig}")
        return 0
    if arguments == ["down"]:
        node.stop(layout)
        left = machine.left_over(layout)
        print("\n".join(f"still there: {item}" for item in left) or "nothing is left")
        return 1 if left else 0
    if arguments == ["status"]:
        there = record.read(layout.record)
        for name, process in (there.processes if there else {}).items():
            state = "runs" if record.alive(process) else "is gone"
            print(f"{name:24} {process[0]:>8} {state}")
        if there is None:
            print("there is no cluster on this machine")
        return 0
    if arguments == ["images"]:
        packages.install()
        for name, size in images.build(images.SERVICES).items():
            print(f"{name:32} {size / 1e6:6.0f} MB")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
