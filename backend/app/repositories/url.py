"""Which repository URLs are allowed, and which addresses a host may have.

`parse_url` judges the text and never touches the network; `resolve` asks the resolver. Whoever connects must use the
addresses that `resolve` returned: looking the name up again would let its owner answer differently the second time.
"""

import ipaddress
import re
import socket
import unicodedata
from dataclasses import dataclass
from typing import Final, NoReturn
from urllib.parse import SplitResult, quote, unquote_to_bytes, urlsplit

from app.repositories.git_error import GitError

MAX_URL_CHARACTERS: Final = 2048
MAX_NAME_CHARACTERS: Final = 255
DEFAULT_PORTS: Final = {"https": 443, "ssh": 22}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HELPER = re.compile(r"[A-Za-z0-9+.-]+::")
_SCP_LIKE = re.compile(r"(?P<user>[^@:/]+)@(?P<host>\[[^\]]*\]|[^@:/\[\]]+):(?P<path>[^:].*)")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NUMERIC = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
# What may stand in a path unencoded (RFC 3986, pchar), and `%` for what is encoded already.
_PATH_SAFE: Final = "/%:@!$&'()*+,;=~-._"
_BAD_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_NEVER_PUBLIC = (
    ipaddress.IPv6Network("64:ff9b:1::/48"),  # NAT64 for local use
    ipaddress.IPv6Network("2001::/32"),  # Teredo
    ipaddress.IPv6Network("fec0::/10"),  # site-local, before unique local addresses
)


class UrlNotAllowedError(ValueError):
    """A URL that is refused; the message is plain and says what to do instead."""


@dataclass(frozen=True, slots=True)
class UrlPolicy:
    """What an operator allows.

    Args:
        allow_local: whether `file://` URLs are taken. Whoever may register one may read that repository.
        allow_private_addresses: whether a host may have a private, loopback, link-local or otherwise special address.
    """

    allow_local: bool = False
    allow_private_addresses: bool = False


@dataclass(frozen=True, slots=True)
class RepositoryUrl:
    """A URL that was allowed.

    Args:
        url: normalized: scheme and host in lower case, no default port, no credentials (an `ssh` user is none).
        scheme: `https`, `ssh` or `file`.
        host: without brackets or port; None for `file`.
        port: also where the URL does not say; None for `file`.
        owner: what stands before the name, such as `group/subgroup`; the host or folder where nothing does.
        name: the last part, without `.git`.
    """

    url: str
    scheme: str
    host: str | None
    port: int | None
    owner: str
    name: str


