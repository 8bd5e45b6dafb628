"""What git says of a host, in words for people, and whether it may pass."""

import pytest

from app.repositories.git_explanations import explain
from app.repositories.git_process import GitExitError

BROKEN_OFF = "The connection broke off: try later."


@pytest.mark.parametrize(
    "said",
    [
        b"error: RPC failed; curl 56 GnuTLS recv error (-110): The TLS connection was non-properly closed.\nearly EOF",
        b"fatal: unable to access 'https://host/a/b/': GnuTLS recv error (-54): Error in the pull function.",
        b"fatal: unable to access 'https://host/a/b/': OpenSSL SSL_read: SSL_ERROR_SYSCALL, errno 104",
        b"fatal: the remote end hung up unexpectedly",
    ],
)
def test_a_connection_that_broke_off_is_no_certificate(said: bytes) -> None:
    """It passes by itself; nobody should go looking for an authority."""
    found = explain(GitExitError(128, said))
    assert found is not None
    assert (str(found), found.retryable) == (BROKEN_OFF, True)


@pytest.mark.parametrize(
    "said",
    [
        b"server certificate verification failed. CAfile: none CRLfile: none",
        b"SSL certificate problem: unable to get local issuer certificate",
    ],
)
def test_a_certificate_is_one(said: bytes) -> None:
    found = explain(GitExitError(128, said))
    assert found is not None
    assert "certificate" in str(found)
    assert not found.retryable
