"""What stands where: draws a street of one of several kinds from random numbers alone, free of any image size."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from scenepalette.data.streets.buildings import FACADES, Building
from scenepalette.data.streets.canvas import View
from scenepalette.data.streets.furniture import Fence, Post
from scenepalette.data.streets.ground import Ground, Junction
from scenepalette.data.streets.light import Color, Light, sample_light, varied
from scenepalette.data.streets.people import Person
from scenepalette.data.streets.plants import AUTUMN, GREENS, Hedge, Tree
from scenepalette.data.streets.vehicles import PAINTS, Vehicle

Thing = Building | Fence | Hedge | Tree | Vehicle | Person | Post

KINDS = ("downtown", "lane", "suburb", "avenue", "open")
KIND_WEIGHTS = (0.27, 0.13, 0.25, 0.17, 0.18)


@dataclass(frozen=True)
class Scene:
    """One street: its kind, light, view, ground and everything on it, with seeds for what is decided while drawing."""

    kind: str
    light: Light
    view: View
    ground: Ground
    backdrop: str
    things: tuple[Thing, ...]
    bonnet: Color | None
    is_mirrored: bool
    seed: int


def _range(low: float, high: float) -> Callable[[random.Random], float]:
    return lambda rng: rng.uniform(low, high)


def _choice(*values: float) -> Callable[[random.Random], float]:
    return lambda rng: rng.choice(values)


@dataclass(frozen=True)
class _Plan:
    """Counts and habits of one street; lengths in metres, shares as probabilities."""

    half_road: float
    sidewalk: float
    strip: float  # of green between road and sidewalk
    setback: float  # of buildings behind the sidewalk
    heights: tuple[float, float]  # of buildings
    blocks: tuple[float, float]  # lengths of buildings
    gap: float  # share of places without a building
    facades: str  # kinds of buildings, as often as they are likely
    tree_step: float  # 0 for no trees
    traffic: float  # share of places on a lane that are taken
    parked: float  # likewise at the road's edge
    walkers: tuple[int, int]
    riders: float
    signs: tuple[int, int]  # on each side
    lamp_step: float  # 0 for no lamps
    backdrops: str
    fences: str
    fence_chance: float
    junction: float
    bends: float  # deviation of the road's curvature, 1 / metres


# One column per kind, in the order of KINDS. What differs between scenes of a kind is drawn row by row.
_PLANS: dict[str, tuple[Any, ...]] = {
    "half_road": (
        _choice(3.6, 4.8, 6.2, 7.5),
        _range(2.5, 3.4),
        _range(3.2, 4.6),
        _range(4.5, 9),
        _choice(3.6, 4.2, 7.5, 9),
    ),
    "sidewalk": (_range(3.2, 6.5), _range(1.4, 2.6), _range(1.8, 3.0), _range(3, 6), 0),
    "strip": (0, 0, _choice(0, 1.4, 2.2), _range(1.2, 3.2), 0),
    "setback": (0, 0, _range(3.5, 8), _range(0, 4), _range(8, 25)),
    "heights": ((11, 42), (7, 14), (3.6, 6.4), (9, 22), (4, 9)),
    "blocks": ((10, 26), (6, 14), (8, 14), (12, 26), (8, 22)),
    "gap": (0.08, 0.04, 0.4, 0.2, 0.82),
    "facades": (
        "shop shop flat glass",
        "shop flat flat",
        "house house house flat",
        "flat flat shop glass",
        "house flat",
    ),
    "tree_step": (_choice(0, 0, 14), 0, _range(9, 20), _range(6, 10), _choice(9, 16, 30)),
    "traffic": (0.75, 0.3, 0.35, 0.7, 0.5),
    "parked": (_choice(0, 0, 0.3, 0.65), 0.35, _choice(0, 0.12, 0.35), _choice(0, 0.2, 0.6), 0),
    "walkers": ((2, 9), (1, 6), (0, 4), (1, 6), (0, 1)),
    "riders": (0.55, 0.5, 0.35, 0.55, 0.2),
    "signs": ((1, 4), (0, 3), (0, 2), (1, 3), (0, 2)),
    "lamp_step": (22, 18, 30, 26, _choice(0, 0, 35)),
    "backdrops": ("towers town", "town hills", "trees hills town", "trees town towers", "hills plain trees"),
    "fences": ("", "", "boards bars wall hedge hedge", "bars wall", "rail rail bars boards"),
    "fence_chance": (0, 0, 0.75, 0.12, 0.5),
    "junction": (0.6, 0.2, 0.25, 0.35, 0),
    "bends": (0.0008, 0.004, 0.003, 0.0008, 0.004),
}


def _plan(rng: random.Random, kind: str) -> _Plan:
    column = [(name, row[KINDS.index(kind)]) for name, row in _PLANS.items()]
    values: dict[str, Any] = {name: value(rng) if callable(value) else value for name, value in column}
    return _Plan(**values)


def sample_scene(seed: int) -> Scene:
    """Draws the scene that belongs to `seed`."""
    rng = random.Random(seed)
    kind = rng.choices(KINDS, KIND_WEIGHTS)[0]
    light = sample_light(rng)
    plan = _plan(rng, kind)
    view = View(
        focal=rng.uniform(0.62, 1.0),
        horizon=rng.uniform(0.4, 0.56),
        height=rng.choice((1.25, 1.4, 1.6, 2.2)) + rng.uniform(-0.1, 0.1),
        offset=plan.half_road * rng.uniform(0.25, 0.55),
        slant=rng.gauss(0, 0.06),
        bend=rng.gauss(0, plan.bends),
        hill=rng.gauss(0, 0.00035),
    )
    ground = _sample_ground(rng, kind, plan)
    things: list[Thing] = []
    for side in (-1, 1):
        things += _buildings(rng, plan, ground, side)
        things += _trees(rng, kind, plan, ground, side)
        things += _posts(rng, plan, ground, side)
        things += _fences(rng, kind, plan, ground, side)
    things += _traffic(rng, plan, ground, view)
    things += _people(rng, plan, ground)
    things += _signals_and_gantries(rng, kind, ground)
    bonnet = varied(rng, rng.choice(PAINTS), 10) if rng.random() < 0.3 else None
    return Scene(
        kind=kind,
        light=light,
        view=view,
        ground=ground,
        backdrop=rng.choice(plan.backdrops.split()),
        # Painter's order: what is farther is drawn first.
        things=tuple(sorted(things, key=lambda thing: thing.depth, reverse=True)),
        bonnet=bonnet,
        is_mirrored=rng.random() < 0.4,
        seed=_seed(rng),
    )


def _seed(rng: random.Random) -> int:
    return rng.getrandbits(62)


def _along(start: float, end: float, step: Callable[[], float]) -> Iterator[float]:
    """Distances from `start` to before `end`; each step is drawn after what stands before it."""
    while start < end:
        yield start
        start += step()


def _sample_ground(rng: random.Random, kind: str, plan: _Plan) -> Ground:
    grey = rng.uniform(82, 138)
    road = varied(rng, (grey, grey, grey + 2), 3)
    walk_grey = grey + rng.choice((-14, 8, 24, 40))
    walk_colors = ((walk_grey, walk_grey, walk_grey), (walk_grey + 22, walk_grey, walk_grey - 14))
    walk = varied(rng, rng.choice(walk_colors), 4)
    verge = varied(rng, rng.choice(((92, 116, 58), (106, 122, 66), (138, 128, 84), (84, 104, 60), (124, 110, 84))), 8)
    mark = varied(rng, rng.choice(((228, 228, 222), (228, 228, 222), (222, 186, 84))), 8)
    lanes: list[tuple[float, bool]] = []
    parking = 2.1 if plan.parked and plan.half_road > 4 and rng.random() < 0.5 else 0.0
    if kind != "lane" or rng.random() < 0.3:
        driven = plan.half_road - parking
        if rng.random() < 0.25 and plan.half_road > 4:
            lanes += [(-0.16, True), (0.16, True)]
        elif plan.half_road > 3.3:
            lanes.append((0.0, rng.random() < 0.35))
        if driven > 6:
            lanes += [(-driven / 2, False), (driven / 2, False)]
    junction = None
    if rng.random() < plan.junction:
        near = rng.uniform(9, 38)
        junction = Junction(near=near, far=near + rng.uniform(7, 14), zebra=rng.random() < 0.75)
    return Ground(
        half_road=plan.half_road,
        lanes=tuple(lanes),
        sidewalk=plan.sidewalk,
        strip=plan.strip,
        has_edge_lines=kind == "open" and rng.random() < 0.8,
        road=road,
        walk=walk,
        kerb=(walk[0] + 22, walk[1] + 22, walk[2] + 20),
        verge=verge,
        mark=mark,
        paved_beside=kind in ("downtown", "lane") or (kind == "avenue" and rng.random() < 0.5),
        junction=junction,
        parking=parking,
    )


def _buildings(rng: random.Random, plan: _Plan, ground: Ground, side: int) -> Iterator[Building]:
    near = rng.uniform(-12, 0)
    typical = rng.uniform(*plan.heights)
    while near < 130:
        far = near + rng.uniform(*plan.blocks)
        setback = plan.setback * rng.uniform(0.7, 1.3)
        if ground.junction is not None and ground.is_crossed(near, far):
            if near >= ground.junction.near - 4:
                near = ground.junction.far + 1.5
                continue
            far = ground.junction.near - 1
        height = min(plan.heights[1], max(plan.heights[0], rng.gauss(typical, 0.25 * typical)))
        color = varied(rng, rng.choice(FACADES), 9)
        seed = _seed(rng)
        if rng.random() > plan.gap or (plan.gap < 0.3 and rng.random() > plan.gap):
            x = side * (ground.walk_outer + setback + 0.05)
            yield Building(x, near, far, height, color, rng.choice(plan.facades.split()), seed)
        near = far + (0 if plan.gap < 0.1 else rng.uniform(0, 7) * (1 + plan.gap))


def _trees(rng: random.Random, kind: str, plan: _Plan, ground: Ground, side: int) -> Iterator[Tree]:
    palette = AUTUMN if rng.random() < 0.16 else GREENS
    shape = rng.choice(("round", "round", "tall"))
    step = plan.tree_step
    for z in _along(rng.uniform(3, 3 + step), 110, lambda: step * rng.uniform(0.7, 1.4)) if step else ():
        if rng.random() < 0.8 and not ground.is_crossed(z - 1, z + 1):
            if kind in ("avenue", "downtown") or (ground.strip > 0 and rng.random() < 0.6):
                inner, form = ground.half_road + 0.9, shape
            else:
                inner = ground.walk_outer + rng.uniform(1, 5 if kind != "open" else 22)
                form = rng.choice(("round", "round", "tall", "conifer", "bush"))
            yield _tree(rng, side * inner, z, form, palette)
    if kind in ("suburb", "open"):
        # Gardens and copses behind what stands at the street.
        for _ in range(rng.randrange(3, 12)):
            x, z = side * (ground.walk_outer + rng.uniform(3, 30)), rng.uniform(14, 110)
            yield _tree(rng, x, z, rng.choice(("round", "bush", "conifer", "round")), palette)


def _tree(rng: random.Random, x: float, z: float, kind: str, palette: tuple[Color, ...]) -> Tree:
    # A height is drawn for every kind, whichever is planted: what is drawn afterwards does not depend on the kind.
    heights = {"round": rng.uniform(6, 11), "tall": rng.uniform(7, 13), "conifer": rng.uniform(6, 14)}
    heights["bush"] = rng.uniform(1, 2.6)
    height, share = heights[kind], {"round": 0.36, "tall": 0.2, "conifer": 0.24, "bush": 0.6}[kind]
    color = varied(rng, rng.choice(palette), 8)
    return Tree(x, z, height, height * share * rng.uniform(0.8, 1.2), color, kind, _seed(rng))


def _posts(rng: random.Random, plan: _Plan, ground: Ground, side: int) -> Iterator[Post]:
    edge = ground.half_road + 0.55
    if plan.lamp_step and rng.random() < 0.8:
        kind = "lamp" if rng.random() < 0.75 else "pole"
        for z in _along(rng.uniform(5, plan.lamp_step), 90, lambda: plan.lamp_step):
            yield Post(side * edge, z, kind, _seed(rng))
    for _ in range(rng.randint(*plan.signs)):
        if rng.random() < (0.65 if side > 0 else 0.4):
            yield Post(side * (edge + rng.uniform(0, 0.5)), 5 + 32 * rng.random() ** 1.4, "sign", _seed(rng))
    if ground.sidewalk and rng.random() < 0.25:
        yield Post(side * (edge + 0.5), rng.uniform(5, 18), "bin", _seed(rng))


def _fences(rng: random.Random, kind: str, plan: _Plan, ground: Ground, side: int) -> Iterator[Fence | Hedge]:
    if not plan.fences or rng.random() > plan.fence_chance:
        return
    style = rng.choice(plan.fences.split())
    x = side * (ground.walk_outer + (rng.uniform(0.6, 1.6) if kind == "open" else 0.25))
    colors: dict[str, Color] = {
        "rail": (176, 180, 184),
        "wall": (168, 140, 118),
        "boards": (146, 112, 78),
        "bars": (88, 92, 94),
        "hedge": (70, 98, 50),
    }
    color = varied(rng, colors[style], 14)
    # As for trees, a height is drawn for every style.
    heights = {"rail": 0.82, "wall": rng.uniform(0.8, 1.8), "boards": rng.uniform(1.1, 1.9)}
    heights |= {"bars": rng.uniform(1.0, 2.0), "hedge": rng.uniform(0.9, 1.9)}
    z = rng.uniform(-4, 3)
    while z < 90:
        length = 8.0 if style != "hedge" else rng.uniform(6, 10)
        if not ground.is_crossed(z, z + length) and (kind == "open" or rng.random() < 0.86):
            piece = Hedge if style == "hedge" else Fence
            yield piece(x, z, z + length, heights[style], color, style, _seed(rng))
        z += length if kind == "open" else length + rng.choice((0, 0, 3.2))


def _vehicle(rng: random.Random, x: float, z: float, oncoming: bool, parked: bool = False) -> Vehicle:
    shares = (0.8, 0.12, 0.0, 0.0) if parked else (0.74, 0.1, 0.08, 0.08)
    kind = rng.choices(("car", "van", "bus", "truck"), shares)[0]
    if kind in ("bus", "truck") and z < 9:
        z += 6
    color = varied(rng, rng.choice(PAINTS), 10)
    if kind == "bus":
        liveries = ((190, 40, 40), (220, 180, 60), (50, 110, 80), (225, 225, 220), (60, 90, 150))
        color = varied(rng, rng.choice(liveries), 8)
    return Vehicle(x, z, kind, oncoming, parked, color, _seed(rng))


def _traffic(rng: random.Random, plan: _Plan, ground: Ground, view: View) -> Iterator[Vehicle]:
    driven = plan.half_road - ground.parking
    lanes = 2 if driven > 6 else 1
    for side in (-1, 1):
        for lane in range(lanes):
            centre = side * driven * (lane + 0.5) / lanes
            # Only what drives ahead keeps its distance: an oncoming car may be close.
            is_own = side > 0 and abs(centre - view.offset) < 1.9
            z = rng.uniform(9, 26) if is_own else rng.uniform(5, 24)
            while z < 95:
                if rng.random() < plan.traffic:
                    vehicle = _vehicle(rng, centre + rng.uniform(-0.3, 0.3), z, oncoming=side < 0)
                    yield vehicle
                    z = vehicle.z + vehicle.length
                z += rng.uniform(4, 24)
        if plan.parked and rng.random() < 0.75:
            for z in _along(rng.uniform(2.5, 8), 80, lambda: rng.uniform(5.4, 7)):
                if rng.random() < plan.parked and not ground.is_crossed(z - 5, z + 5):
                    yield _vehicle(rng, side * (plan.half_road - 1.0), z, oncoming=side < 0, parked=True)


def _people(rng: random.Random, plan: _Plan, ground: Ground) -> Iterator[Person]:
    half = ground.half_road
    for _ in range(rng.randint(*plan.walkers)):
        side = rng.choice((-1, 1))
        z = 5.5 + 30 * rng.random() ** 1.5
        if ground.sidewalk:
            x = side * rng.uniform(ground.walk_inner + 0.4, ground.walk_outer - 0.3)
        else:
            x = side * (half + rng.uniform(0.2, 1.0))
        across = rng.random() < 0.35
        if rng.random() < 0.16:
            x, across = rng.uniform(-half, half), True
            if ground.junction is not None and ground.junction.near - 2.5 > 5:
                z = ground.junction.near - 2.5 + rng.uniform(-0.8, 0.8)
            else:
                z = rng.uniform(11, 30)
        height = rng.uniform(1.1, 1.4) if rng.random() < 0.1 else rng.uniform(1.58, 1.9)
        yield Person(x, z, height, False, across, _seed(rng))
    while rng.random() < plan.riders:
        side = rng.choice((-1, 1, 1))
        across = rng.random() < 0.3
        x = rng.uniform(-half, half) if across else side * (half - rng.uniform(0.5, 1.1))
        yield Person(x, 5.5 + 17 * rng.random() ** 1.3, 1.72, True, across, _seed(rng))


def _signals_and_gantries(rng: random.Random, kind: str, ground: Ground) -> Iterator[Post]:
    junction, half = ground.junction, ground.half_road
    if junction is not None and kind != "suburb" and rng.random() < 0.75:
        yield Post(-(half + 0.5), junction.far + 0.5, "signal", _seed(rng))
        yield Post(half + 0.5, junction.near - 1.2, "signal", _seed(rng))
    if kind == "open" and half > 7 and rng.random() < 0.5:
        yield Post(half + 1.0, rng.uniform(20, 50), "gantry", _seed(rng))
