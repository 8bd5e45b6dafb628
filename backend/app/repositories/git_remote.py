"""The other side of a sync: where it is, how we show who we are, and what its refusals mean.

A connection goes to the addresses that were checked and to no others: git is told them, and follows no redirect. What
redirects there are (hosts answer so for a renamed repository) are followed beforehand, each hop checked anew.
"""

import base64
import functools
import os
import re
import shlex
import ssl
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urljoin

import httpx

from app.repositories.git_error import GitError
from app.repositories.git_process import Git, environment, keeps_to_addresses
from app.repositories.url import RepositoryUrl, UrlNotAllowedError, UrlPolicy, parse_url, resolve

MAX_REDIRECTS: Final = 3
CONNECT_TIMEOUT_S: Final = 10.0
# Hosts serve git to what calls itself git.
USER_AGENT: Final = "git/2.40.0 (CommandCenter)"

_ADVERTISEMENT: Final = "/info/refs?service=git-upload-pack"
_ADVERTISEMENT_TYPE: Final = "application/x-git-upload-pack-advertisement"
NO_ACCESS: Final = "Repository not found, or no access to it: check the URL and the access token."
_LS_REMOTE = re.compile(rb"(?:ref: (?P<target>[^\t\n]+)|(?P<oid>[0-9a-f]{40}|[0-9a-f]{64}))\t(?P<name>[^\n]+)")
_HEADS: Final = b"refs/heads/"
# Where HEAD names nothing: the branch that people mean by default.
_USUAL_BRANCHES: Final = (b"main", b"master", b"trunk", b"develop")


@dataclass(frozen=True, slots=True)
class SshFiles:
    """What ssh goes by besides the account's own files.

    Args:
        key: the private key to show, and no other.
        known_hosts: host keys that are known; what is seen first is noted there.
    """

    key: Path | None = None
    known_hosts: Path | None = None


NO_SSH_FILES: Final = SshFiles()


@dataclass(frozen=True, slots=True)
class Remote:
    """A repository at checked addresses.

    Args:
        url: after redirects.
        addresses: of its host; none for `file`.
        token: `user:password` or a token alone; None where another host was redirected to, for it is not theirs.
        ca_file: certificates to trust instead of the system's.
        ssh: files for ssh.
    """

    url: RepositoryUrl
    addresses: tuple[str, ...]
    token: str | None = field(repr=False)
    ca_file: Path | None = None
    ssh: SshFiles = NO_SSH_FILES

    def environment(self, scratch: Path) -> dict[str, str]:
        """Return the environment for git commands that talk to it; `scratch` is a folder for a file, if one is needed.

        The token is in it, in memory only: not on a command line, not in a URL, not on the disk.
        """
        if self.url.scheme == "file":
            return environment("file", extra={"GIT_CONFIG_GLOBAL": str(self._trust(scratch))})
        if self.url.scheme == "ssh":
            extra = {"GIT_SSH_COMMAND": shlex.join(self._ssh_command()), "GIT_SSH_VARIANT": "ssh"}
            if agent := os.environ.get("SSH_AUTH_SOCK"):
                extra["SSH_AUTH_SOCK"] = agent
            return environment("ssh", extra=extra)
        configuration = [
            ("http.followRedirects", "false"),
            ("http.lowSpeedLimit", "1000"),
            ("http.lowSpeedTime", "60"),
            ("http.proxy", ""),
            ("http.userAgent", USER_AGENT),
        ]
        if str(self.url.host) not in self.addresses:
            pinned = ",".join(f"[{address}]" if ":" in address else address for address in self.addresses)
            configuration.append(("http.curloptResolve", f"{self.url.host}:{self.url.port}:{pinned}"))
        if self.token is not None:
            configuration.append((f"http.{_origin(self.url)}/.extraHeader", f"Authorization: {basic(self.token)}"))
        return environment("https", configuration, {"GIT_SSL_CAINFO": str(self.ca_file)} if self.ca_file else None)

    def _ssh_command(self) -> list[str]:
        # One address: OpenSSH takes no list. -F none: no configuration but this, so nothing names another host.
        options = [
            f"HostName={self.addresses[0]}", f"HostKeyAlias={self.url.host}", "BatchMode=yes", "ConnectTimeout=15",
            "StrictHostKeyChecking=accept-new", "ServerAliveInterval=15", "ServerAliveCountMax=4", "ForwardAgent=no",
            "ClearAllForwardings=yes", "PermitLocalCommand=no", "ProxyCommand=none", "UpdateHostKeys=no",
        ]  # fmt: skip
        if self.ssh.known_hosts is not None:
            options.append(f'UserKnownHostsFile="{self.ssh.known_hosts}"')
        if self.ssh.key is not None:
            options += [f'IdentityFile="{self.ssh.key}"', "IdentitiesOnly=yes"]
        return ["ssh", "-F", "none", *(part for option in options for part in ("-o", option))]

    def _trust(self, scratch: Path) -> Path:
        # Git refuses another user's repository unless a file (not the environment) says that it is trusted. That an
        # operator allowed local repositories says so.
        path = unquote(self.url.url.removeprefix("file://"))
        quoted = [path.replace("\\", "\\\\").replace('"', '\\"') + suffix for suffix in ("", "/.git")]
        file = scratch / "gitconfig"
        file.write_text("[safe]\n" + "".join(f'\tdirectory = "{entry}"\n' for entry in quoted), encoding="utf-8")
        return file


