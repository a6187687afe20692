"""What stands where: draws a street of one of several kinds from random numbers alone, free of any image size."""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from scenepalette.data.streetscene.buildings import FACADES, Building
from scenepalette.data.streetscene.camera import View
from scenepalette.data.streetscene.furniture import Fence, Post
from scenepalette.data.streetscene.ground import Ground, Junction
from scenepalette.data.streetscene.light import Color, Light, sample_light, varied
from scenepalette.data.streetscene.people import Person
from scenepalette.data.streetscene.plants import AUTUMN, GREENS, Hedge, Tree
from scenepalette.data.streetscene.vehicles import PAINTS, Vehicle

Thing = Building | Tree | Hedge | Vehicle | Person | Post | Fence

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


@dataclass
class _Plan:
    """Counts and habits of one kind of street."""

    half_road: float
    sidewalk: float
    strip: float
    setback: float
    heights: tuple[float, float]
    blocks: tuple[float, float]
    gap: float
    facades: tuple[str, ...]
    tree_step: float
    traffic: float
    parked: float
    walkers: tuple[int, int]
    riders: float
    signs: tuple[int, int]
    lamp_step: float
    backdrops: tuple[str, ...]
    fences: tuple[str, ...] = ()
    fence_chance: float = 0.0
    junction: float = 0.0
    bends: float = 0.0008
    colors: tuple[Color, ...] = field(default=FACADES)


def _plan(rng: random.Random, kind: str) -> _Plan:
    if kind == "downtown":
        return _Plan(
            half_road=rng.choice((3.6, 4.8, 6.2, 7.5)),
            sidewalk=rng.uniform(3.2, 6.5),
            strip=0,
            setback=0,
            heights=(11, 42),
            blocks=(10, 26),
            gap=0.08,
            facades=("shop", "shop", "flat", "glass"),
            tree_step=rng.choice((0, 0, 14)),
            traffic=0.75,
            parked=rng.choice((0, 0, 0.3, 0.65)),
            walkers=(2, 9),
            riders=0.55,
            signs=(1, 4),
            lamp_step=22,
            backdrops=("towers", "town"),
            junction=0.6,
        )
    if kind == "lane":
        return _Plan(
            half_road=rng.uniform(2.5, 3.4),
            sidewalk=rng.uniform(1.4, 2.6),
            strip=0,
            setback=0,
            heights=(7, 14),
            blocks=(6, 14),
            gap=0.04,
            facades=("shop", "flat", "flat"),
            tree_step=0,
            traffic=0.3,
            parked=0.35,
            walkers=(1, 6),
            riders=0.5,
            signs=(0, 3),
            lamp_step=18,
            backdrops=("town", "hills"),
            junction=0.2,
            bends=0.004,
        )
    if kind == "suburb":
        return _Plan(
            half_road=rng.uniform(3.2, 4.6),
            sidewalk=rng.uniform(1.8, 3.0),
            strip=rng.choice((0, 1.4, 2.2)),
            setback=rng.uniform(3.5, 8),
            heights=(3.6, 6.4),
            blocks=(8, 14),
            gap=0.4,
            facades=("house", "house", "house", "flat"),
            tree_step=rng.uniform(9, 20),
            traffic=0.35,
            parked=rng.choice((0.0, 0.12, 0.35)),
            walkers=(0, 4),
            riders=0.35,
            signs=(0, 2),
            lamp_step=30,
            backdrops=("trees", "hills", "town"),
            fences=("boards", "bars", "wall", "hedge", "hedge"),
            fence_chance=0.75,
            junction=0.25,
            bends=0.003,
        )
    if kind == "avenue":
        return _Plan(
            half_road=rng.uniform(4.5, 9),
            sidewalk=rng.uniform(3, 6),
            strip=rng.uniform(1.2, 3.2),
            setback=rng.uniform(0, 4),
            heights=(9, 22),
            blocks=(12, 26),
            gap=0.2,
            facades=("flat", "flat", "shop", "glass"),
            tree_step=rng.uniform(6, 10),
            traffic=0.7,
            parked=rng.choice((0, 0.2, 0.6)),
            walkers=(1, 6),
            riders=0.55,
            signs=(1, 3),
            lamp_step=26,
            backdrops=("trees", "town", "towers"),
            fences=("bars", "wall"),
            fence_chance=0.12,
            junction=0.35,
        )
    return _Plan(
        half_road=rng.choice((3.6, 4.2, 7.5, 9.0)),
        sidewalk=0,
        strip=0,
        setback=rng.uniform(8, 25),
        heights=(4, 9),
        blocks=(8, 22),
        gap=0.82,
        facades=("house", "flat"),
        tree_step=rng.choice((9, 16, 30)),
        traffic=0.5,
        parked=0,
        walkers=(0, 1),
        riders=0.2,
        signs=(0, 2),
        lamp_step=rng.choice((0, 0, 35)),
        backdrops=("hills", "plain", "trees"),
        fences=("rail", "rail", "bars", "boards"),
        fence_chance=0.5,
        bends=0.004,
    )


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
        things += _row_of_buildings(rng, plan, ground, side)
        things += _row_of_trees(rng, kind, plan, ground, side)
        things += _row_of_posts(rng, plan, ground, side)
        things += _fence_line(rng, kind, plan, ground, side)
    things += _traffic(rng, plan, ground, view)
    things += _people(rng, plan, ground)
    things += _signals_and_gantries(rng, kind, ground)
    bonnet = varied(rng, rng.choice(PAINTS), 10) if rng.random() < 0.3 else None
    return Scene(
        kind=kind,
        light=light,
        view=view,
        ground=ground,
        backdrop=rng.choice(plan.backdrops),
        things=tuple(sorted(things, key=_depth, reverse=True)),
        bonnet=bonnet,
        is_mirrored=rng.random() < 0.4,
        seed=rng.getrandbits(62),
    )


