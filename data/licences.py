"""Whether what is made from a data set may be passed on, as far as the terms of the data set say by name."""

from __future__ import annotations

import re

PRETRAINED = "pretrained"
"""Where sources of shards, metadata of weights and manifests of units state the terms of weights from elsewhere."""

# Terms under which anyone may pass on what derives from the data, for any purpose.
_FREE = frozenset({
    "apache-2.0", "bsd-2-clause", "bsd-3-clause", "cc-by-3.0", "cc-by-4.0", "cc-by-sa-3.0", "cc-by-sa-4.0", "cc0-1.0",
    "cdla-permissive-1.0", "cdla-permissive-2.0", "mit", "odbl", "odc-by", "pddl", "public-domain", "unlicense",
})  # fmt: skip
_SAME = {
    "apache-license-2.0": "apache-2.0",
    "mit-license": "mit",
    "cc0": "cc0-1.0",
    "cc-by": "cc-by-4.0",
    "cc-by-sa": "cc-by-sa-4.0",
    "odbl-1.0": "odbl",
    "odc-by-1.0": "odc-by",
    "pddl-1.0": "pddl",
}
_CREATIVE_COMMONS = re.compile(
    r"https?://creativecommons\.org/(licenses|publicdomain)/([a-z-]+)/([0-9.]+)/?(?:(?:legalcode|deed)(?:\.[a-z-]+)?/?)?"
)
_REASONS = (
    (r"non[\s-]?commercial|\bnc\b", "they allow no commercial use"),
    (r"\bno redistribution|not be redistributed|\bnd\b", "they allow no redistribution"),
    (r"rail\b|rail[+-]", "they restrict what may be done with it, and ask to pass the restrictions on"),
    (r"\bresearch\b|\beducation", "they are for research"),
    (r"\bnot stated\b|^\s*$", "none are stated"),
)


def licence_problem(terms: str) -> str | None:
    """Say why what is made from data under some terms should not be passed on unasked; None if the terms are free.

    Args:
        terms: Licence of a data set, as its reader, class file or import states it; several joined by ";" all apply.

    Returns:
        A reason, also where the terms are not known to be free.
    """
    if all(licence_id(part) in _FREE for part in terms.split(";")):
        return None
    lower = terms.lower()
    reasons = [reason for pattern, reason in _REASONS if re.search(pattern, lower)]
    return " and ".join(reasons) or "they are not among the terms that are known to be free"


def licence_id(terms: str) -> str:
    """Return the terms of one licence as the Hub and SPDX write them: "CC BY 4.0" as cc-by-4.0."""
    lower = terms.strip().lower().rstrip(".")
    if match := _CREATIVE_COMMONS.fullmatch(lower):
        kind = "cc0" if match[2] == "zero" else f"cc-{match[2]}"
        return f"{kind}-{match[3]}"
    name = re.sub(r"[\s_]+", "-", lower)
    return _SAME.get(name, name)
