"""Clients of a system that is being released: lists, a repository, what isn't there, what is wrong; and errors.

Errors are real: a table is gone for a moment, and a request that needs it is answered with 500.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import httpx

from ops.stack import secret_store
from tests.native_stack import NativeStack
from tests.traffic import broken_table

_PAUSE_S: Final = 0.25
_ERROR_EVERY_S: Final = 8.0
_TIMEOUT_S: Final = 10
_LIST: Final = "/api/v1/repositories"
_ROUND: Final = (_LIST, f"{_LIST}?limit=5", "/api/v1/jobs", f"{_LIST}/999999", f"{_LIST}?limit=1000")


def database_url(stack: NativeStack) -> str:
    """Return where the application's own role may change its tables."""
    password = secret_store.parse((stack.data / "secrets.env").read_text())["DB_PASSWORD"]
    return f"postgresql://commandcenter:{password}@127.0.0.1:{stack.ports['POSTGRES_PORT']}/commandcenter"


class Traffic:
    """One client that asks and asks, restarts of the service or not.

    Args:
        url: of the service.
        database: its URL, for errors.
        repository: to register; only `verify` syncs it.

    Attributes:
        answered: how many answers there were by status; `not answered` where there was none.
    """

    def __init__(self, url: str, database: str, repository: Path) -> None:
        self.answered: Counter[str] = Counter()
        self._url = url
        self._database = database
        self._repository = repository
        self._one = ""
        self._done = threading.Event()
        self._failing = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        """Register the repository, and begin."""
        registered = httpx.post(f"{self._url}{_LIST}", json={"url": self._repository.as_uri()}, timeout=_TIMEOUT_S)
        self._one = f"{_LIST}/{registered.raise_for_status().json()['id']}"
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End."""
        self._done.set()
        self._thread.join()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Let a request fail every few seconds, until the block ends."""
        self._failing.set()
        try:
            yield
        finally:
            self._failing.clear()

    def _run(self) -> None:
        next_error_s = time.monotonic()
        with httpx.Client(base_url=self._url, timeout=_TIMEOUT_S, trust_env=False) as client:
            while not self._done.wait(_PAUSE_S):
                for path in (*_ROUND, self._one):
                    self._ask(client, path)
                if self._failing.is_set() and time.monotonic() >= next_error_s:
                    next_error_s = time.monotonic() + _ERROR_EVERY_S
                    with broken_table(self._database):
                        self._ask(client, _LIST)

    def _ask(self, client: httpx.Client, path: str) -> None:
        try:
            self.answered[str(client.get(path).status_code)] += 1
        except httpx.TransportError:
            self.answered["not answered"] += 1
