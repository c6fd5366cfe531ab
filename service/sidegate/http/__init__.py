"""HTTP: the server and its routes. The only importer of aiohttp.web."""
