"""HTTP to what runs on this machine."""

import ssl
from typing import Any, Final

import httpx

# Accepts no certificate. Made by httpx itself, each client reads all of the system's first: 50 ms of processor time,
# at every look at every part.
_NO_CERTIFICATE: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def client(timeout_s: float, **options: Any) -> httpx.Client:
    """Return a client for plain HTTP; https fails.

    Args:
        timeout_s: for connecting, and for each read of the answer.
        options: further ones of `httpx.Client`.
    """
    # trust_env: a proxy for the Internet has no business with the loopback.
    return httpx.Client(verify=_NO_CERTIFICATE, timeout=timeout_s, trust_env=False, **options)


def get(url: str, timeout_s: float = 5, **options: Any) -> httpx.Response:
    """Return the answer to one GET; `options` are further ones of `httpx.Client.get`.

    Raises:
        httpx.HTTPError: nobody answers.
    """
    with client(timeout_s) as asking:
        return asking.get(url, **options)
