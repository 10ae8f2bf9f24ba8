"""The nonces of the jobs of a journal, which every process that can read its secret knows again.

The first half of a nonce stands for the job: it is made of the job's key. The second half is made
of the first one, and shows to a process that has never heard of the job that the nonce is genuine.
"""

from __future__ import annotations

import base64
import hmac

#: Bytes of each half, and the characters that they are in a URL.
_BYTES, _LENGTH = 12, 16


class Nonces:
    """Nonces made with one secret.

    Args:
        secret: the journal's.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def __repr__(self) -> str:
        return "<Nonces>"

    def of(self, key: str) -> str:
        """The nonce of the job with this key."""
        return self._signed(self._half("job", key.encode()))

    def whole(self, job: str) -> str:
        """The nonce of the job that this stands for."""
        return self._signed(base64.urlsafe_b64decode(job))

    def job_in(self, nonce: str) -> str | None:
        """What stands for the job of a nonce; None if the nonce is forged."""
        try:
            job = base64.urlsafe_b64decode(nonce[:_LENGTH].encode("ascii"))
        except ValueError:
            return None
        genuine = self._signed(job).encode()
        is_genuine = hmac.compare_digest(genuine, nonce.encode("utf-8", "surrogatepass"))
        return nonce[:_LENGTH] if is_genuine else None

    def _signed(self, job: bytes) -> str:
        return base64.urlsafe_b64encode(job + self._half("nonce", job)).decode()

    def _half(self, of: str, text: bytes) -> bytes:
        return hmac.digest(self._secret, f"{of} ".encode() + text, "sha256")[:_BYTES]
