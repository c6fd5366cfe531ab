"""Telemetry: metrics, logs, and the names they use."""
