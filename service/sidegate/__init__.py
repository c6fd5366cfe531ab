"""Sidegate: a sidecar gateway for LLM calls."""

__version__ = "0.1.0"