def _depth(thing: Thing) -> float:
    """Painter's order: a wall counts at its far end, as everything before it stands on the street's side of it."""
    if isinstance(thing, Building | Hedge | Fence):
        return thing.far
    return thing.z


def _sample_ground(rng: random.Random, kind: str, plan: _Plan) -> Ground:
    grey = rng.uniform(82, 138)
    road = varied(rng, (grey, grey, grey + 2), 3)
    walk_grey = grey + rng.choice((-14, 8, 24, 40))
    walk: Color = varied(
        rng, rng.choice(((walk_grey, walk_grey, walk_grey), (walk_grey + 22, walk_grey, walk_grey - 14))), 4
    )
    verge = varied(rng, rng.choice(((92, 116, 58), (106, 122, 66), (138, 128, 84), (84, 104, 60), (124, 110, 84))), 8)
    mark: Color = varied(rng, rng.choice(((228, 228, 222), (228, 228, 222), (222, 186, 84))), 8)
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
        has_kerb=plan.sidewalk > 0,
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


def _crosses(ground: Ground, near: float, far: float) -> bool:
    junction = ground.junction
    return junction is not None and near < junction.far + 1 and far > junction.near - 1


def _row_of_buildings(rng: random.Random, plan: _Plan, ground: Ground, side: int) -> list[Building]:
    rows: list[Building] = []
    z = rng.uniform(-12, 0)
    typical = rng.uniform(*plan.heights)
    while z < 130:
        length = rng.uniform(*plan.blocks)
        setback = plan.setback * rng.uniform(0.7, 1.3)
        near, far = z, z + length
        if ground.junction is not None and _crosses(ground, near, far):
            if near < ground.junction.near - 4:
                far = ground.junction.near - 1
            else:
                z = ground.junction.far + 1.5
                continue
        height = min(plan.heights[1], max(plan.heights[0], rng.gauss(typical, 0.25 * typical)))
        color = varied(rng, rng.choice(plan.colors), 9)
        seed = rng.getrandbits(62)
        if rng.random() > plan.gap or (plan.gap < 0.3 and rng.random() > plan.gap):
            x = side * (ground.walk_outer + setback + 0.05)
            rows.append(Building(x, near, far, height, color, rng.choice(plan.facades), seed))
        z = far + (0 if plan.gap < 0.1 else rng.uniform(0, 7) * (1 + plan.gap))
    return rows


