"""Tests of streams that survive their connection."""
