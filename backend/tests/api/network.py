"""A way to a service that can be blocked: connections stay open and nothing comes through any more."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from urllib.parse import urlsplit


class Gate:
    """Stands in front of a service and passes bytes on while it is open."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._passing = asyncio.Event()
        self._passing.set()
        self._tasks: set[asyncio.Task[None]] = set()

    def block(self) -> None:
        """Keep all connections, take new ones, and say nothing."""
        self._passing.clear()

    def open(self) -> None:
        """Pass on what has come since, and what comes."""
        self._passing.set()

    def open_to_new(self) -> None:
        """Pass on what new connections say; those there were stay silent for ever."""
        self._passing = asyncio.Event()
        self._passing.set()

    def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection."""
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers, passing = [writer], self._passing
        try:
            await passing.wait()
            far_reader, far_writer = await asyncio.open_connection(*self._target)
            writers.append(far_writer)
            await asyncio.gather(self._copy(reader, far_writer, passing), self._copy(far_reader, writer, passing))
        finally:
            for each in writers:
                each.close()
                with suppress(OSError):
                    await each.wait_closed()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, passing: asyncio.Event) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await passing.wait()
                writer.write(data)
                await writer.drain()
        writer.close()

    async def close(self) -> None:
        """Cut every connection."""
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def gate_before(url: str) -> AsyncIterator[tuple[Gate, str]]:
    """Yield a gate in front of the service at `url`, and the URL that leads through it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    gate = Gate(parts.hostname, parts.port)
    server = await asyncio.start_server(gate.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        yield gate, url.replace(f":{parts.port}", f":{port}")
    finally:
        server.close()
        await gate.close()