def _row_of_trees(rng: random.Random, kind: str, plan: _Plan, ground: Ground, side: int) -> list[Thing]:
    trees: list[Thing] = []
    palette = AUTUMN if rng.random() < 0.16 else GREENS
    shape = rng.choice(("round", "round", "tall"))
    if plan.tree_step:
        z = rng.uniform(3, 3 + plan.tree_step)
        while z < 110:
            if rng.random() < 0.8 and not _crosses(ground, z - 1, z + 1):
                near_kerb = kind in ("avenue", "downtown") or (ground.strip > 0 and rng.random() < 0.6)
                inner = (
                    ground.half_road + 0.9
                    if near_kerb
                    else ground.walk_outer + rng.uniform(1, 5 if kind != "open" else 22)
                )
                form = shape if near_kerb else rng.choice(("round", "round", "tall", "conifer", "bush"))
                trees.append(_tree(rng, side * inner, z, form, palette))
            z += plan.tree_step * rng.uniform(0.7, 1.4)
    if kind in ("suburb", "open"):
        # Gardens and copses behind what stands at the street.
        for _ in range(rng.randrange(3, 12)):
            x = side * (ground.walk_outer + rng.uniform(3, 30))
            trees.append(
                _tree(rng, x, rng.uniform(14, 110), rng.choice(("round", "bush", "conifer", "round")), palette)
            )
    return trees


def _tree(rng: random.Random, x: float, z: float, kind: str, palette: tuple[Color, ...]) -> Tree:
    height = {
        "round": rng.uniform(6, 11),
        "tall": rng.uniform(7, 13),
        "conifer": rng.uniform(6, 14),
        "bush": rng.uniform(1, 2.6),
    }[kind]
    share = {"round": 0.36, "tall": 0.2, "conifer": 0.24, "bush": 0.6}[kind]
    color = varied(rng, rng.choice(palette), 8)
    return Tree(x, z, height, height * share * rng.uniform(0.8, 1.2), color, kind, rng.getrandbits(62))


def _row_of_posts(rng: random.Random, plan: _Plan, ground: Ground, side: int) -> list[Post]:
    posts: list[Post] = []
    edge = ground.half_road + 0.55
    if plan.lamp_step and rng.random() < 0.8:
        kind = "lamp" if rng.random() < 0.75 else "pole"
        z = rng.uniform(5, plan.lamp_step)
        while z < 90:
            posts.append(Post(side * edge, z, kind, rng.getrandbits(62)))
            z += plan.lamp_step
    for _ in range(rng.randint(*plan.signs)):
        if rng.random() < (0.65 if side > 0 else 0.4):
            posts.append(
                Post(side * (edge + rng.uniform(0, 0.5)), 5 + 32 * rng.random() ** 1.4, "sign", rng.getrandbits(62))
            )
    if ground.sidewalk and rng.random() < 0.25:
        posts.append(Post(side * (edge + 0.5), rng.uniform(5, 18), "bin", rng.getrandbits(62)))
    return posts


def _fence_line(rng: random.Random, kind: str, plan: _Plan, ground: Ground, side: int) -> list[Thing]:
    if not plan.fences or rng.random() > plan.fence_chance:
        return []
    style = rng.choice(plan.fences)
    x = side * (ground.walk_outer + (rng.uniform(0.6, 1.6) if kind == "open" else 0.25))
    color = varied(
        rng,
        {
            "rail": (176, 180, 184),
            "wall": (168, 140, 118),
            "boards": (146, 112, 78),
            "bars": (88, 92, 94),
            "hedge": (70, 98, 50),
        }[style],
        14,
    )
    height = {
        "rail": 0.82,
        "wall": rng.uniform(0.8, 1.8),
        "boards": rng.uniform(1.1, 1.9),
        "bars": rng.uniform(1.0, 2.0),
        "hedge": rng.uniform(0.9, 1.9),
    }[style]
    pieces: list[Thing] = []
    z = rng.uniform(-4, 3)
    while z < 90:
        length = 8.0 if style != "hedge" else rng.uniform(6, 10)
        if not _crosses(ground, z, z + length) and (kind == "open" or rng.random() < 0.86):
            seed = rng.getrandbits(62)
            if style == "hedge":
                pieces.append(Hedge(x, z, z + length, height, color, seed))
            else:
                pieces.append(Fence(x, z, z + length, height, style, color, seed))
        z += length if kind == "open" else length + rng.choice((0, 0, 3.2))
    return pieces


