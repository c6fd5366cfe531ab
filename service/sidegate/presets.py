"""Presets: what is known of common hosts, as data, so that `{preset: groq, api_key: ...}` is all a config says of one.

Each is the settings of a provider that hold for a host, by the host's own pages. What a page does not say is not here:
the defaults of the dialect hold. Whatever a config says itself comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from msgspec import Struct, field

NEWER = "max_completion_tokens"
OLDER = "max_tokens"
CHAT_ONLY: Mapping[str, Any] = MappingProxyType({"completions": False, "embeddings": False})


class Preset(Struct, frozen=True, kw_only=True):
    """One host. `settings` are fields of a provider, `sources` the pages that say so."""

    name: str
    title: str
    settings: Mapping[str, Any]
    also: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Settings that hold where a config says another dialect, by its name: a host may speak several."""
    key: str = ""
    """The variable that usually holds the key; empty where a server of one's own needs none."""
    sources: tuple[str, ...]
    notes: tuple[str, ...] = field(default=())
    """What else is done otherwise there, and what the gateway makes of it; for people."""


def _openai(
    name: str,
    title: str,
    url: str,
    key: str,
    *sources: str,
    notes: tuple[str, ...] = (),
    anthropic: Mapping[str, Any] | None = None,
    **more: Any,
) -> Preset:
    settings = {"dialect": "openai", "base_url": url, **more}
    also = {} if anthropic is None else {"anthropic": anthropic}
    return Preset(name=name, title=title, settings=settings, also=also, key=key, sources=sources, notes=notes)


