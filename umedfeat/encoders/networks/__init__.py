"""The networks themselves, as torch modules with the names of their weights."""
