"""Renders a scene to an image and its label map."""

from __future__ import annotations

import random

import numpy as np

from scenepalette.common.randomness import numpy_generator
from scenepalette.data.classes import IGNORE_ID
from scenepalette.data.streetscene.buildings import Building, draw_backdrop, draw_building
from scenepalette.data.streetscene.camera import Camera
from scenepalette.data.streetscene.canvas import Canvas
from scenepalette.data.streetscene.finish import develop, sky_background
from scenepalette.data.streetscene.furniture import Fence, Post, draw_fence, draw_post
from scenepalette.data.streetscene.ground import draw_ground
from scenepalette.data.streetscene.light import Color, scaled
from scenepalette.data.streetscene.people import Person, draw_person
from scenepalette.data.streetscene.plants import Hedge, Tree, draw_hedge, draw_tree
from scenepalette.data.streetscene.scene import Scene
from scenepalette.data.streetscene.vehicles import Vehicle, draw_vehicle

# Pixels of the finished picture up to which four strokes per pixel side are affordable; above, two are enough.
FOURFOLD_PIXELS = 128 * 160


def oversampling_for(size: tuple[int, int]) -> int:
    """Canvas pixels per picture pixel along each side for a picture of `size` (height, width)."""
    return 4 if size[0] * size[1] <= FOURFOLD_PIXELS else 2


def render(scene: Scene, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Draws `scene` at `size` (height, width).

    The label of a pixel is the class drawn at its centre; its colour is the mean over the pixel.

    Returns:
        image uint8 [H, W, 3] and label uint8 [H, W] with class ids or 255.
    """
    height, width = size
    factor = oversampling_for(size)
    generator = numpy_generator("street pixels", scene.seed)
    camera = Camera(scene.view, height * factor, width * factor)
    canvas = Canvas(camera, scene.light, sky_background(camera, scene.light, generator, factor))
    rng = random.Random(scene.seed)
    draw_backdrop(canvas, scene.backdrop, random.Random(rng.getrandbits(62)))
    draw_ground(canvas, scene.ground, random.Random(rng.getrandbits(62)))
    for thing in scene.things:
        if isinstance(thing, Building):
            draw_building(canvas, thing)
        elif isinstance(thing, Tree):
            draw_tree(canvas, thing)
        elif isinstance(thing, Vehicle):
            draw_vehicle(canvas, thing)
        elif isinstance(thing, Person):
            draw_person(canvas, thing)
        elif isinstance(thing, Post):
            draw_post(canvas, thing)
        elif isinstance(thing, Fence):
            draw_fence(canvas, thing)
        elif isinstance(thing, Hedge):
            draw_hedge(canvas, thing)
    if scene.bonnet is not None:
        _draw_bonnet(canvas, scene.bonnet)
    label = np.asarray(canvas.picture)[factor // 2 :: factor, factor // 2 :: factor, 3].copy()
    image = np.asarray(canvas.picture.reduce(factor), np.float32)[..., :3].copy()
    shade = np.asarray(canvas.shade.reduce(factor), np.float32) / 255
    glows = [(u / factor, v / factor, radius / factor, color) for u, v, radius, color in canvas.glows]
    photograph = develop(image, label, shade, glows, Camera(scene.view, height, width), scene.light, generator)
    if scene.is_mirrored:
        return np.ascontiguousarray(photograph[:, ::-1]), np.ascontiguousarray(label[:, ::-1])
    return photograph, label


def _draw_bonnet(canvas: Canvas, paint: Color) -> None:
    """The camera car's own bonnet along the lower edge, which no class names."""
    height, width = canvas.camera.height, canvas.camera.width
    top = 0.945 * height
    points = [(0.02 * width, height), (0.1 * width, top + 0.025 * height), (0.3 * width, top), (0.7 * width, top)]
    points += [(0.9 * width, top + 0.025 * height), (0.98 * width, height)]
    canvas.polygon(points, canvas.light.tone(paint, 1, 0.7), IGNORE_ID)
    shine = canvas.light.tone(scaled(paint, 1.3), 1, 0.8)
    canvas.line(
        ((0.3 * width, top + 0.008 * height), (0.7 * width, top + 0.008 * height)), shine, IGNORE_ID, 0.006 * height
    )