_ALL = (
    # --- vendors of their own dialects --------------------------------------------------------------------------------
    _openai(
        "openai",
        "OpenAI",
        "https://api.openai.com/v1",
        "OPENAI_API_KEY",
        "https://platform.openai.com/docs/api-reference",
        responses=True,
        max_tokens_field=NEWER,
    ),
    Preset(
        name="anthropic",
        title="Anthropic",
        settings={"dialect": "anthropic", "base_url": "https://api.anthropic.com"},
        key="ANTHROPIC_API_KEY",
        sources=("https://docs.anthropic.com/en/api/overview",),
    ),
    Preset(
        name="gemini",
        title="Google Gemini",
        settings={"dialect": "gemini", "base_url": "https://generativelanguage.googleapis.com"},
        key="GEMINI_API_KEY",
        sources=("https://ai.google.dev/api",),
    ),
    # --- Azure --------------------------------------------------------------------------------------------------------
    _openai(
        "azure",
        "Azure OpenAI",
        "https://{resource}.openai.azure.com/openai/v1",
        "AZURE_OPENAI_API_KEY",
        "https://learn.microsoft.com/azure/foundry/openai/api-version-lifecycle",
        "https://learn.microsoft.com/azure/foundry/openai/concepts/content-streaming",
        key_header="api-key",
        responses=True,
        max_tokens_field=NEWER,
        system="azure.ai.openai",
        notes=(
            "The target's model is the name of the deployment.",
            "A token of Entra ID: `key_header: Authorization`.",
            "A filtered answer ends with `content_filter`; annotations without text are passed on to OpenAI's clients.",
        ),
    ),
    _openai(
        "azure_deployments",
        "Azure OpenAI, paths by deployment",
        "https://{resource}.openai.azure.com/openai",
        "AZURE_OPENAI_API_KEY",
        "https://learn.microsoft.com/azure/foundry/openai/reference",
        key_header="api-key",
        api_version="2024-10-21",
        deployment_paths=True,
        max_tokens_field=NEWER,
        system="azure.ai.openai",
        notes=("As `azure`. `/responses` needs `responses: true` and a later `api_version`.",),
    ),
    # --- vendors that speak as OpenAI does ----------------------------------------------------------------------------
    _openai(
        "mistral",
        "Mistral",
        "https://api.mistral.ai/v1",
        "MISTRAL_API_KEY",
        "https://docs.mistral.ai/api",
        # Its requests know no `stream_options`; usage comes with the finish reason, unasked.
        stream_usage=False,
        developer_role=False,
        renamed_fields={"seed": "random_seed", NEWER: OLDER},
        max_tokens_field=OLDER,
        completions=False,
        system="mistral_ai",
        notes=(
            "`content` may be a list with `thinking`: reasoning, in other dialects.",
            'Errors may be `{"detail": ...}`.',
        ),
    ),
    _openai(
        "groq",
        "Groq",
        "https://api.groq.com/openai/v1",
        "GROQ_API_KEY",
        "https://console.groq.com/docs/openai",
        "https://console.groq.com/docs/api-reference",
        responses=True,
        max_tokens_field=NEWER,
        system="groq",
        notes=("Usage of a stream may stand in `x_groq`.", "`n` above 1 and `logprobs` are refused by the host."),
        **CHAT_ONLY,
    ),
    _openai(
        "openrouter",
        "OpenRouter",
        "https://openrouter.ai/api/v1",
        "OPENROUTER_API_KEY",
        "https://openrouter.ai/docs/api/reference/errors-and-debugging",
        "https://openrouter.ai/docs/api/reference/overview",
        responses=True,
        notes=(
            "Comments while it is working are signs of life.",
            "An error inside a stream has a number for its code; it becomes the error event of the client's dialect.",
            "Reasoning in `reasoning` and `reasoning_details` is read once.",
        ),
    ),
    _openai(
        "deepseek",
        "DeepSeek",
        "https://api.deepseek.com",
        "DEEPSEEK_API_KEY",
        "https://api-docs.deepseek.com/",
        "https://api-docs.deepseek.com/api/create-chat-completion",
        anthropic={"base_url": "https://api.deepseek.com/anthropic"},
        responses=True,
        developer_role=False,
        renamed_fields={NEWER: OLDER},
        max_tokens_field=OLDER,
        system="deepseek",
        notes=("Reasoning comes in `reasoning_content`, cached tokens in `prompt_cache_hit_tokens`.",),
        **CHAT_ONLY,
    ),
    _openai(
        "xai",
        "xAI",
        "https://api.x.ai/v1",
        "XAI_API_KEY",
        "https://docs.x.ai/developers/model-capabilities/text/comparison",
        responses=True,
        max_tokens_field=OLDER,
        system="x_ai",
        notes=(
            'Errors are `{"code": ..., "error": "..."}`.',
            "Reasoning tokens are told beside the output, and added to it.",
        ),
    ),
    _openai(
        "together",
        "Together AI",
        "https://api.together.ai/v1",
        "TOGETHER_API_KEY",
        "https://docs.together.ai/docs/inference/openai-compatibility",
    ),
    _openai(
        "fireworks",
        "Fireworks AI",
        "https://api.fireworks.ai/inference/v1",
        "FIREWORKS_API_KEY",
        "https://docs.fireworks.ai/tools-sdks/openai-compatibility",
        "https://docs.fireworks.ai/tools-sdks/anthropic-compatibility",
        anthropic={"base_url": "https://api.fireworks.ai/inference", "key_header": "Authorization"},
        notes=("Usage comes with the last event of a stream, asked for or not.",),
    ),
    Preset(
        name="perplexity",
        title="Perplexity",
        # Its chat completions ended in September 2026; chats of clients are translated to Responses.
        settings={
            "dialect": "openai_responses",
            "base_url": "https://api.perplexity.ai/v1",
            "system": "perplexity",
        },
        key="PERPLEXITY_API_KEY",
        sources=("https://docs.perplexity.ai/docs/agent-api/migrate-from-sonar/overview",),
        notes=("It speaks Responses only: clients that speak chats are translated.",),
    ),
    _openai(
        "cerebras",
        "Cerebras",
        "https://api.cerebras.ai/v1",
        "CEREBRAS_API_KEY",
        "https://inference-docs.cerebras.ai/resources/openai",
        "https://inference-docs.cerebras.ai/api-reference/chat-completions",
        max_tokens_field=NEWER,
        embeddings=False,
    ),
    _openai(
        "nvidia",
        "NVIDIA API catalog",
        "https://integrate.api.nvidia.com/v1",
        "NVIDIA_API_KEY",
        "https://build.nvidia.com/",
        "https://docs.api.nvidia.com/nim/reference/",
    ),
    _openai(
        "huggingface",
        "Hugging Face router",
        "https://router.huggingface.co/v1",
        "HF_TOKEN",
        "https://huggingface.co/docs/inference-providers/index",
        notes=("`model:provider` chooses who serves a model.",),
        **CHAT_ONLY,
    ),
    _openai(
        "github",
        "GitHub Models",
        "https://models.github.ai/inference",
        "GITHUB_TOKEN",
        "https://docs.github.com/en/rest/models/inference",
        completions=False,
        notes=("Calls for an organisation: `base_url: https://models.github.ai/orgs/ORG/inference`.",),
    ),
    _openai(
        "gemini_openai",
        "Google Gemini by OpenAI's dialect",
        "https://generativelanguage.googleapis.com/v1beta/openai",
        "GEMINI_API_KEY",
        "https://ai.google.dev/gemini-api/docs/openai",
        "https://ai.google.dev/api/compatibility",
        completions=False,
        system="gcp.gemini",
        notes=("`gemini` is its own dialect, which says more.",),
    ),
    _openai(
        "cohere",
        "Cohere",
        "https://api.cohere.ai/compatibility/v1",
        "COHERE_API_KEY",
        "https://docs.cohere.com/docs/compatibility-api",
        completions=False,
        system="cohere",
    ),
    _openai(
        "moonshot",
        "Moonshot AI (Kimi)",
        "https://api.moonshot.ai/v1",
        "MOONSHOT_API_KEY",
        "https://platform.kimi.ai/docs/api/overview",
        anthropic={"base_url": "https://api.moonshot.ai/anthropic", "key_header": "Authorization"},
        responses=True,
        notes=("Usage of a stream may stand in its choice.",),
        **CHAT_ONLY,
    ),
    _openai(
        "zai",
        "Z.ai (GLM)",
        "https://api.z.ai/api/paas/v4",
        "ZAI_API_KEY",
        "https://docs.z.ai/api-reference/introduction",
        "https://docs.z.ai/guides/develop/openai/python",
        anthropic={"base_url": "https://api.z.ai/api/anthropic", "key_header": "Authorization"},
        completions=False,
        notes=("With a coding plan: `base_url: https://api.z.ai/api/coding/paas/v4`.",),
    ),
    # --- servers of one's own -----------------------------------------------------------------------------------------
    _openai(
        "ollama",
        "Ollama",
        "http://localhost:11434/v1",
        "",
        "https://docs.ollama.com/api/openai-compatibility",
        "https://docs.ollama.com/api/anthropic-compatibility",
        anthropic={"base_url": "http://localhost:11434"},
        responses=True,
        renamed_fields={NEWER: OLDER},
        max_tokens_field=OLDER,
        notes=(
            "`tool_choice`, `n` and `logit_bias` are not known to it.",
            "Older ones send parallel tool calls under one index, and finish them with `stop`: they are told apart.",
        ),
    ),
    _openai(
        "vllm",
        "vLLM",
        "http://localhost:8000/v1",
        "",
        "https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html",
        responses=True,
        notes=("A key is what `--api-key` of the server says.",),
    ),
    _openai(
        "lmstudio",
        "LM Studio",
        "http://localhost:1234/v1",
        "",
        "https://lmstudio.ai/docs/developer/openai-compat",
        "https://lmstudio.ai/docs/developer/anthropic-compat",
        anthropic={"base_url": "http://localhost:1234"},
        responses=True,
        renamed_fields={NEWER: OLDER},
        max_tokens_field=OLDER,
    ),
    _openai(
        "llamacpp",
        "llama.cpp server",
        "http://localhost:8080/v1",
        "",
        "https://github.com/ggml-org/llama.cpp/blob/master/tools/server/README.md",
        notes=("A key is what `--api-key` of the server says.",),
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _ALL})
"""All by name, in the order of the docs."""


def unknown(name: str) -> str:
    """What is wrong with a name that no preset has, and which are near; all of them where none is."""
    near = get_close_matches(name.lower().replace("-", "_"), PRESETS, n=3, cutoff=0.5)
    near = near or [known for known in PRESETS if name and (name.lower() in known or known in name.lower())]
    if near:
        return f"no preset `{name}` is known, did you mean {' or '.join(f'`{one}`' for one in near)}?"
    return f"no preset `{name}` is known; there are {', '.join(PRESETS)}"
