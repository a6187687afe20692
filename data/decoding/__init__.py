"""From files to pixels and class ids, whatever wrote them."""
