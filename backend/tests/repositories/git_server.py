"""An HTTPS server with real repositories: git's own `http-backend` behind Python's HTTP server."""

import base64
import datetime as dt
import ipaddress
import os
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


def make_certificate(directory: Path) -> Path:
    """Write a certificate for `localhost` and 127.0.0.1 with its key into one file, which is its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    addresses = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = directory / "certificate.pem"
    file.write_bytes(
        certificate.public_bytes(serialization.Encoding.PEM)
        + key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return file


@dataclass
class GitServer:
    """What a test may set, and what the server saw.

    Args:
        root: the folder with the repositories.
        certificate: its own, and its authority.
        token: what must be shown, or None.
        redirects: paths to URLs.
        status: answered to everything, or None.
        dumb: whether to answer as a server that knows nothing of Git.
        pause_s: slept before each answer to a POST, that is, to what follows after the server was found.
        held: beginnings of paths of which no POST is answered until they are taken out.
        seen: of each request, its path and its Authorization.
        stopped: set when the server ends, so that no handler outlives its test.
    """

    root: Path
    certificate: Path
    port: int = 0
    token: str | None = None
    redirects: dict[str, str] = field(default_factory=dict)
    status: int | None = None
    dumb: bool = False
    pause_s: float = 0
    held: set[str] = field(default_factory=set)
    seen: list[tuple[str, str | None]] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def url(self, path: str, host: str = "localhost") -> str:
        """Return the URL of a path on it."""
        return f"https://{host}:{self.port}/{path}"


@contextmanager
def git_server(root: Path, certificate: Path) -> Iterator[GitServer]:
    """Serve the repositories below `root`."""
    state = GitServer(root, certificate)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"state": state}))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    server.daemon_threads = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        state.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    state: GitServer

    def do_GET(self) -> None:
        self._answer(b"")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        while any(self.path.startswith(each) for each in tuple(self.state.held)):
            if self.state.stopped.wait(0.02):
                return
        if not self.state.stopped.wait(self.state.pause_s):
            self._answer(body)

    def _answer(self, body: bytes) -> None:
        state = self.state
        path, _, query = self.path.partition("?")
        authorization = self.headers.get("Authorization")
        state.seen.append((path, authorization))
        if state.status is not None:
            self._send(state.status)
        elif target := state.redirects.get(path):
            self._send(301, {"Location": target})
        elif state.token is not None and not self._is_allowed(authorization):
            self._send(401, {"WWW-Authenticate": 'Basic realm="git"'})
        elif state.dumb:
            self._send(200, {"Content-Type": "text/plain"}, b"")
        else:
            self._run(path, query, body)

    def _is_allowed(self, authorization: str | None) -> bool:
        if authorization is None or not authorization.startswith("Basic "):
            return False
        return base64.b64decode(authorization[6:]).decode().partition(":")[2] == self.state.token

    def _run(self, path: str, query: str, body: bytes) -> None:
        variables = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": str(self.state.root),
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, capture_output=True, env=variables, check=False)
        head, _, content = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self._send(int(headers.pop("Status", "200").split()[0]), headers, content)

    def _send(self, status: int, headers: dict[str, str] | None = None, content: bytes = b"") -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_args: Any) -> None:
        """Keep quiet."""
