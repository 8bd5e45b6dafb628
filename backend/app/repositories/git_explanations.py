"""What git says when it fails, in words for people: the reason, and whether it may pass by itself."""

import re
from typing import Final

from app.repositories.git_error import GitError
from app.repositories.git_process import GitExitError
from app.repositories.git_remote import NO_ACCESS, basic

_EXPLANATIONS: Final = (
    (rb"no space left on device", GitError("The disk that holds the clones is full.", True)),
    (rb"out of memory|unable to (mmap|allocate)|signal 9", GitError("Git ran out of memory on this repository.")),
    (rb"dubious ownership", GitError("The local repository belongs to another user.")),
    (
        rb"host key verification failed|host identification has changed",
        GitError("The SSH host key is not the known one: ask the host's owner, then remove the old key."),
    ),
    (
        rb"could not resolve|connect to|connection (refused|reset|closed)|timed out|too slow|unreachable|no route",
        GitError("The host cannot be reached: check the network, or try later.", True),
    ),
    (
        rb"certificate verif|certificate problem|server certificate|ssl certificate|issuer certificate",
        GitError("The host's certificate cannot be verified: give its authority as CA file."),
    ),
    # Before what it came to: GnuTLS and OpenSSL call a connection that broke off an error of theirs.
    (
        rb"hung up|early eof|rpc failed|unexpected disconnect|expected flush|gnutls recv|ssl_error_sys|ssl_read",
        GitError("The connection broke off: try later.", True),
    ),
    (rb"returned error: (429|5\d\d)", GitError("The host is busy or down: try later.", True)),
    (
        rb"permission denied|authentication failed|could not read (username|password)|returned error: 40[13]",
        GitError("The host refuses access: check the access token, or for SSH the worker's key."),
    ),
    (rb"not found|does not exist|does not appear to be a git repository|returned error: 404", GitError(NO_ACCESS)),
    (rb"returned error: 30\d|redirect", GitError("The host redirects elsewhere: give the URL that it redirects to.")),
)


def explain(error: GitExitError) -> GitError | None:
    """Return what the failure of a git command that talked to a remote means; None where its words are not known."""
    for pattern, explained in _EXPLANATIONS:
        if re.search(pattern, error.stderr, re.IGNORECASE):
            return GitError(explained.reason, explained.retryable)
    return None


def describe(error: GitExitError, secrets: list[str]) -> str:
    """Return what git said, for the log: printable, without `secrets` (tokens, folders) in any form that git has."""
    text = error.stderr.decode("utf-8", "replace")
    forms = [form for secret in secrets if secret for form in (basic(secret).removeprefix("Basic "), secret)]
    for form in sorted(forms, key=len, reverse=True):
        text = text.replace(form, "[removed]")
    printable = "".join(character if character.isprintable() else " " for character in text)
    return f"git ended with code {error.code}: {' '.join(printable.split())[-1000:]}"
