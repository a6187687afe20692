"""Names of classes of which it is known where images have them, in the languages of class files."""

from __future__ import annotations

import unicodedata

SKY = frozenset({
    "sky", "clouds", "sky other", "himmel", "ciel", "cielo", "ceu", "lucht", "hemel", "niebo", "nebe",
    "obloha", "nebo", "taivas", "taevas", "himlen", "himinn", "egbolt", "gokyuzu", "gok", "langit",
    "bau troi", "ουρανοσ", "небо", "небето", "天空", "空", "하늘", "السماء", "سماء", "שמיים", "आकाश", "आसमान",
    "ท้องฟ้า",
})  # fmt: skip
"""Names of the sky, as `plain_name` writes them."""
AT_THE_TOP = SKY | {
    "ceiling", "ceiling other", "ceiling tile", "zimmerdecke", "plafond", "techo", "soffitto", "teto", "sufit",
    "strop", "потолок", "стеля", "tavan", "天花板", "天井", "천장",
}  # fmt: skip
"""Names of what is in the upper part of images."""
AT_THE_BOTTOM = frozenset({
    "road", "sidewalk", "pavement", "floor", "carpet", "floor wood", "floor tile", "ground other", "grass",
    "strasse", "fahrbahn", "gehweg", "burgersteig", "fussboden", "rasen",
    "route", "chaussee", "trottoir", "herbe", "carretera", "calzada", "acera", "suelo", "cesped", "hierba",
    "strada", "marciapiede", "pavimento", "erba", "estrada", "calcada", "chao", "relva", "grama",
    "weg", "rijbaan", "stoep", "vloer", "gras", "droga", "jezdnia", "chodnik", "podloga", "trawa",
    "silnice", "vozovka", "podlaha", "trava", "vag", "vei", "vej", "fortau", "fortov", "golv", "gulv",
    "jalkakaytava", "lattia", "jarda", "padlo", "yol", "kaldırım", "zemin",
    "jalan", "trotoar", "lantai", "rumput", "đuong", "via he", "δρομοσ", "πεζοδρομιο",
    "дорога", "тротуар", "пол", "трава", "道路", "马路", "馬路", "人行道", "地板", "草地", "歩道", "車道", "芝生",
    "도로", "인도", "보도", "바닥", "잔디", "الطريق", "طريق", "رصيف", "כביש", "מדרכה", "सड़क", "ถนน",
})  # fmt: skip
"""Names of what is in the lower part of images."""


def plain_name(name: str) -> str:
    """Return a name without accents, capitals and separators, for the comparison with the names above."""
    letters = unicodedata.normalize("NFKD", name.casefold())
    latin = "".join(letter for letter in letters if not 0x300 <= ord(letter) < 0x370)
    return " ".join(unicodedata.normalize("NFC", latin).replace("-", " ").replace("_", " ").split())
