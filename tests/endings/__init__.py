"""How calls end: by what providers and clients do wrong."""
