"""Tokens at rest: unreadable without a key, readable through a rotation."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.vault import TokenUnreadableError, TokenVault

OLD, NEW = "the key of last year, long enough", "the key of this year, long enough"


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=500), st.text(min_size=1).filter(str.isprintable))
def test_what_goes_in_comes_out(token: str, key: str) -> None:
    """Whatever the token and the key are made of."""
    vault = TokenVault([key])
    ciphertext = vault.encrypt(token)
    assert vault.decrypt(ciphertext) == token
    assert not vault.needs_rotation(ciphertext)


def test_the_ciphertext_does_not_hold_the_token() -> None:
    """And the same token twice can't be told from two tokens."""
    vault = TokenVault([NEW])
    first, second = vault.encrypt("a-token"), vault.encrypt("a-token")
    assert b"a-token" not in first
    assert first != second


def test_a_former_key_decrypts_and_the_newest_encrypts() -> None:
    """A key can be changed without asking every user for a new token."""
    written = TokenVault([OLD]).encrypt("a-token")
    rotated = TokenVault([NEW, OLD])
    assert rotated.decrypt(written) == "a-token"
    assert rotated.needs_rotation(written)
    assert TokenVault([NEW]).decrypt(rotated.encrypt("a-token")) == "a-token"
    with pytest.raises(TokenUnreadableError):
        TokenVault([OLD]).decrypt(rotated.encrypt("a-token"))


@pytest.mark.parametrize(
    "ciphertext",
    [b"", b"\x00", b"no ciphertext", TokenVault([OLD]).encrypt("a-token")[:-1]],
    ids=["nothing", "a byte", "a text", "cut off"],
)
def test_what_no_key_made_is_unreadable(ciphertext: bytes) -> None:
    """One error to handle, whatever is wrong with it; and it quotes nothing."""
    with pytest.raises(TokenUnreadableError) as caught:
        TokenVault([NEW, OLD]).decrypt(ciphertext)
    assert str(caught.value) == ""
