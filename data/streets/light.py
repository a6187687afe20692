"""Weather and light of a street scene, and how they change a material's colour."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

Color = tuple[float, float, float]
Pixel = tuple[int, int, int]

WEATHERS = ("sunny", "overcast", "dusk", "night", "fog", "rain")
WEATHER_WEIGHTS = (0.36, 0.24, 0.12, 0.10, 0.08, 0.10)


def colors(codes: str) -> tuple[Color, ...]:
    """The colours of hexadecimal codes such as "9e523e", separated by spaces."""
    return tuple((code[0], code[1], code[2]) for code in map(bytes.fromhex, codes.split()))


def mix(first: Color, second: Color, share: float) -> Color:
    """The colour `share` of the way from `first` to `second`."""
    (r0, g0, b0), (r1, g1, b1), rest = first, second, 1 - share
    return r0 * rest + r1 * share, g0 * rest + g1 * share, b0 * rest + b1 * share


def scaled(color: Color, factor: float) -> Color:
    """The colour, brighter or darker by `factor`."""
    return color[0] * factor, color[1] * factor, color[2] * factor


def shifted(color: Color, levels: float) -> Color:
    """The colour with `levels` added to each channel."""
    return color[0] + levels, color[1] + levels, color[2] + levels


def varied(rng: random.Random, color: Color, amount: float) -> Color:
    """A random neighbour of `color`: common brightness and a little of each channel move by about `amount`."""
    red, green, blue = shifted(color, rng.gauss(0, amount))
    return red + rng.gauss(0, amount / 3), green + rng.gauss(0, amount / 3), blue + rng.gauss(0, amount / 3)


@dataclass(frozen=True)
class Light:
    """Light of one scene; colours are 0..255 per channel."""

    weather: str  # one of WEATHERS
    tint: Color  # factor per channel on every lit surface
    left: float  # brightness of surfaces that face left
    right: float
    front: float  # of those that face the camera
    top: float
    haze: Color  # what distant things fade to
    haze_per_metre: float  # fading rate
    zenith: Color  # of the sky overhead
    skyline: Color  # of the sky at the horizon
    clouds: float  # cloud cover, 0 to 1
    sun: tuple[float, float] | None  # its place in the image as shares of width and of the sky's height
    shadow: float  # darkness of cast shadows, 0 to 1
    shadow_reach: float  # sideways length of a shadow per metre of height; positive falls to the right

    @property
    def is_night(self) -> bool:
        """Whether lamps and windows are lit against a dark scene."""
        return self.weather == "night"

    @property
    def lamps_on(self) -> bool:
        """Whether vehicles and street lamps shine."""
        return self.weather in ("night", "dusk", "rain", "fog")

    def tone(self, color: Color, z: float, facing: float = 1.0) -> Pixel:
        """Colour of a lit surface of material `color` at distance z, as 8-bit values."""
        tint = self.tint
        lit = color[0] * tint[0] * facing, color[1] * tint[1] * facing, color[2] * tint[2] * facing
        return self._in_haze(lit, math.exp(-z * self.haze_per_metre))

    def glow(self, color: Color, z: float) -> Pixel:
        """Colour of a surface that shines by itself at distance z, as 8-bit values."""
        return self._in_haze(color, math.exp(-z * self.haze_per_metre * 0.5))

    def _in_haze(self, color: Color, clear: float) -> Pixel:
        red, green, blue = mix(self.haze, color, clear)
        return (
            0 if red < 0 else 255 if red > 255 else int(red),
            0 if green < 0 else 255 if green > 255 else int(green),
            0 if blue < 0 else 255 if blue > 255 else int(blue),
        )


def sample_light(rng: random.Random) -> Light:
    """Draws weather, sun and colours of the air."""
    weather = rng.choices(WEATHERS, WEATHER_WEIGHTS)[0]
    azimuth = rng.uniform(-math.pi, math.pi)
    across, ahead = math.sin(azimuth), math.cos(azimuth)
    strength = {"sunny": 0.42, "dusk": 0.28, "overcast": 0.08, "rain": 0.05, "fog": 0.03, "night": 0.06}[weather]
    left, right, front = 0.8 - strength * across, 0.8 + strength * across, 0.8 - strength * ahead * 0.8
    if weather in ("overcast", "rain", "fog"):
        left, right, front = (value + rng.uniform(-0.06, 0.06) for value in (left, right, front))
    elevation = rng.uniform(0.1, 0.8)
    shadow_reach = -across * rng.uniform(0.5, 1.6)
    if weather == "sunny":
        zenith, skyline = varied(rng, (70.0, 125.0, 205.0), 14), varied(rng, (185.0, 212.0, 235.0), 10)
        warm = rng.uniform(0.0, 0.1)
        tint, top = (1.06 + warm / 2, 1.03, 1.0 - warm), 1.02
        haze, haze_per_metre = mix(skyline, (190, 200, 210), 0.4), rng.uniform(0.001, 0.004)
        clouds, shadow = rng.choice((0.0, 0.25, 0.5, 0.7)), rng.uniform(0.38, 0.6)
    elif weather == "overcast":
        grey = rng.uniform(150, 225)
        haze = skyline = varied(rng, (grey + 12, grey + 15, grey + 18), 4)
        dim = rng.uniform(0.72, 0.98)
        tint, top = (dim, dim * 1.01, dim * 1.04), 0.92
        haze_per_metre, zenith = rng.uniform(0.002, 0.007), varied(rng, (grey - 22, grey - 18, grey - 8), 5)
        clouds, shadow = rng.uniform(0.5, 1.0), 0.12
    elif weather == "dusk":
        skyline = varied(rng, rng.choice(((245.0, 165.0, 105.0), (235.0, 150.0, 140.0), (225.0, 190.0, 150.0))), 10)
        tint, top = (0.72, 0.58, 0.54), 0.8
        haze, haze_per_metre = mix(skyline, (120, 100, 110), 0.5), rng.uniform(0.003, 0.008)
        zenith = varied(rng, (72.0, 82.0, 130.0), 14)
        clouds, shadow = rng.uniform(0.0, 0.8), rng.uniform(0.15, 0.35)
        shadow_reach = 1.6 * shadow_reach
    elif weather == "night":
        haze = skyline = varied(rng, (40.0, 38.0, 48.0), 7)
        dim = rng.uniform(0.32, 0.52)
        tint, top = (dim * 1.1, dim, dim * rng.uniform(0.75, 1.1)), 0.9
        haze_per_metre, zenith = rng.uniform(0.006, 0.014), varied(rng, (14.0, 16.0, 30.0), 4)
        clouds, shadow = rng.uniform(0.0, 0.5), 0.15
    elif weather == "fog":
        grey = rng.uniform(160, 220)
        haze = skyline = varied(rng, (grey, grey + 2, grey + 4), 5)
        tint, top = (0.86, 0.87, 0.89), 0.9
        haze_per_metre, zenith = rng.uniform(0.014, 0.034), scaled(skyline, 0.94)
        clouds, shadow = 0.1, 0.08
    else:
        grey = rng.uniform(105, 165)
        haze = skyline = varied(rng, (grey + 10, grey + 15, grey + 22), 5)
        tint, top = (0.72, 0.75, 0.8), 0.8
        haze_per_metre, zenith = rng.uniform(0.006, 0.014), varied(rng, (grey - 25, grey - 20, grey - 8), 5)
        clouds, shadow = rng.uniform(0.6, 1.0), 0.15
    has_sun = weather in ("sunny", "dusk")
    sun = (0.5 + 0.9 * across, elevation) if has_sun and ahead > 0.55 else None
    if not has_sun:
        shadow_reach = 0.0
    sky = zenith, skyline, clouds, sun
    return Light(weather, tint, left, right, front, top, haze, haze_per_metre, *sky, shadow, shadow_reach)
