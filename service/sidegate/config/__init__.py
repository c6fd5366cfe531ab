"""The config: a file becomes `Settings`, or a list of every mistake in it, each with its place."""

from sidegate.config.conversion import Conversion, convert_settings
from sidegate.config.masking import mask, scrub, secrets_in
from sidegate.config.mistakes import ConfigErrors, Mistakes
from sidegate.config.reading import NOTHING, Loaded, read_config, read_mapping

__all__ = [
    "NOTHING",
    "ConfigErrors",
    "Conversion",
    "Loaded",
    "Mistakes",
    "convert_settings",
    "mask",
    "read_config",
    "read_mapping",
    "scrub",
    "secrets_in",
]