@dataclass(frozen=True, slots=True)
class RemoteHead:
    """What a remote's HEAD is.

    Args:
        sha: its commit.
        branch: the default branch's name; None where HEAD is on none.
        ref: what to fetch.
    """

    sha: str
    branch: str | None
    ref: str


def locate(
    url: RepositoryUrl,
    policy: UrlPolicy,
    token: str | None,
    deadline: float,
    *,
    ca_file: Path | None = None,
    ssh: SshFiles = NO_SSH_FILES,
) -> Remote:
    """Return where `url` is to be fetched from: addresses checked, redirects followed, access proven.

    Raises:
        UrlNotAllowedError: the host, or one redirected to, is not allowed.
        GitError: not there, not readable with this token, or not reachable now.
    """
    if token is not None and not re.fullmatch(r"[\x21-\x7e]+", token):
        raise GitError("The access token holds a space or a character that no token has: enter it again.")
    if url.scheme == "ssh":
        token = None
    remote = Remote(url, resolve(url, policy), token, ca_file, ssh)
    if url.scheme != "https":
        return remote
    if not policy.allow_private_addresses and not keeps_to_addresses():
        raise GitError("Git is older than 2.37 here: it would ask for the host's address anew. Install a newer one.")
    for _ in range(MAX_REDIRECTS + 1):
        location = _probe(remote, deadline)
        if location is None:
            return remote
        remote = _follow(remote, location, policy)
    raise GitError("The host redirects in circles: check the URL.")


def read_head(git: Git, url: RepositoryUrl) -> RemoteHead | None:
    """Return the remote's HEAD, or None where it has no branch with a commit.

    A HEAD that names a branch that is gone is replaced by the only branch, or by the one that is usually the default.

    Raises:
        GitExitError: for `explain`.
    """
    head = parse_refs(git.output("ls-remote", "--symref", "--", url.url, "HEAD"))
    oid, target = head.oids.get(b"HEAD"), head.symbolic.get(b"HEAD", b"")
    if oid is not None and target.startswith(_HEADS):
        return RemoteHead(oid, _decode(target), os.fsdecode(target))
    listing = git.output("ls-remote", "--heads", "--", url.url, max_bytes=16 * 1024**2)
    heads = {name: sha for name, sha in parse_refs(listing).oids.items() if name.startswith(_HEADS)}
    if oid is not None:
        heads = {name: sha for name, sha in heads.items() if sha == oid}
    usual = (_HEADS + branch for branch in _USUAL_BRANCHES)
    chosen = next((name for name in usual if name in heads), next(iter(heads)) if len(heads) == 1 else None)
    if oid is not None:
        return RemoteHead(oid, None if chosen is None else _decode(chosen), "HEAD")
    return None if chosen is None else RemoteHead(heads[chosen], _decode(chosen), os.fsdecode(chosen))


@dataclass(frozen=True, slots=True)
class Refs:
    """What `git ls-remote --symref` printed: object IDs and symbolic targets, by name."""

    oids: dict[bytes, str]
    symbolic: dict[bytes, bytes]


