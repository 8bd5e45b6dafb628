"""Access tokens at rest: encrypted by the newest key, readable by all."""

from base64 import urlsafe_b64encode
from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF


class TokenUnreadableError(Exception):
    """None of the keys made this ciphertext."""


class TokenVault:
    """Encrypts and decrypts tokens.

    Args:
        secret_keys: the current key first, then former ones that only decrypt.
    """

    def __init__(self, secret_keys: Sequence[str]) -> None:
        self._newest = _fernet(secret_keys[0])
        self._all = MultiFernet([_fernet(key) for key in secret_keys])

    def encrypt(self, token: str) -> bytes:
        """Return the ciphertext of `token`."""
        return self._all.encrypt(token.encode())

    def decrypt(self, ciphertext: bytes) -> str:
        """Return the token.

        Raises:
            TokenUnreadableError: made by a key that is not among ours.
        """
        try:
            return self._all.decrypt(ciphertext).decode()
        except InvalidToken:
            raise TokenUnreadableError from None

    def needs_rotation(self, ciphertext: bytes) -> bool:
        """Tell whether a former key made `ciphertext`."""
        try:
            self._newest.decrypt(ciphertext)
        except InvalidToken:
            return True
        return False


def _fernet(secret: str) -> Fernet:
    # A key of its own for this use, whatever else the secret serves for.
    key = HKDF(algorithm=SHA256(), length=32, salt=None, info=b"commandcenter access tokens").derive(secret.encode())
    return Fernet(urlsafe_b64encode(key))
