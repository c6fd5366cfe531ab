"""Tests of conversations over the chat socket."""