def parse_refs(output: bytes) -> Refs:
    """Read the output of `git ls-remote --symref`; lines of any other form are passed over."""
    refs = Refs({}, {})
    for line in output.split(b"\n"):
        if match := _LS_REMOTE.fullmatch(line):
            if match["target"] is not None:
                refs.symbolic[match["name"]] = match["target"]
            else:
                refs.oids[match["name"]] = match["oid"].decode()
    return refs


def _probe(remote: Remote, deadline: float) -> str | None:
    """Ask for the repository as git does first; return where it redirects to, None where it is there."""
    headers = {"Host": remote.url.url.split("/")[2], "User-Agent": USER_AGENT, "Git-Protocol": "version=2"}
    if remote.token is not None:
        headers["Authorization"] = basic(remote.token)
    timeout = httpx.Timeout(max(0.1, min(30.0, deadline - time.monotonic())), connect=CONNECT_TIMEOUT_S)
    path = remote.url.url.removeprefix(_origin(remote.url)) + _ADVERTISEMENT
    failure: Exception | None = None
    with httpx.Client(verify=_tls(remote.ca_file), timeout=timeout, trust_env=False) as client:
        for address in remote.addresses:
            shown = f"[{address}]" if ":" in address else address
            url = f"https://{shown}:{remote.url.port}{path}"
            try:
                # The address is fixed here; the certificate must still be the host's.
                extensions = {"sni_hostname": str(remote.url.host)}
                with client.stream("GET", url, headers=headers, extensions=extensions) as response:
                    return _judge(response, remote)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
            except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
                failure = error
                break
    if "CERTIFICATE_VERIFY_FAILED" in str(failure):
        raise GitError("The host's certificate cannot be verified: give its authority in the CA file.") from None
    raise GitError(f"The host {remote.url.host} cannot be reached: check the network, or try later.", True) from None


def _judge(response: httpx.Response, remote: Remote) -> str | None:
    status = response.status_code
    if response.is_redirect:
        return str(response.headers["Location"])
    if status in {httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN}:
        if remote.token is None:
            raise GitError("Repository not found, or it is private: check the URL, or give an access token.")
        raise GitError("The host refuses the access token: give one that is valid and may read this repository.")
    if status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise GitError(NO_ACCESS)
    if status == httpx.codes.TOO_MANY_REQUESTS or status >= httpx.codes.INTERNAL_SERVER_ERROR:
        raise GitError(f"The host is busy or down (status {status}): try later.", retryable=True)
    if response.headers.get("Content-Type", "").partition(";")[0] != _ADVERTISEMENT_TYPE:
        # Also what the old "dumb" protocol would take, in which a server names files and hosts to read.
        raise GitError(f"There is no Git repository at this URL: the host answers with something else ({status}).")
    return None


def _follow(remote: Remote, location: str, policy: UrlPolicy) -> Remote:
    target = urljoin(remote.url.url + _ADVERTISEMENT, location)
    if not target.endswith(_ADVERTISEMENT):
        raise GitError("The host redirects to something that is no repository, such as a login page: check the URL.")
    try:
        url = parse_url(target.removesuffix(_ADVERTISEMENT), replace(policy, allow_local=False))
    except UrlNotAllowedError as error:
        raise UrlNotAllowedError(f"The host redirects to a URL that is not allowed. {error}") from None
    if url.scheme != "https":
        raise UrlNotAllowedError("The host redirects to a URL that is not https://.")
    token = remote.token if _origin(url) == _origin(remote.url) else None
    return replace(remote, url=url, addresses=resolve(url, policy), token=token)


def _origin(url: RepositoryUrl) -> str:
    return "/".join(url.url.split("/")[:3])


def basic(token: str) -> str:
    """Return what an Authorization header says with a token, or with `user:password`."""
    # A host that knows tokens takes any user name with them; where it must be a certain one, the token brings it.
    credentials = token if ":" in token else f"x-access-token:{token}"
    return "Basic " + base64.b64encode(credentials.encode()).decode()


def _decode(ref: bytes) -> str:
    return ref.removeprefix(_HEADS).decode("utf-8", "replace")


@functools.lru_cache(maxsize=4)
def _tls(ca_file: Path | None) -> ssl.SSLContext:
    # The system's certificates, as git uses, not those of a Python package.
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise GitError("The CA file cannot be read.") from None
