"""Where Gemini's methods are: `models/MODEL:METHOD`, below a base URL that ends with the API's version.

A model's name comes from a client where the config leaves it open, and the gateway's key goes with the request: so a
name is one or more plain segments, and nothing in it leads elsewhere.
"""

from __future__ import annotations

from urllib.parse import quote

from sidegate.errors import BadRequest

_ROOTS = ("models/", "tunedModels/", "publishers/", "projects/", "endpoints/")


def resource(model: str) -> str:
    """The model as the API names it: below `models/`, unless it says where it is. Raises `BadRequest`."""
    if not model or len(model) > 512 or any(part in ("", ".", "..") for part in model.split("/")):
        raise BadRequest(
            f"The model {model[:100]!r} is no name of one.", param="model", code="model_not_found", status=404
        )
    return model if model.startswith(_ROOTS) else f"models/{model}"


def located(model: str, method: str) -> str:
    """The path of a method. A colon in a name is no mark of one."""
    return f"/{quote(resource(model), safe='/')}:{method}"


def plain(model: str) -> str:
    """A model of a client's path as callers name it; clients of Vertex AI say whose it is before."""
    if model.startswith(("projects/", "publishers/")):
        return model.rpartition("/models/")[2]
    return model.removeprefix("models/")
