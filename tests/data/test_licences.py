"""Terms under which what is made from data may be passed on."""

from __future__ import annotations

import pytest

from scenepalette.data.licences import licence_problem
from scenepalette.data.readers import ade20k, camvid, celebamask_hq, cityscapes, cityscapes_25k, coco_stuff, gta5, idd
from scenepalette.data.shards.manifest import UNLABELLED_TERMS
from scenepalette.data.streets import dataset as streets


@pytest.mark.parametrize(
    "terms",
    [
        streets.LICENCE,
        "CC BY 4.0",
        "cc-by-sa-4.0",
        "MIT",
        "MIT License",
        "Apache License 2.0",
        "CC0 1.0",
        "public domain",
        "https://creativecommons.org/licenses/by/4.0/",
        "http://creativecommons.org/publicdomain/zero/1.0/",
        "cc-by-4.0; mit",
    ],
)
def test_free_terms_are_known(terms: str) -> None:
    assert licence_problem(terms) is None


@pytest.mark.parametrize(
    ("terms", "reason"),
    [
        (cityscapes.LICENCE, "no commercial use and they allow no redistribution"),
        (cityscapes_25k.LICENCE, "no commercial use and they allow no redistribution"),
        (celebamask_hq.LICENCE, "no redistribution"),
        (ade20k.LICENCE, "no commercial use"),
        (camvid.LICENCE, "research"),
        (idd.LICENCE, "research"),
        (gta5.LICENCE, "research"),
        (coco_stuff.LICENCE, "not among the terms that are known to be free"),
        ("CC BY-NC-SA 4.0", "no commercial use"),
        ("cc-by-nd-4.0", "no redistribution"),
        ("https://creativecommons.org/licenses/by-nc/4.0/", "no commercial use"),
        ("https://creativecommons.org/licenses/by/4.0/legalcode,research-only", "they are for research"),
        ("not stated", "none are stated"),
        ("", "none are stated"),
        (f"MIT; {UNLABELLED_TERMS}", "not among the terms"),
        ("mit; cc-by-nc-4.0", "no commercial use"),
        ("not mit", "not among the terms"),
        ("creativeml-openrail-m", "they restrict what may be done with it"),
        ("mit; openrail++", "they restrict what may be done with it"),
    ],
)
def test_other_terms_are_refused_with_a_reason(terms: str, reason: str) -> None:
    assert reason in str(licence_problem(terms))
