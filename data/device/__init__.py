"""Samples on the device that computes with them."""
