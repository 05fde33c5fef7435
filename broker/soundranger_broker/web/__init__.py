"""The page: a live map of nodes and events in a browser, served on its own port."""
