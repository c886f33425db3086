"""A model as forty lines of the standard library: what `services/CONTRACT.md` asks for, no more."""

import argparse
import json
import math
import os
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

RELEASE = os.environ["PROA_RELEASE"]


def probability(row: dict) -> float:
    """A rule that somebody wrote by hand."""
    return 1 / (1 + math.exp(0.4 * (row["usage"] - 5) - 0.05 * (row["age"] - 45)))


class Handler(BaseHTTPRequestHandler):
    """Both doors, health, and the release's name on every answer."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.answer(200, {"release": RELEASE, "kind": "classic"})

    def do_POST(self) -> None:
        try:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
            if self.path.endswith("/infer"):
                columns = {tensor["name"]: tensor["data"] for tensor in body["inputs"]}
                rows = [dict(zip(columns, values)) for values in zip(*columns.values())]  # noqa: B905
            else:
                rows = body["rows"]
            found = [probability(row) for row in rows]
        except (ValueError, KeyError, TypeError) as error:
            self.answer(400, {"error": {"message": repr(error), "type": "invalid_input"}})
            return
        tensor = {"name": "probability", "datatype": "FP64", "shape": [len(found)], "data": found}
        predictions = [{"probability": p, "label": p >= 0.5} for p in found]
        infer = {"model_name": RELEASE.split("/")[0], "outputs": [tensor]}
        predict = {"predictions": predictions, "release": RELEASE}
        self.answer(200, infer if self.path.endswith("/infer") else predict)

    def answer(self, status: int, value: object) -> None:
        """Send JSON under the release's name."""
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.send_header("x-proa-release", RELEASE)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    server = ThreadingHTTPServer(("127.0.0.1", parser.parse_args().port), Handler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    server.serve_forever(poll_interval=0.05)
