"""One signed POST, tried again where that can help; what it answers is a sentence, never an exception."""

import hashlib
import hmac
import json
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from mondegreen.config import Seconds

_LONGEST_ANSWER = 65_536  # bytes; more than that nobody needs


class _TryAgainError(Exception):
    """The server is not able just now; the message says how."""


@dataclass(frozen=True)
class Webhook:
    """Where alerts go.

    Args:
        url: takes a POST of JSON. Its path is a secret at many services, so no message names it.
        secret: signs timestamp and body, see `signature`; None sends unsigned.
        timeout: for the connection, and for each wait for bytes of the answer.
        attempts: tries in all, when the server is not reached, does not answer in full, or answers 5xx.
        backoff: wait before the second try; it doubles from try to try.
    """

    url: str
    secret: str | None = None
    timeout: Seconds = 10.0
    attempts: int = 3
    backoff: Seconds = 1.0

    def post(self, payload: Mapping[str, Any]) -> str:
        """Delivers `payload`; "" when the server took it, else what went wrong.

        The answer is read to its end: a server that breaks off in the middle may not have taken anything. It may get
        the same delivery again then; X-Mondegreen-Delivery stays the same.
        """
        body = json.dumps(payload, ensure_ascii=False, sort_keys=True).encode()
        delivery = str(uuid.uuid4())
        tries = Retrying(
            stop=stop_after_attempt(self.attempts),
            wait=wait_exponential_jitter(initial=self.backoff, max=60, jitter=self.backoff / 2),
            retry=retry_if_exception_type(_TryAgainError),
        )
        try:
            return tries(self._once, body, delivery)
        except RetryError as error:
            return f"{error.last_attempt.exception()}, {self.attempts} tries"

    def _once(self, body: bytes, delivery: str) -> str:
        headers = {"Content-Type": "application/json", "X-Mondegreen-Delivery": delivery}
        if self.secret:
            moment = str(int(time.time()))
            headers |= {
                "X-Mondegreen-Timestamp": moment,
                "X-Mondegreen-Signature": signature(self.secret, moment, body),
            }
        try:
            # A redirect would carry the signed body to a place that nobody named.
            with requests.post(
                self.url, data=body, headers=headers, timeout=self.timeout, allow_redirects=False, stream=True
            ) as answer:
                for read, _ in enumerate(answer.iter_content(1024)):
                    if read * 1024 > _LONGEST_ANSWER:
                        break
                status = answer.status_code
        except requests.Timeout:
            raise _TryAgainError(f"{self._host} did not answer within {self.timeout:g} s") from None
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError) as error:
            raise _TryAgainError(f"{self._host} cannot be reached, or broke off ({type(error).__name__})") from None
        except (requests.RequestException, ValueError) as error:
            return f"the webhook's URL cannot be used ({type(error).__name__})"
        if status >= 500:
            raise _TryAgainError(f"{self._host} answered {status}")
        return "" if 200 <= status < 300 else f"{self._host} answered {status}"

    @property
    def _host(self) -> str:
        return urlsplit(self.url).hostname or "the webhook"


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """The value of X-Mondegreen-Signature: sha256= and the hex HMAC-SHA256 over timestamp, a dot, and the body.

    Args:
        secret: MONDEGREEN_WEBHOOK_SECRET.
        timestamp: X-Mondegreen-Timestamp, seconds since 1970; a receiver refuses old ones, so that none is replayed.
        body: the bytes as sent.
    """
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
