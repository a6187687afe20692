"""Folders of shards in the forms that other tools read, one module a form."""
