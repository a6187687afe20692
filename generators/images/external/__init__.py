"""Image systems that paint elsewhere: in a command of the user's, or behind a URL."""
