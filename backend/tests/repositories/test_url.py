import socket
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.repositories.git_error import GitError
from app.repositories.url import RepositoryUrl, UrlNotAllowedError, UrlPolicy, is_public, parse_url, resolve

STRICT = UrlPolicy()
LOCAL = UrlPolicy(allow_local=True)


@pytest.mark.parametrize(
    ("url", "normalized", "owner", "name"),
    [
        ("https://github.com/octocat/Hello-World", "https://github.com/octocat/Hello-World", "octocat", "Hello-World"),
        ("HTTPS://GitHub.COM:443/octocat/x.git", "https://github.com/octocat/x.git", "octocat", "x"),
        ("https://git.example.com:8443/g/sub/x.git/", "https://git.example.com:8443/g/sub/x.git", "g/sub", "x"),
        ("https://git.example.com./a//b", "https://git.example.com/a/b", "a", "b"),
        ("https://git.example.com/x.git", "https://git.example.com/x.git", "git.example.com", "x"),
        ("https://[2A00:1450::1]/a/b", "https://[2a00:1450::1]/a/b", "a", "b"),
        ("https://example.com/ä/b", "https://example.com/%C3%A4/b", "ä", "b"),
        ("git@github.com:octocat/x.git", "ssh://git@github.com/octocat/x.git", "octocat", "x"),
        ("ssh://github.com/octocat/x.git", "ssh://git@github.com/octocat/x.git", "octocat", "x"),
        ("ssh://git@example.com:22/a/b", "ssh://git@example.com/a/b", "a", "b"),
        ("ssh://gitea@example.com:2222/a/b", "ssh://gitea@example.com:2222/a/b", "a", "b"),
    ],
)
def test_one_repository_has_one_url(url: str, normalized: str, owner: str, name: str) -> None:
    """Else the same repository is registered twice."""
    parsed = parse_url(url, STRICT)
    assert (parsed.url, parsed.owner, parsed.name) == (normalized, owner, name)


@pytest.mark.parametrize(
    ("url", "advice"),
    [
        ("", "1 to 2048"),
        ("-https://example.com/a/b", "'-'"),
        ("--upload-pack=touch /tmp/x", "'-'"),
        ("https://user:secret@example.com/a/b", "access_token"),
        ("https://secret@example.com/a/b", "access_token"),
        ("https://@example.com/a/b", "access_token"),
        ("ssh://git:secret@example.com/a/b", "password"),
        ("ssh://-oProxyCommand=x/a/b", "host name"),
        ("ssh://-oProxyCommand=x@example.com/a/b", "password or an odd user"),
        ("-oProxyCommand=x@example.com:a/b", "'-'"),
        ("http://example.com/a/b", "unencrypted"),
        ("git://example.com/a/b", "unencrypted"),
        ("ftp://example.com/a/b", "Only https"),
        ("ext::sh -c 'touch /tmp/x'", "space"),
        ("ext::sh", "helpers"),
        ("fd::17", "helpers"),
        ("file:///srv/git/x", "not allowed here"),
        ("/srv/git/x", "start with https"),
        ("example.com:a/b", "start with https"),
        ("https://example.com/a b", "space"),
        ("https://example.com/a/b\n", "space"),
        ("https://example.com/a\x00/b", "invisible"),
        ("https://exam\u200bple.com/a/b", "invisible"),
        ("https://example.com\\@evil.example/a/b", "backslash"),
        ("https://example.com/a/b?x=1", "query"),
        ("https://example.com/a/b#", "query"),
        ("https://example.com/", "no repository"),
        ("https://example.com/a/.git", "no repository"),
        ("https:///a/b", "no host"),
        ("https://example.com/../a", "'..'"),
        ("https://example.com/%2e%2e/a", "'..'"),
        ("https://example.com/a%2fb/c", "slash"),
        ("https://example.com/a%00/c", "control"),
        ("https://example.com/a%zz/c", "%25"),
        ("https://example.com:0/a/b", "port"),
        ("https://example.com:99999/a/b", "port"),
        ("https://ex_ample..com/a/b", "host name"),
        ("https://bücher.example/a/b", "ASCII"),
        ("https://127.1/a/b", "four decimal"),
        ("https://2130706433/a/b", "four decimal"),
        ("https://0x7f.0.0.0x1/a/b", "four decimal"),
        ("https://[fe80::1%25eth0]/a/b", "IPv6"),
        ("https://[::1/a/b", "cannot be read"),
        ("https://127.0.0.1/a/b", "private"),
        ("https://169.254.169.254/latest/meta-data", "private"),
        ("https://[::1]/a/b", "private"),
        ("https://localhost/a/b", "private"),
        ("ssh://git@build.localhost/a/b", "private"),
        ("git@10.0.0.1:a/b", "private"),
        ("https://example.com/" + "a" * 300, "255"),
        ("https://example.com/" + "ä" * 400, "2048"),
    ],
)
def test_a_url_that_is_not_plainly_one_is_refused(url: str, advice: str) -> None:
    """Each of these made some program run a command, show a password, or reach another host than it seemed to."""
    with pytest.raises(UrlNotAllowedError) as caught:
        parse_url(url, STRICT)
    assert advice in str(caught.value)
    assert "secret" not in str(caught.value)