def _vehicle(rng: random.Random, x: float, z: float, oncoming: bool, parked: bool = False) -> Vehicle:
    kind = rng.choices(("car", "van", "bus", "truck"), (0.8, 0.12, 0.0, 0.0) if parked else (0.74, 0.1, 0.08, 0.08))[0]
    if kind in ("bus", "truck") and z < 9:
        z += 6
    color: Color = varied(rng, rng.choice(PAINTS), 10)
    if kind == "bus":
        color = varied(
            rng, rng.choice(((190, 40, 40), (220, 180, 60), (50, 110, 80), (225, 225, 220), (60, 90, 150))), 8
        )
    return Vehicle(x, z, kind, oncoming, parked, color, rng.getrandbits(62))


def _traffic(rng: random.Random, plan: _Plan, ground: Ground, view: View) -> list[Vehicle]:
    vehicles: list[Vehicle] = []
    parked_width = 2.1 if plan.parked else 0.0
    driven = plan.half_road - (parked_width if ground.parking else 0)
    lanes = 2 if driven > 6 else 1
    for side in (-1, 1):
        for lane in range(lanes):
            centre = side * driven * (lane + 0.5) / lanes
            # Only what drives ahead keeps its distance: an oncoming car may be close.
            own = side > 0 and abs(centre - view.offset) < 1.9
            z = rng.uniform(9, 26) if own else rng.uniform(5, 24)
            while z < 95:
                if rng.random() < plan.traffic:
                    vehicle = _vehicle(rng, centre + rng.uniform(-0.3, 0.3), z, oncoming=side < 0)
                    vehicles.append(vehicle)
                    z = vehicle.z + vehicle.length
                z += rng.uniform(4, 24)
        if plan.parked and rng.random() < 0.75:
            z = rng.uniform(2.5, 8)
            while z < 80:
                if rng.random() < plan.parked and not _crosses(ground, z - 5, z + 5):
                    x = side * (plan.half_road - 1.0)
                    vehicles.append(_vehicle(rng, x, z, oncoming=side < 0, parked=True))
                z += rng.uniform(5.4, 7)
    return vehicles


def _people(rng: random.Random, plan: _Plan, ground: Ground) -> list[Person]:
    people: list[Person] = []
    for _ in range(rng.randint(*plan.walkers)):
        side = rng.choice((-1, 1))
        z = 5.5 + 30 * rng.random() ** 1.5
        if ground.sidewalk:
            x = side * rng.uniform(ground.walk_inner + 0.4, ground.walk_outer - 0.3)
        else:
            x = side * (ground.half_road + rng.uniform(0.2, 1.0))
        across = rng.random() < 0.35
        if rng.random() < 0.16:
            x, across = rng.uniform(-ground.half_road, ground.half_road), True
            if ground.junction is not None and ground.junction.near - 2.5 > 5:
                z = ground.junction.near - 2.5 + rng.uniform(-0.8, 0.8)
            else:
                z = rng.uniform(11, 30)
        height = rng.uniform(1.1, 1.4) if rng.random() < 0.1 else rng.uniform(1.58, 1.9)
        people.append(Person(x, z, height, False, across, rng.getrandbits(62)))
    while rng.random() < plan.riders:
        side = rng.choice((-1, 1, 1))
        across = rng.random() < 0.3
        x = (
            rng.uniform(-ground.half_road, ground.half_road)
            if across
            else side * (ground.half_road - rng.uniform(0.5, 1.1))
        )
        people.append(Person(x, 5.5 + 17 * rng.random() ** 1.3, 1.72, True, across, rng.getrandbits(62)))
    return people


def _signals_and_gantries(rng: random.Random, kind: str, ground: Ground) -> list[Post]:
    posts: list[Post] = []
    if ground.junction is not None and kind != "suburb" and rng.random() < 0.75:
        for side in (-1, 1):
            z = ground.junction.near - 1.2 if side > 0 else ground.junction.far + 0.5
            posts.append(Post(side * (ground.half_road + 0.5), z, "signal", rng.getrandbits(62)))
    if kind == "open" and ground.half_road > 7 and rng.random() < 0.5:
        posts.append(Post(ground.half_road + 1.0, rng.uniform(20, 50), "gantry", rng.getrandbits(62)))
    return posts