def parse_url(url: str, policy: UrlPolicy) -> RepositoryUrl:
    """Return the parts of `url`, normalized. The result's `url` parses to the same result.

    Raises:
        UrlNotAllowedError: for everything that is not plainly a repository URL of an allowed kind.
    """
    _check_characters(url)
    if _HELPER.match(url):
        _refuse("Git remote helpers are not allowed: give an https:// or ssh:// URL.")
    if match := _SCHEME.match(url):
        scheme = match.group(1).lower()
    elif match := _SCP_LIKE.fullmatch(url):
        scheme = "ssh"
        url = f"ssh://{match['user']}@{match['host']}/{match['path'].lstrip('/')}"
    else:
        _refuse("Not a repository URL: start with https:// or ssh://.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UrlNotAllowedError("The URL cannot be read: check its host and port.") from None
    if "?" in url or "#" in url:
        _refuse("A repository URL has no query or fragment: remove what follows '?' or '#'.")
    if scheme == "file":
        return _parse_file(parts, policy)
    if scheme in {"http", "git"}:
        _refuse(f"{scheme}:// sends everything unencrypted: use https:// or ssh://.")
    if scheme not in DEFAULT_PORTS:
        _refuse("Only https:// and ssh:// URLs are allowed.")
    found = _parse_network(parts, scheme, port)
    if not policy.allow_private_addresses and _is_plainly_private(found.host or ""):
        _refuse(f"The host {found.host} is a private or otherwise special address, which is not allowed here.")
    return found


def resolve(url: RepositoryUrl, policy: UrlPolicy) -> tuple[str, ...]:
    """Return the addresses of the URL's host, in the resolver's order; none for `file`.

    Raises:
        UrlNotAllowedError: one of them is not public, and `policy` does not allow it.
        GitError: the name has no address now; retryable.
    """
    if url.host is None:
        return ()
    try:
        found = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise GitError(f"The host {url.host} was not found: check its name and the network.", retryable=True) from None
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise GitError(f"The host {url.host} has no address.", retryable=True)
    if not policy.allow_private_addresses and not all(is_public(address) for address in addresses):
        _refuse(f"The host {url.host} has a private or otherwise special address, which is not allowed here.")
    return addresses


def _is_plainly_private(host: str) -> bool:
    """Return whether a host is such an address, or a name of this machine; of other names only `resolve` can tell."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return not is_public(host)


def is_public(address: str) -> bool:
    """Return whether `address` is on the public internet, also by way of an IPv4 address that it embeds."""
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.scope_id is not None or any(ip in network for network in _NEVER_PUBLIC):
            return False
        embedded = ip.ipv4_mapped or ip.sixtofour
        if ip in _NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            ip = embedded
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)


def _check_characters(url: str) -> None:
    if not url or len(url) > MAX_URL_CHARACTERS:
        _refuse(f"A repository URL has 1 to {MAX_URL_CHARACTERS} characters.")
    if url.startswith("-"):
        _refuse("A repository URL does not start with '-'.")
    # C: control, format, surrogate, private, unassigned. Z: separators. What urlsplit drops silently is among them.
    if any(unicodedata.category(character)[0] in "CZ" for character in url) or "\\" in url:
        _refuse("The URL holds a space, a backslash or an invisible character: remove it.")
    if _BAD_PERCENT.search(url):
        _refuse("The URL holds a '%' that encodes nothing: write it as %25.")


def _parse_network(parts: SplitResult, scheme: str, port: int | None) -> RepositoryUrl:
    userinfo, at, _ = parts.netloc.rpartition("@")
    prefix = ""
    if scheme == "https" and at:
        _refuse("The URL holds a user name or password: remove it, and give an access_token instead.")
    if scheme == "ssh":
        user = userinfo if at else "git"
        if not _USER.fullmatch(user):
            _refuse("The URL holds a password or an odd user name: write ssh://git@host/owner/name.")
        prefix = f"{user}@"
    host = _check_host(parts.hostname or "")
    if port == 0:
        _refuse("The URL's port must lie between 1 and 65535.")
    segments = _check_path(parts.path)
    shown = f"[{host}]" if ":" in host else host
    if port is not None and port != DEFAULT_PORTS[scheme]:
        shown = f"{shown}:{port}"
    path = quote("/".join(segments), safe=_PATH_SAFE)
    *owners, name = _names(path.split("/"))
    return RepositoryUrl(
        url=_check_length(f"{scheme}://{prefix}{shown}/{path}"),
        scheme=scheme,
        host=host,
        port=port or DEFAULT_PORTS[scheme],
        owner=_check_name("/".join(owners) or host),
        name=_check_name(name),
    )


def _parse_file(parts: SplitResult, policy: UrlPolicy) -> RepositoryUrl:
    if not policy.allow_local:
        _refuse("file:// URLs are not allowed here: use https:// or ssh://.")
    if parts.netloc.lower() not in {"", "localhost"}:
        _refuse("A file:// URL names no other host: write file:///path/to/repository.")
    path = quote("/".join(_check_path(parts.path)), safe=_PATH_SAFE)
    *owners, name = _names(path.split("/"))
    return RepositoryUrl(
        url=_check_length(f"file:///{path}"),
        scheme="file",
        host=None,
        port=None,
        owner=_check_name(owners[-1] if owners else "local"),
        name=_check_name(name),
    )


def _check_host(host: str) -> str:
    host = host.removesuffix(".").lower()
    if not host:
        _refuse("The URL names no host.")
    if not host.isascii():
        _refuse("Write the host name in its ASCII form (xn--…).")
    if ":" in host:
        try:
            return str(ipaddress.IPv6Address(host.replace("%", "/")))  # An address with a zone is not one.
        except ValueError:
            _refuse("The URL's host is no IPv6 address.")
    labels = host.split(".")
    if len(host) > MAX_NAME_CHARACTERS - 2 or not all(_LABEL.fullmatch(label) for label in labels):
        _refuse("The URL's host is no host name.")
    if _NUMERIC.fullmatch(labels[-1]):
        # Else 127.1, 0x7f000001 and 2130706433 are names to one program and addresses to the next.
        try:
            return str(ipaddress.IPv4Address(host))
        except ValueError:
            _refuse("Write an IPv4 address as four decimal numbers.")
    return host


def _check_path(path: str) -> list[str]:
    segments = [segment for segment in path.split("/") if segment]
    for segment in segments:
        decoded = unquote_to_bytes(segment)
        if decoded in {b".", b".."} or b"/" in decoded or b"\\" in decoded:
            _refuse("The URL's path holds '.', '..' or an encoded slash: write it out.")
        if any(byte < 0x20 or byte == 0x7F for byte in decoded):  # noqa: PLR2004 - ASCII control characters
            _refuse("The URL's path holds a control character: remove it.")
    if not segments or segments[-1].removesuffix(".git") == "":
        _refuse("The URL names no repository: it ends in owner/name.")
    return segments


def _names(segments: list[str]) -> list[str]:
    decoded = [unquote_to_bytes(segment).decode("utf-8", "replace") for segment in segments]
    return [*decoded[:-1], decoded[-1].removesuffix(".git")]


def _check_name(name: str) -> str:
    if len(name) > MAX_NAME_CHARACTERS:
        _refuse(f"Owner and name have at most {MAX_NAME_CHARACTERS} characters each.")
    return name


def _check_length(url: str) -> str:
    if len(url) > MAX_URL_CHARACTERS:
        _refuse(f"A repository URL has 1 to {MAX_URL_CHARACTERS} characters.")
    return url


def _refuse(message: str) -> NoReturn:
    raise UrlNotAllowedError(message)
