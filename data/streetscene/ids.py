"""Class ids of the embedded street scenes, in the order of the class table `scenepalette.data.streets.STREETS`."""

from __future__ import annotations

ROAD = 0
LANE_MARKING = 1
SIDEWALK = 2
BUILDING = 3
FENCE = 4
POLE = 5
TRAFFIC_SIGN = 6
VEGETATION = 7
TERRAIN = 8
SKY = 9
PEDESTRIAN = 10
BICYCLIST = 11
CAR = 12
TRUCK = 13
