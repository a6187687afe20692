"""Segmentation networks that judge generated pairs: DeepLabV3, its training arms, AdvEnt, mIoU and the metrics."""
