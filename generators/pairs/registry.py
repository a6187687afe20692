"""The kinds of pairs, by name."""

from __future__ import annotations

from scenepalette.generators.pairs.base import PairKind
from scenepalette.generators.pairs.full import Full
from scenepalette.generators.pairs.insert import Insert
from scenepalette.generators.pairs.partial import Partial
from scenepalette.generators.pairs.pseudo import Pseudo
from scenepalette.generators.pairs.semi import Semi

PAIR_KINDS: dict[str, PairKind] = {kind.name: kind for kind in (Full(), Partial(), Semi(), Pseudo(), Insert())}
