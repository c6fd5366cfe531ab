"""Stores that fail under a running gateway: streams go on, what is billed is refused or kept, all is counted once."""
