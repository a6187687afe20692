"""Credentials in URLs: found and masked, so that no message, card or report shows them."""

from __future__ import annotations

import re

MASK = "***"
_USER = re.compile(r"(?<=://)[^/\s?#]*@")
_SECRET = re.compile(
    r"([?&;][^=&;#\s]*(?:token|key|secret|passw|signature|sig|auth|credential)[^=&;#\s]*=)[^&;#\s'\"]+", re.IGNORECASE
)


def masked(text: str) -> str:
    """Return a text with user names, passwords and the values of secret-looking parameters in its URLs masked."""
    return _SECRET.sub(rf"\g<1>{MASK}", _USER.sub(f"{MASK}@", text))


def holds_credentials(text: str) -> bool:
    """Tell whether a URL in a text holds what `masked` masks."""
    return masked(text) != text
