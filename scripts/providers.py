"""Writes docs/providers.md: the presets, from the data that the gateway takes them from.

`scripts/docs` writes the page; a test fails where the page differs from what this gives.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sidegate.presets import PRESETS, Preset
from sidegate.settings import Provider

PAGE = Path(__file__).resolve().parent.parent / "docs" / "providers.md"

HEAD = """\
# Providers

A provider is who answers: its dialect, its base URL, its keys. For common hosts a preset knows all but the key. This
page is generated from the presets, `service/sidegate/presets.py`; a test holds it to them.

```yaml
providers:
  groq: {preset: groq, api_key: "${GROQ_API_KEY}"}
  azure: {preset: azure, resource: my-company, api_key: "${AZURE_OPENAI_API_KEY}"}
  # some hosts speak Anthropic's dialect too
  kimi: {preset: moonshot, dialect: anthropic, api_key: "${MOONSHOT_API_KEY}"}
  # all that a preset says can be said otherwise
  far: {preset: openai, base_url: "https://eu.api.openai.com/v1", responses: true, api_key: "${OPENAI_API_KEY}"}
  # a host without a preset
  own: {dialect: openai, base_url: "https://llm.example.com/v1", max_tokens_field: max_tokens, api_key: k}
models:
  fast: {provider: groq, model: llama-3.3-70b-versatile}
  # on Azure the model is the name of the deployment
  safe: {provider: azure, model: my-gpt-4o}
```