def test_local_repositories_need_permission() -> None:
    parsed = parse_url("file:///srv/git/team%20a/x.git", LOCAL)
    assert parsed == RepositoryUrl("file:///srv/git/team%20a/x.git", "file", None, None, "team a", "x")
    with pytest.raises(UrlNotAllowedError, match="names no other host"):
        parse_url("file://server/srv/git/x", LOCAL)


SCHEMES = st.sampled_from(["https://", "ssh://", "file://", "http://", "ext::", "git@", "HTTPS://", ""])
HOSTS = st.sampled_from(["example.com", "user@example.com", "a:b@c", "[::1]", "[::1]:22", "1.2.3.4", "h:443", "-x", ""])
PATHS = st.lists(st.text(max_size=8), max_size=4).map("/".join)
URLS = st.one_of(
    st.text(max_size=60), st.builds(lambda s, h, c, p: s + h + c + p, SCHEMES, HOSTS, st.sampled_from("/:"), PATHS)
)


@given(URLS, st.booleans())
def test_parsing_refuses_or_gives_a_url_that_is_safe_and_final(url: str, allow_local: bool) -> None:
    """Whatever is typed: no other exception, no option for a program, no credentials, and the same result again."""
    policy = UrlPolicy(allow_local=allow_local)
    try:
        parsed = parse_url(url, policy)
    except UrlNotAllowedError:
        return
    assert parse_url(parsed.url, policy) == parsed
    assert parsed.url.isascii()
    assert parsed.url.isprintable()
    assert parsed.url.startswith(("https://", "ssh://", "file:///"))
    assert parsed.scheme != "file" or allow_local
    userinfo = parsed.url.split("/")[2].rpartition("@")[0]
    assert (userinfo == "") == (parsed.scheme != "ssh")
    assert ":" not in userinfo
    assert not any(part.startswith("-") for part in (parsed.host or "", userinfo))
    assert parsed.name


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
        "0.0.0.0",  # noqa: S104 - refused, not bound
        "224.0.0.1", "255.255.255.255", "240.0.0.1", "198.18.0.1", "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%eth0",
        "fd00:ec2::254", "fec0::1", "ff02::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1",
        "64:ff9b:1::1", "2002:7f00:1::", "2001:0:53aa:64c:0:0:0:0", "2001:db8::1", "nonsense",
    ],
)  # fmt: skip
def test_special_addresses_are_not_public(address: str) -> None:
    """Behind them are metadata services, databases and this very machine."""
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["140.82.121.3", "8.8.8.8", "2606:50c0:8000::153", "::ffff:8.8.8.8", "64:ff9b::808:808"]
)
def test_ordinary_addresses_are_public(address: str) -> None:
    assert is_public(address)


def _answers(*addresses: str) -> Any:
    return lambda *_args, **_kwargs: [
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in addresses
    ]


def test_one_private_address_among_public_ones_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection may go to any of them."""
    url = parse_url("https://example.com/a/b", STRICT)
    monkeypatch.setattr(socket, "getaddrinfo", _answers("8.8.8.8", "8.8.8.8", "8.8.4.4"))
    assert resolve(url, STRICT) == ("8.8.8.8", "8.8.4.4")
    monkeypatch.setattr(socket, "getaddrinfo", _answers("8.8.8.8", "10.0.0.1"))
    with pytest.raises(UrlNotAllowedError, match="private"):
        resolve(url, STRICT)
    assert resolve(url, UrlPolicy(allow_private_addresses=True)) == ("8.8.8.8", "10.0.0.1")


def test_a_name_that_is_not_found_may_be_found_later(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: object, **_kwargs: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(GitError, match=r"example\.com was not found") as caught:
        resolve(parse_url("https://example.com/a/b", STRICT), STRICT)
    assert caught.value.retryable


def test_a_local_repository_has_no_address() -> None:
    assert resolve(parse_url("file:///srv/x", LOCAL), STRICT) == ()
