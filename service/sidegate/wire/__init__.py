"""Wire formats, without I/O: bytes to meaning and back. See `dialect`."""
