"""Responses of OpenAI's Responses API that providers keep: whose they are, and where."""
