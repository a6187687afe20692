"""Folders of shards in the forms that other tools read: image folders, COCO and WebDataset."""
