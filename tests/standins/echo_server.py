"""A server with the health contract of proa's processes and with faults on command.

Stands in for the real services in tests of the supervisor, so that those need neither their
start-up time nor their data. Standard library only; it starts in 0.1 s.

    python echo_server.py --port N | --uds PATH [--say TEXT] [--start-delay S] [--exit-code N]
                          [--never-ready] [--ignore-term] [--drain S] [--child]

GET / answers {"say", "pid", "env", "cwd"}; GET /slow?seconds=S sleeps first; GET /crash ends the
process at once with code 3; GET /unready and /ready switch /readyz.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    say = ""
    ready = True
    draining = False

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        if parts.path == "/crash":
            print("crashed on command", file=sys.stderr, flush=True)
            os._exit(3)
        if parts.path == "/slow":
            time.sleep(float(parse_qs(parts.query)["seconds"][0]))
        if parts.path in ("/ready", "/unready"):
            type(self).ready = parts.path == "/ready"
        status = 200
        if parts.path == "/readyz" and (self.draining or not self.ready):
            status = 503
        self._answer(status)

    def _answer(self, status: int) -> None:
        value = {
            "say": self.say,
            "pid": os.getpid(),
            "env": dict(os.environ),
            "cwd": str(Path.cwd()),
        }
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "local"

    def log_message(self, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = False  # answers under way are finished before the process ends
    request_queue_size = 128


class UnixServer(Server):
    address_family = socket.AF_UNIX

    def server_bind(self) -> None:
        Path(self.server_address).unlink(missing_ok=True)
        socketserver.TCPServer.server_bind(self)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int)
    parser.add_argument("--uds")
    parser.add_argument("--say", default="")
    parser.add_argument("--start-delay", type=float, default=0.0)
    parser.add_argument("--exit-code", type=int)
    parser.add_argument("--never-ready", action="store_true")
    parser.add_argument("--ignore-term", action="store_true")
    parser.add_argument("--drain", type=float, default=0.0)
    parser.add_argument("--child", action="store_true", help="start a child that outlives a kill")
    chosen = parser.parse_args()
    if chosen.exit_code is not None:
        print(f"leaving with {chosen.exit_code}, as told", file=sys.stderr, flush=True)
        return chosen.exit_code
    if chosen.child:
        subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    time.sleep(chosen.start_delay)
    Handler.say = chosen.say
    Handler.ready = not chosen.never_ready
    server = (
        UnixServer(chosen.uds, Handler)
        if chosen.uds
        else Server(("127.0.0.1", chosen.port), Handler)
    )

    def leave(*_: object) -> None:
        Handler.draining = True
        if not chosen.ignore_term:
            threading.Timer(chosen.drain, server.shutdown).start()

    signal.signal(signal.SIGTERM, leave)
    server.serve_forever(poll_interval=0.02)
    server.server_close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
