"""Weather and light of a street scene, and how they change a material's colour."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

Color = tuple[float, float, float]
Pixel = tuple[int, int, int]

WEATHERS = ("sunny", "overcast", "dusk", "night", "fog", "rain")
WEATHER_WEIGHTS = (0.36, 0.24, 0.12, 0.10, 0.08, 0.10)


def mix(first: Color, second: Color, share: float) -> Color:
    """The colour `share` of the way from `first` to `second`."""
    rest = 1 - share
    return (
        first[0] * rest + second[0] * share,
        first[1] * rest + second[1] * share,
        first[2] * rest + second[2] * share,
    )


def scaled(color: Color, factor: float) -> Color:
    """The colour, brighter or darker by `factor`."""
    return (color[0] * factor, color[1] * factor, color[2] * factor)


def varied(rng: random.Random, color: Color, amount: float) -> Color:
    """A random neighbour of `color`: common brightness and a little of each channel move by about `amount`."""
    common = rng.gauss(0, amount)
    return (
        color[0] + common + rng.gauss(0, amount / 3),
        color[1] + common + rng.gauss(0, amount / 3),
        color[2] + common + rng.gauss(0, amount / 3),
    )


@dataclass(frozen=True)
class Light:
    """Light of one scene; colours are 0..255 per channel.

    Attributes:
        weather: one of `WEATHERS`.
        tint: factor per channel on every lit surface.
        left: brightness of surfaces that face left; `right`, `front` (towards the camera) and `top` likewise.
        haze: colour that distant things fade to.
        haze_per_metre: fading rate.
        zenith: sky colour overhead; `skyline` at the horizon.
        clouds: cloud cover, 0 to 1.
        sun: position of the sun in the picture as shares of width and of the sky's height, or None.
        shadow: darkness of cast shadows, 0 to 1.
        shadow_reach: sideways length of a shadow per metre of height; positive falls to the right.
    """

    weather: str
    tint: Color
    left: float
    right: float
    front: float
    top: float
    haze: Color
    haze_per_metre: float
    zenith: Color
    skyline: Color
    clouds: float
    sun: tuple[float, float] | None
    shadow: float
    shadow_reach: float

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
        clear = math.exp(-z * self.haze_per_metre)
        haze = self.haze
        tint = self.tint
        red = color[0] * tint[0] * facing * clear + haze[0] * (1 - clear)
        green = color[1] * tint[1] * facing * clear + haze[1] * (1 - clear)
        blue = color[2] * tint[2] * facing * clear + haze[2] * (1 - clear)
        return (
            0 if red < 0 else 255 if red > 255 else int(red),
            0 if green < 0 else 255 if green > 255 else int(green),
            0 if blue < 0 else 255 if blue > 255 else int(blue),
        )

    def glow(self, color: Color, z: float) -> Pixel:
        """Colour of a surface that shines by itself at distance z, as 8-bit values."""
        clear = math.exp(-z * self.haze_per_metre * 0.5)
        red, green, blue = mix(self.haze, color, clear)
        return int(min(255, max(0, red))), int(min(255, max(0, green))), int(min(255, max(0, blue)))


def sample_light(rng: random.Random) -> Light:
    """Draws weather, sun and colours of the air."""
    weather = rng.choices(WEATHERS, WEATHER_WEIGHTS)[0]
    azimuth = rng.uniform(-math.pi, math.pi)
    across = math.sin(azimuth)
    ahead = math.cos(azimuth)
    strength = {"sunny": 0.42, "dusk": 0.28, "overcast": 0.08, "rain": 0.05, "fog": 0.03, "night": 0.06}[weather]
    faces = {
        "left": 0.8 - strength * across,
        "right": 0.8 + strength * across,
        "front": 0.8 - strength * ahead * 0.8,
    }
    if weather in ("overcast", "rain", "fog"):
        faces = {name: value + rng.uniform(-0.06, 0.06) for name, value in faces.items()}
    elevation = rng.uniform(0.1, 0.8)
    sun = (0.5 + 0.9 * across, elevation) if ahead > 0.55 and weather in ("sunny", "dusk") else None
    shadow_reach = -across * rng.uniform(0.5, 1.6)
    if weather == "sunny":
        blue = varied(rng, (70.0, 125.0, 205.0), 14)
        skyline = varied(rng, (185.0, 212.0, 235.0), 10)
        warm = rng.uniform(0.0, 0.1)
        return Light(
            weather,
            (1.06 + warm / 2, 1.03, 1.0 - warm),
            **faces,
            top=1.02,
            haze=mix(skyline, (190, 200, 210), 0.4),
            haze_per_metre=rng.uniform(0.001, 0.004),
            zenith=blue,
            skyline=skyline,
            clouds=rng.choice((0.0, 0.25, 0.5, 0.7)),
            sun=sun,
            shadow=rng.uniform(0.38, 0.6),
            shadow_reach=shadow_reach,
        )
    if weather == "overcast":
        grey = rng.uniform(150, 225)
        skyline = varied(rng, (grey + 12, grey + 15, grey + 18), 4)
        tint = rng.uniform(0.72, 0.98)
        return Light(
            weather,
            (tint, tint * 1.01, tint * 1.04),
            **faces,
            top=0.92,
            haze=skyline,
            haze_per_metre=rng.uniform(0.002, 0.007),
            zenith=varied(rng, (grey - 22, grey - 18, grey - 8), 5),
            skyline=skyline,
            clouds=rng.uniform(0.5, 1.0),
            sun=None,
            shadow=0.12,
            shadow_reach=0.0,
        )
    if weather == "dusk":
        skyline = varied(rng, rng.choice(((245.0, 165.0, 105.0), (235.0, 150.0, 140.0), (225.0, 190.0, 150.0))), 10)
        return Light(
            weather,
            (0.72, 0.58, 0.54),
            **faces,
            top=0.8,
            haze=mix(skyline, (120, 100, 110), 0.5),
            haze_per_metre=rng.uniform(0.003, 0.008),
            zenith=varied(rng, (72.0, 82.0, 130.0), 14),
            skyline=skyline,
            clouds=rng.uniform(0.0, 0.8),
            sun=sun,
            shadow=rng.uniform(0.15, 0.35),
            shadow_reach=1.6 * shadow_reach,
        )
    if weather == "night":
        skyline = varied(rng, (40.0, 38.0, 48.0), 7)
        tint = rng.uniform(0.32, 0.52)
        return Light(
            weather,
            (tint * 1.1, tint, tint * rng.uniform(0.75, 1.1)),
            **faces,
            top=0.9,
            haze=skyline,
            haze_per_metre=rng.uniform(0.006, 0.014),
            zenith=varied(rng, (14.0, 16.0, 30.0), 4),
            skyline=skyline,
            clouds=rng.uniform(0.0, 0.5),
            sun=None,
            shadow=0.15,
            shadow_reach=0.0,
        )
    if weather == "fog":
        grey = rng.uniform(160, 220)
        skyline = varied(rng, (grey, grey + 2, grey + 4), 5)
        return Light(
            weather,
            (0.86, 0.87, 0.89),
            **faces,
            top=0.9,
            haze=skyline,
            haze_per_metre=rng.uniform(0.014, 0.034),
            zenith=scaled(skyline, 0.94),
            skyline=skyline,
            clouds=0.1,
            sun=None,
            shadow=0.08,
            shadow_reach=0.0,
        )
    grey = rng.uniform(105, 165)
    skyline = varied(rng, (grey + 10, grey + 15, grey + 22), 5)
    return Light(
        weather,
        (0.72, 0.75, 0.8),
        **faces,
        top=0.8,
        haze=skyline,
        haze_per_metre=rng.uniform(0.006, 0.014),
        zenith=varied(rng, (grey - 25, grey - 20, grey - 8), 5),
        skyline=skyline,
        clouds=rng.uniform(0.6, 1.0),
        sun=None,
        shadow=0.15,
        shadow_reach=0.0,
    )
