"""What call routes serve: paths, below a route's prefix, and operations."""

from __future__ import annotations

CALLS = {
    "/v1/chat/completions": "openai.chat",
    "/v1/completions": "openai.completions",
    "/v1/embeddings": "openai.embeddings",
    "/v1/responses": "openai.responses",
    "/v1/messages": "anthropic.messages",
    "/v1/messages/count_tokens": "anthropic.count_tokens",
}
"""Client paths, below a route's prefix, and the dialect spoken there; those of Gemini are in `http/gemini.py`."""

OPERATIONS = ("chat", "text_completion", "embeddings", "count_tokens", "models", "calls", "usage", "jobs", "responses")