`sidegate explain CONFIG` shows what each provider comes to. A name that no preset has is a mistake that says which are
near. The settings are in [configuration.md](configuration.md#providers).

## Presets

| preset | host | dialect | base URL | key | longest reply | serves |
|---|---|---|---|---|---|---|
"""

LEGEND = """
- **Key**: the header that bears it, and the variable that usually holds it. Servers of one's own need none.
- **Longest reply**: what the host calls it. The gateway uses that word where it sets a limit itself, and where it
  translates. A dash: the dialect has one word for it.
- **Serves**: what the host is asked for besides chats. Legacy completions are asked as chats where it has none, and
  Responses are translated; embeddings of a host that is known to have none are a 400 that says so. A preset says no
  more than the host's pages do: set `responses: true` where you know better.
- Every URL can be another: a region, a proxy, a server on another machine.
- **Prices** are found by the base URL ([prices.md](prices.md)). The lists do not know the addresses of Together (but
  `https://api.together.xyz/v1`, its older one), NVIDIA, Hugging Face and GitHub: their models need prices of yours.
"""

AZURE = """
## Azure OpenAI

`preset: azure` is the newer surface, `https://RESOURCE.openai.azure.com/openai/v1`, which has no versions by date.
`preset: azure_deployments` is the classic one, with the deployment in the path and `?api-version=`:

```yaml
providers:
  azure: {preset: azure, resource: my-company, api_key: "${AZURE_KEY}"}
  classic: {preset: azure_deployments, resource: my-company, api_version: 2024-10-21, api_key: "${AZURE_KEY}"}
  # by a token of Entra ID
  entra: {preset: azure, resource: my-company, key_header: Authorization, api_key: "${AZURE_TOKEN}"}
  foundry: {preset: azure, base_url: "https://my-company.services.ai.azure.com/openai/v1", api_key: "${AZURE_KEY}"}
models:
  chat: {provider: classic, model: my-deployment}
```

- **Tokens of Entra ID** live about an hour, and the gateway does not renew them: a key that is read at the start is
  used until the next. Keys of the resource do not run out.
- **Old versions**, before `2024-09-01-preview`, know no `stream_options`: `stream_usage: false` keeps it from them.
  What a stream has used is then estimated, and marked.
- **Filtered prompts** are a 400 with the code `content_filter`, in the client's dialect.
- **Filtered answers** finish with `content_filter`: `refusal` for Anthropic's clients, `SAFETY` for Gemini's. Azure
  leaves the message out; whoever translates writes an empty one, OpenAI's clients get the bytes as they are.
- **Annotations** of the filters, an event before the first words and, with the asynchronous filter, events without a
  delta between and after them, are no words and no ends. OpenAI's clients get them, others do not.
- **Errors** with a status in words (`"code": "401"`), and those inside a 200, are read as what they say.
"""

QUIRKS = """
## What hosts do otherwise

Whatever the preset, and for hosts without one:

- **Usage** is read from the last event, from the event with the finish reason, from `x_groq`, from a choice (Moonshot);
  told twice, the later counts; told nowhere, it is estimated and marked. Cached tokens are read under the names of
  OpenAI, DeepSeek and Mistral; reasoning that xAI counts beside the output is added to it.
- **Reasoning** is read from `reasoning_content`, from `reasoning`, and from a `content` that is a list with `thinking`;
  sent under two names, it is read once.
- **Errors** are read in the shapes of OpenAI, Azure, OpenRouter (a number as the code), xAI (`error` is a text),
  Mistral (`detail`), vLLM (`object: error`), and as HTML or text of a proxy, of which no word reaches a client. Inside
  a stream they are the error event of the client's dialect.
- **Comments** are signs of life, and are not passed on.
- **Streams without `[DONE]`** end cleanly where every choice has said why it finished; else they were cut.
- **Tool calls** are counted from 0 without gaps, and parallel ones under one index are told apart: for clients of other
  dialects, and for helpers of OpenAI's libraries (`.stream()`), which fail otherwise. Others get the bytes as they are.
  A choice that calls tools and says `stop` finishes with a tool call for clients of other dialects.
- **Embeddings** come in the encoding that was asked for: numbers are packed as base64 of little-endian float32, and
  unpacked, where the host answers in the other. Where it answers as asked, not a byte is touched.

## Notes and sources
"""


def page() -> str:
    """The whole page."""
    rows = "\n".join(_row(preset) for preset in PRESETS.values())
    return HEAD + rows + "\n" + LEGEND + AZURE + QUIRKS + "\n" + "\n".join(_notes()).rstrip() + "\n"


def _row(preset: Preset) -> str:
    provider = Provider(**{"base_url": "", **preset.settings})
    header = provider.key_header or {"anthropic": "x-api-key", "gemini": "x-goog-api-key"}.get(provider.dialect)
    key = f"`{header or 'Authorization'}`, `{preset.key}`" if preset.key else "none"
    cells = (
        f"`{preset.name}`",
        preset.title,
        f"`{provider.dialect}`",
        f"`{provider.base_url}`",
        key,
        f"`{provider.max_tokens_field or 'max_tokens'}`" if provider.dialect == "openai" else "-",
        ", ".join(_serves(provider)) or "-",
    )
    return f"| {' | '.join(cells)} |"


def _serves(provider: Provider) -> Iterator[str]:
    """What a host serves besides chats, by OpenAI's names."""
    if provider.dialect == "gemini":
        yield from ("embeddings", "counts of tokens")
    if provider.dialect == "anthropic":
        yield "counts of tokens"
    if provider.responses or provider.dialect == "openai_responses":
        yield "responses"
    if provider.dialect == "openai" and provider.completions:
        yield "completions"
    if provider.dialect.startswith("openai") and provider.embeddings:
        yield "embeddings"


def _notes() -> Iterator[str]:
    for preset in PRESETS.values():
        yield f"**`{preset.name}`** ({', '.join(f'[{number}]({url})' for number, url in enumerate(preset.sources, 1))})"
        yield ""
        if notes := [*_said(preset), *preset.notes]:
            yield from (f"- {note}" for note in notes)
            yield ""


def _said(preset: Preset) -> Iterator[str]:
    """What a preset says that the table has no column for."""
    settings = preset.settings
    if settings.get("api_version"):
        yield f"`api_version: {settings['api_version']}`, the latest that is not a preview."
    if settings.get("stream_usage") is False:
        yield "`stream_options` is not sent: it knows no such field, and tells usage unasked."
    if settings.get("developer_role") is False:
        yield "Messages of a `developer` are sent as the `system`'s."
    for name, other in settings.get("renamed_fields", {}).items():
        yield f"`{name}` is sent as `{other}`."
    if "anthropic" in preset.also:
        url = preset.also["anthropic"]["base_url"]
        yield f"Anthropic's dialect too, with `dialect: anthropic`: `{url}`."
    if settings.get("system"):
        yield f"Metrics and traces call it `{settings['system']}`."


if __name__ == "__main__":
    PAGE.write_text(page())
