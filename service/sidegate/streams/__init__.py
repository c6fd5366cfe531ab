"""Streams that survive their connection: what a call says is kept beside it for a while, and read again from there."""
