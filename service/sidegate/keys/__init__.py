"""API keys that are issued, rotated, revoked and found again. Only their digests are kept."""
