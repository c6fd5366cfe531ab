"""Ratios, measured in one run on one machine: the gateway beside a bare relay and a direct line. See README.md."""
