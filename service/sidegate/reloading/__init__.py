"""Reloading: another config takes the place of the one in force, while calls go on."""
