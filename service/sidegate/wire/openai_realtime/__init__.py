"""OpenAI's Realtime API, between two sockets: what its events say, and how many tokens a session holds."""
