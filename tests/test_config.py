"""The config: what is read, what is refused, and where a message says that it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import fields

from sidegate.config import ConfigErrors, Loaded, mask, read_config, read_mapping, secrets_in
from sidegate.config.masking import Interpolated
from sidegate.errors import ConfigError
from sidegate.settings import Choice, Settings, Target

BASE = Path("/etc/sidegate")


def config(**blocks: Any) -> dict[str, Any]:
    """A config that can be used, with some blocks changed."""
    return {
        "providers": {"one": {"dialect": "openai", "base_url": "http://127.0.0.1:9/v1", "api_key": "sk-test-1"}},
        "models": {"gpt": {"provider": "one", "model": "gpt-4o"}},
        "pipelines": {"main": {"plugins": []}},
    } | blocks


def provider(**fields: Any) -> dict[str, Any]:
    return {"one": {"dialect": "openai", "api_key": "sk-test-1"} | fields}


def read(data: dict[str, Any], environ: Mapping[str, str] | None = None, base: Path = BASE) -> Loaded:
    return read_mapping(data, environ or {}, base)


def mistakes(data: dict[str, Any], environ: Mapping[str, str] | None = None, base: Path = BASE) -> list[str]:
    with pytest.raises(ConfigErrors) as caught:
        read(data, environ, base)
    assert str(caught.value) == "\n".join(str(error) for error in caught.value.errors)
    return [str(error) for error in caught.value.errors]


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refused(path: Path) -> str:
    """The one line with which a file is refused."""
    with pytest.raises(ConfigError) as caught:
        read_config(path, {})
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text.removeprefix(f"{path}: ")


# --- a config that is right -------------------------------------------------------------------------------------------


def test_what_is_left_out_is_filled_in() -> None:
    loaded = read(config(providers={"o": {"dialect": "openai", "api_key": "k1"}}, models={"m": {"provider": "o"}}))
    assert loaded.settings.providers["o"].base_url == "https://api.openai.com/v1"
    assert [(route.name, route.pipeline) for route in loaded.settings.routes] == [("default", "main")]
    assert loaded.settings.state == "/etc/sidegate/var"
    assert loaded.settings.ledger.url == "sqlite:////etc/sidegate/var/sidegate.db"
    assert loaded.warnings == ()


def test_anthropic_has_its_own_base_url() -> None:
    loaded = read(config(providers=provider(dialect="anthropic")))
    assert loaded.settings.providers["one"].base_url == "https://api.anthropic.com"


def test_a_trailing_slash_of_a_base_url_is_dropped() -> None:
    loaded = read(config(providers=provider(base_url="https://llm.example:8443/v1/")))
    assert loaded.settings.providers["one"].base_url == "https://llm.example:8443/v1"


YAML = """
listen: {host: 127.0.0.1, port: 9000}
providers:
  one:
    dialect: openai
    base_url: https://llm.example/v1
    api_key: ${KEY}
    headers: {x-version: 2024-10-21, x-no: no}
    timeouts: {connect: 2.5, total: 1e3}
models:
  fast: {provider: one}
  both: [{provider: one, model: a}, {provider: one, model: b}]
pipelines:
  main:
    plugins:
      - use: rate_limit
        settings: {rpm: 60, pattern: '^a$'}
plugin_prefixes: null
"""

TOML = r"""
[listen]
host = "127.0.0.1"
port = 9000
[providers.one]
dialect = "openai"
base_url = "https://llm.example/v1"
api_key = "${KEY}"
headers = {x-version = "2024-10-21", x-no = "no"}
timeouts = {connect = 2.5, total = 1e3}
[models]
fast = {provider = "one"}
both = [{provider = "one", model = "a"}, {provider = "one", model = "b"}]
[[pipelines.main.plugins]]
use = "rate_limit"
settings = {rpm = 60, pattern = '^a$'}
"""

JSON = json.dumps(
    {
        "listen": {"host": "127.0.0.1", "port": 9000},
        "providers": {
            "one": {
                "dialect": "openai",
                "base_url": "https://llm.example/v1",
                "api_key": "${KEY}",
                "headers": {"x-version": "2024-10-21", "x-no": "no"},
                "timeouts": {"connect": 2.5, "total": 1e3},
            }
        },
        "models": {
            "fast": {"provider": "one"},
            "both": [{"provider": "one", "model": "a"}, {"provider": "one", "model": "b"}],
        },
        "pipelines": {"main": {"plugins": [{"use": "rate_limit", "settings": {"rpm": 60, "pattern": "^a$"}}]}},
        "plugin_prefixes": None,
    }
)


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.yaml", YAML), ("c.yml", YAML), ("c.toml", TOML), ("c.json", JSON), ("C.YAML", "\ufeff" + YAML)],
)
def test_yaml_toml_and_json_say_the_same(tmp_path: Path, name: str, text: str) -> None:
    same = read_config(written(tmp_path, "same.json", JSON), {"KEY": "sk-same"})
    loaded = read_config(written(tmp_path, name, text), {"KEY": "sk-same"})
    assert loaded.settings == same.settings
    assert loaded.base == tmp_path
    assert loaded.path == tmp_path / name
    assert loaded.secrets == {"sk-same"}
    assert loaded.settings.providers["one"].headers == {"x-version": "2024-10-21", "x-no": "no"}


def test_yaml_may_merge_what_it_has_named(tmp_path: Path) -> None:
    text = """
defaults: &defaults {dialect: openai, api_key: k1}
providers: {a: {<<: *defaults, base_url: 'http://a/'}}
"""
    data = written(tmp_path, "c.yaml", text)
    with pytest.raises(ConfigErrors) as caught:
        read_config(data, {})
    assert [error.problem for error in caught.value.errors if "`defaults`" in error.problem] == [
        "unknown field `defaults`"
    ]
    assert not [error for error in caught.value.errors if error.place.startswith("providers.a")]


# --- files that are no config -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("c.yaml", "", "is empty"),
        ("c.yaml", "  \n# nothing\n", "is empty"),
        ("c.toml", "\n", "is empty"),
        ("c.json", "", "is empty"),
        ("c.json", "null", "is empty"),
        ("c.yaml", "- a\n- b", "expected a mapping at the top, got a list"),
        ("c.yaml", "word", "expected a mapping at the top, got text"),
        ("c.json", "3", "expected a mapping at the top, got a number"),
        ("c.json", "true", "expected a mapping at the top, got a boolean"),
        ("c.yaml", b"\x7fELF\x02\x01\x00\xff\xfe", "is not UTF-8 text"),
        ("c.toml", b"a = '\xff'", "is not UTF-8 text"),
        ("c.yaml", "a: \x00b", "character 3: a control character is not allowed"),
        ("c.yaml", "a: 1\nb: 2\na: 3", "line 3: the key 'a' stands twice in one mapping"),
        ("c.yaml", "x: {a: 1, a: 2}", "line 1: the key 'a' stands twice in one mapping"),
        ("c.json", '{"x": {"a": 1, "a": 2}}', "the key 'a' stands twice in one object"),
        ("c.toml", "a = 1\na = 2\nb = 3", "Cannot overwrite a value (at line 2, column 6)"),
        ("c.yaml", "a: !!python/object/apply:os.system ['id']", "line 1: tags are not allowed: quote text that starts"),
        ("c.yaml", "a: !hunter2", "line 1: tags are not allowed: quote text that starts with `!`"),
        ("c.yaml", "a: !!str 3", "line 1: tags are not allowed"),
        ("c.yaml", "a: !!map {b: 3}", "line 1: tags are not allowed"),
        ("c.yaml", "a: *hunter2", "line 1: an alias leads nowhere: quote text that starts with `*`"),
        ("c.yaml", "? [a]\n: 3", "line 1: a key must be text"),
        ("c.yaml", "a: 1\n---\nb: 2", "line 2: but found another document"),
        ("c.yaml", "a: [1, 2", "line 1: expected ',' or ']', but got text"),
        ("c.yaml", "a:\n\t- b", "line 2: found character"),
        ("c.json", '{"a": ', "line 1: Expecting value"),
        ("c.toml", "a = ", "Invalid value (at end of document)"),
        ("c.yaml", "[" * 100_000, "is nested too deeply"),
        ("c.json", "[" * 100_000, "is nested too deeply"),
        ("c.json", '{"a": ' + "1" * 5000 + "}", "a number is too long"),
        ("c.ini", "[a]", "expected a file that ends in .yaml, .yml, .toml or .json"),
        ("c.json", " " * (4 * 2**20) + "{}", "is larger than 4 MiB"),
    ],
)
def test_a_file_that_is_no_config_is_refused_in_one_line(
    tmp_path: Path, name: str, content: str | bytes, problem: str
) -> None:
    text = refused(written(tmp_path, name, content))
    assert text.startswith(problem)
    assert "hunter2" not in text


def test_a_missing_file_a_folder_and_an_unreadable_file_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert refused(tmp_path / "none.yaml") == "cannot be read: No such file or directory"
    (tmp_path / "folder.yaml").mkdir()
    assert refused(tmp_path / "folder.yaml") == "cannot be read: Is a directory"
    path = written(tmp_path, "locked.yaml", "a: 1")
    # Tests may run as root, to whom every file is open.
    monkeypatch.setattr(Path, "open", Mock(side_effect=PermissionError(13, "Permission denied")))
    assert refused(path) == "cannot be read: Permission denied"


@pytest.mark.parametrize("text", ["a: &a [*a]", "a: &a {b: *a}"])
def test_an_alias_that_contains_itself_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigErrors, match="too large or nested too deeply"):
        read_config(written(tmp_path, "c.yaml", text), {})


def test_aliases_that_multiply_are_refused_at_once(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    with pytest.raises(ConfigErrors, match="too large or nested too deeply"):
        read_config(written(tmp_path, "c.yaml", "\n".join(lines)), {})


def test_a_key_that_is_no_text_is_named_with_its_place(tmp_path: Path) -> None:
    path = written(tmp_path, "c.yaml", "models: {4: {provider: a}}")
    with pytest.raises(ConfigErrors, match=r"models: keys must be text, got a number \(`4`\): quote it"):
        read_config(path, {})


@pytest.mark.parametrize(
    ("name", "text"), [("c.yaml", "a: .nan"), ("c.toml", "a = inf"), ("c.json", '{"a": -Infinity}')]
)
def test_a_number_is_finite(tmp_path: Path, name: str, text: str) -> None:
    with pytest.raises(ConfigErrors, match="a: a number must be finite"):
        read_config(written(tmp_path, name, text), {})


# --- variables --------------------------------------------------------------------------------------------------------


def test_variables_fill_in_values() -> None:
    environ = {"HOST": "llm.example", "KEY": "sk-from-env"}
    loaded = read(config(providers=provider(base_url="https://${HOST}/${PART:-v1}", api_key="${KEY}")), environ)
    assert loaded.settings.providers["one"].base_url == "https://llm.example/v1"
    assert loaded.settings.providers["one"].api_key == "sk-from-env"
    assert loaded.secrets == {"sk-from-env"}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$$", "$"),
        ("$${NAME}", "${NAME}"),
        ("^a$", "^a$"),
        ("$NAME", "$NAME"),
        ("${NAME}", "x"),
        ("$$${NAME}", "$x"),
        ("${NAME}${NAME}", "xx"),
        ("${EMPTY}", ""),
        ("${EMPTY:-y}", "y"),
        ("${NONE:-}", ""),
        ("${NONE:-a:-b $c}", "a:-b $c"),
        ("${NAME:-y}", "x"),
        ("${NESTED}", "${NAME}"),
    ],
)
def test_a_variable_is_filled_in_once(text: str, value: str) -> None:
    environ = {"NAME": "x", "EMPTY": "", "NESTED": "${NAME}"}
    loaded = read(config(models={"m": [{"provider": "one"}]}, providers=provider(headers={"x-text": text})), environ)
    assert loaded.settings.providers["one"].headers == {"x-text": value}


def test_a_key_of_a_mapping_is_never_filled_in() -> None:
    loaded = read(config(models={"${NAME}": {"provider": "one"}}), {"NAME": "x"})
    assert list(loaded.settings.models) == ["${NAME}"]


def test_a_missing_variable_is_named_with_its_place_and_hides_what_follows_from_it() -> None:
    found = mistakes(config(listen={"port": "${PORT}"}, providers=provider(api_key="${KEY}")))
    assert found == [
        "providers.one.api_key: the environment variable KEY is not set",
        "listen.port: the environment variable PORT is not set",
    ]


@pytest.mark.parametrize("text", ["${", "${}", "${1A}", "${A-b}", "a ${A", "${A B}"])
def test_a_variable_without_a_name_is_refused(text: str) -> None:
    assert mistakes(config(state=text)) == [
        "state: `${` needs a name and a `}`, as in `${NAME}`; write `$${` for the characters"
    ]


def test_a_number_in_quotes_is_no_number_but_one_from_the_environment_is() -> None:
    assert mistakes(config(listen={"port": "3"})) == ["listen.port: Expected int, got str"]
    assert read(config(listen={"port": "${PORT:-8090}"})).settings.listen.port == 8090
    assert read(config(listen={"port": "${PORT:-8090}"}), {"PORT": "3"}).settings.listen.port == 3
    assert read(config(providers=provider(optional="${ON:-true}"))).settings.providers["one"].optional is True
    timeouts = {"connect": "${SECONDS}"}
    loaded = read(config(providers=provider(timeouts=timeouts)), {"SECONDS": "2.5"})
    assert loaded.settings.providers["one"].timeouts.connect == 2.5


def test_a_number_pieced_together_is_text() -> None:
    assert mistakes(config(listen={"port": "80${LAST}"}), {"LAST": "80"}) == ["listen.port: Expected int, got str"]


def test_what_comes_from_the_environment_is_held_to_the_same_limits() -> None:
    found = mistakes(config(listen={"port": "${PORT}"}), {"PORT": "70000"})
    assert found == ["listen.port: Expected int <= 65535"]


# --- mistakes with their places ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blocks", "line"),
    [
        ({"provders": {}}, "unknown field `provders`, did you mean `providers`?"),
        ({"listen": {"prt": 1}}, "listen: unknown field `prt`, did you mean `port`?"),
        ({"listen": 8080}, "listen: Expected object, got int"),
        ({"admin": 8080}, "admin: Expected object | null, got int"),
        ({"listen": {"port": -1}}, "listen.port: Expected int >= 0"),
        ({"listen": {"port": True}}, "listen.port: Expected int, got bool"),
        ({"server": {"drain": 0}}, "server.drain: Expected float > 0.0"),
        ({"providers": provider(tmeouts={})}, "providers.one: unknown field `tmeouts`, did you mean `timeouts`?"),
        ({"providers": provider(timeouts={"connect": 0})}, "providers.one.timeouts.connect: Expected float > 0.0"),
        (
            {"providers": provider(timeouts={"conect": 1})},
            "providers.one.timeouts: unknown field `conect`, did you mean `connect`?",
        ),
        (
            {"providers": provider(dialect="opnai")},
            (
                "providers.one.dialect: expected one of `openai`, `openai_responses`, `anthropic`, `gemini`, `demo`, "
                "did you mean `openai`?"
            ),
        ),
        (
            {"providers": provider(dialect="anthropic", max_tokens_field="max_tokens")},
            "providers.one.max_tokens_field: is for those whose dialect is `openai`",
        ),
        (
            {"providers": provider(dialect="anthropic", responses=True)},
            "providers.one.responses: is for those whose dialect is `openai`",
        ),
        ({"providers": provider(settings={"a": 1})}, "providers.one.settings: only the demo provider has settings"),
        ({"providers": {"one": {}}}, "providers.one: missing required field `dialect`"),
        ({"providers": {"one": None}}, "providers.one: Expected object, got null"),
        ({"providers": provider(headers={"x": 1})}, "providers.one.headers.x: Expected str, got int"),
        ({"models": {"m": "one"}}, "models.m: Expected object | array, got str"),
        ({"models": {"m": []}}, "models.m: the list of targets is empty"),
        ({"models": {"m": [{"provider": "one"}, {"modl": "x"}]}}, "models.m[1]: missing required field `provider`"),
        ({"models": {"m": {"provider": "tow"}}}, "models.m.provider: no provider `tow` is declared"),
        (
            {"models": {"m": [{"provider": "on"}]}},
            "models.m[0].provider: no provider `on` is declared, did you mean `one`?",
        ),
        ({"models": {"a*b": {"provider": "one"}}}, "models.a*b: a wildcard stands only at the end"),
        ({"models": {"a**": {"provider": "one"}}}, "models.a**: a wildcard stands only at the end"),
        (
            {"models": {"a b": {"provider": "one"}}},
            "models['a b']: a model name is visible ASCII without spaces, up to 256 characters",
        ),
        (
            {"models": {"m": {"provider": "one", "model": "gpt-*"}}},
            "models.m.model: a target has no wildcard: leave `model` out to pass the name on",
        ),
        ({"pipelines": {}}, "pipelines: declare at least one pipeline"),
        ({"pipelines": []}, "pipelines: Expected object, got array"),
        ({"pipelines": {"main": {"plugins": [{"use": ""}]}}}, "pipelines.main[0].use: Expected str of length >= 1"),
        ({"pipelines": {"main": {"plugins": [{}]}}}, "pipelines.main[0]: missing required field `use`"),
        ({"pipelines": {"main": {"plugins": ["a"]}}}, "pipelines.main[0]: Expected object, got str"),
        ({"pipelines": {"main": {"plugins": {}}}}, "pipelines.main.plugins: Expected array, got object"),
        (
            {"pipelines": {"main": {"attempt": [{"use": "a", "setings": {}}]}}},
            "pipelines.main.attempt[0]: unknown field `setings`, did you mean `settings`?",
        ),
        ({"pipelines": {"a": {}, "b": {}}}, "routes: say which of the 2 pipelines takes which calls"),
        (
            {"routes": [{"name": "r", "pipeline": "man"}]},
            "routes[0].pipeline: no pipeline `man` is declared, did you mean `main`?",
        ),
        ({"routes": [{"name": "r"}]}, "routes[0]: missing required field `pipeline`"),
        (
            {"routes": [{"name": "r", "pipeline": "main"}, {"name": "r", "pipeline": "main", "prefix": "/a"}]},
            "routes[1].name: another route has the name `r`",
        ),
        (
            {"routes": [{"name": "a", "pipeline": "main"}, {"name": "b", "pipeline": "main"}]},
            "routes[1]: is never reached: earlier routes take all its calls below `/`",
        ),
        (
            {
                "routes": [
                    {"name": "a", "pipeline": "main", "prefix": "/t", "operations": ["chat", "calls"]},
                    {"name": "b", "pipeline": "main", "prefix": "/t", "operations": ["embeddings"]},
                    {"name": "c", "pipeline": "main", "prefix": "/t", "operations": ["embeddings", "chat"]},
                ]
            },
            "routes[2]: is never reached: earlier routes take all its calls below `/t`",
        ),
        (
            {"routes": [{"name": "r", "pipeline": "main", "operations": ["chat", "chta"]}]},
            (
                "routes[0].operations[1]: expected one of `chat`, `text_completion`, `embeddings`, `count_tokens`, "
                "`models`, `calls`, `usage`, `jobs`, `responses`, `realtime`, did you mean `chat`?"
            ),
        ),
        ({"listen": {"port": 9}, "admin": {"port": 9}}, "admin: listens where `listen` does, on port 9"),
        (
            {"listen": {"port": 9, "host": "0.0.0.0"}, "admin": {"port": 9}},
            "admin: listens where `listen` does, on port 9",
        ),
        (
            {"ledger": {"url": "mysql://x"}},
            "ledger.url: expected `sqlite:///` and a path, `postgresql://...`, or nothing",
        ),
        (
            {"plugin_prefixes": ["acme", "a-b"]},
            "plugin_prefixes[1]: expected the name of a package, such as acme.plugins",
        ),
    ],
)
def test_a_mistake_is_one_line_with_its_place(blocks: dict[str, Any], line: str) -> None:
    found = mistakes(config(**blocks))
    assert line in found
    assert len(found) == 1 or blocks.get("models", {}).get("m") is not None


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("llm.example/v1", "expected a URL with http:// or https://"),
        ("ftp://llm.example", "expected a URL with http:// or https://"),
        ("https://", "expected a URL with a host and a port that can be reached"),
        ("https://:80/v1", "expected a URL with a host and a port that can be reached"),
        ("https://user:hunter2@llm.example", "credentials do not belong into a URL: use api_key or headers"),
        ("https://hunter2@llm.example", "credentials do not belong into a URL: use api_key or headers"),
        ("https://llm.example/v1?key=hunter2", "a base URL has no query and no fragment"),
        ("https://llm.example/v1?", "a base URL has no query and no fragment"),
        ("https://llm.example/v1#a", "a base URL has no query and no fragment"),
        ("https://llm.example:hunter2", "is no URL: its host or port makes no sense"),
        ("https://llm.example:99999", "is no URL: its host or port makes no sense"),
        ("https://[::1", "is no URL: its host or port makes no sense"),
        ("https://llm.example/a b", "a URL is visible ASCII without spaces"),
        ("https://llm.example\r\nx: y", "a URL is visible ASCII without spaces"),
        ("https:\\\\llm.example", "a URL is visible ASCII without spaces"),
    ],
)
def test_a_bad_base_url_is_refused_and_not_quoted(url: str, problem: str) -> None:
    assert mistakes(config(providers=provider(base_url=url))) == [f"providers.one.base_url: {problem}"]


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("x-a", "a\r\nx-b: c", "a value is printable ASCII without line breaks"),
        ("x-a", "a\x00", "a value is printable ASCII without line breaks"),
        ("x-a", "ä", "a value is printable ASCII without line breaks"),
        ("x a", "a", "is no name of a header"),
        ("x-a:", "a", "is no name of a header"),
        ("", "a", "is no name of a header"),
        ("Host", "a", "is written by the gateway: it cannot be set"),
        ("AUTHORIZATION", "a", "is written by the gateway: it cannot be set"),
        ("content-length", "1", "is written by the gateway: it cannot be set"),
        ("Transfer-Encoding", "chunked", "is written by the gateway: it cannot be set"),
        ("connection", "close", "is written by the gateway: it cannot be set"),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(name: str, value: str, problem: str) -> None:
    (line,) = mistakes(config(providers=provider(headers={name: value})))
    assert line.endswith(f": {problem}")
    assert line.startswith("providers.one.headers")


def test_a_header_that_stands_twice_is_refused() -> None:
    (line,) = mistakes(config(providers=provider(headers={"X-A": "1", "x-a": "2"})))
    assert line == "providers.one.headers.x-a: stands twice, in other letters"


@pytest.mark.parametrize("key", ["sk-hunter2\n", "sk hunter2", "sk-hunter2\x00", "sk-hünter2"])
def test_a_key_that_is_no_header_value_is_refused_and_not_quoted(key: str) -> None:
    found = mistakes(config(providers=provider(api_key="${KEY}")), {"KEY": key})
    assert found == ["providers.one.api_key: a key is visible ASCII without spaces or line breaks"]


def test_all_mistakes_are_told_at_once() -> None:
    found = mistakes(
        {
            "listen": {"port": "x"},
            "state": "${STATE}",
            "servr": {},
            "providers": {
                "a": {"dialect": "x", "timeouts": {"idle": -1, "total": "1"}},
                "b": {"dialect": "openai", "base_url": "no"},
            },
            "models": {"m": [{"provider": "a"}, {"provider": "c"}], "n": []},
            "pipelines": {"p": {"plugins": [{"use": 1}, {}]}},
            "routes": [{"name": "r", "pipeline": "q"}, {"name": "bad name", "pipeline": "p"}],
        }
    )
    assert [line.split(": ")[0] for line in found] == [
        "state",
        "listen.port",
        "unknown field `servr`, did you mean `server`?",
        "providers.a.dialect",
        "providers.a.timeouts.idle",
        "providers.a.timeouts.total",
        "pipelines.p[0].use",
        "pipelines.p[1]",
        "routes[1].name",
        "providers.b.base_url",
        "models.m[1].provider",
        "models.n",
        "routes[0].pipeline",
    ]


def test_a_name_from_the_file_cannot_forge_a_line() -> None:
    for line in mistakes(config(**{"evil\nlisten: all is well\x1b[31m": 1})):
        assert "\n" not in line
        assert "\x1b" not in line


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_secrets_are_in_no_message_and_no_repr() -> None:
    environ = {"OPENAI_API_KEY": "hunter2-in-env", "NAME": "x"}
    data = config(
        providers={
            "one": {"dialect": "${OPENAI_API_KEY}", "api_key": "hunter2-in-file", "headers": {"x-token": "hunter2\n"}},
            "two": {"dialect": "openai", "api_key": ["hunter2-in-list"], "base_url": "http://${OPENAI_API_KEY}:x"},
            "hunter": {"dialect": "demo", "api_key": "hunter2 with space", "api_key_file": "hunter2-as-a-file"},
        },
        listen={"host": "", "port": "${OPENAI_API_KEY}"},
        routes=[{"name": "r", "pipeline": "${OPENAI_API_KEY}"}],
    )
    found = mistakes(data, environ)
    assert len(found) >= 7
    assert "hunter2" not in "".join(found)
    loaded = read(config(providers=provider(api_key="hunter2")))
    assert "hunter2" not in repr(loaded)


def test_the_key_of_a_provider_may_stand_in_a_file(tmp_path: Path) -> None:
    written(tmp_path, "key", "sk-in-file\n")
    data = config(providers={"one": {"dialect": "openai", "api_key_file": "key"}})
    loaded = read(data, base=tmp_path)
    assert loaded.settings.providers["one"].api_key == "sk-in-file"
    assert loaded.secrets == {"sk-in-file"}
    assert loaded.warnings == ()


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "the file cannot be read: No such file or directory"),
        (b"", "the file is empty"),
        (b"\n", "the file is empty"),
        (b"\xff\xfe", "the file is not UTF-8 text"),
        (b"x" * 70_000, "the file is too large"),
        (b"a\nb\n", "a key is visible ASCII without spaces or line breaks"),
    ],
)
def test_a_key_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes | None, problem: str) -> None:
    if content is not None:
        written(tmp_path, "key", content)
    data = config(providers={"one": {"dialect": "openai", "api_key_file": "key"}})
    assert mistakes(data, base=tmp_path) == [f"providers.one.api_key_file: {problem}"]


def test_a_key_stands_in_one_place(tmp_path: Path) -> None:
    data = config(providers=provider(api_key_file="key"))
    assert mistakes(data, base=tmp_path) == ["providers.one: `api_key` and `api_key_file` exclude each other"]


def test_words_of_settings_that_are_named_like_secrets_are_none() -> None:
    data = {
        "of_keys": {"on_store_failure": "local"},
        "without_key": "metrics",
        "limits": [{"on_store_failure": "local"}],
    }
    assert secrets_in(data) == set()
    assert mask(data) == data


def test_secrets_are_known_by_their_names() -> None:
    data = {
        "api_key": "a1",
        "keys": ["b1", {"name": "alice", "sha256": "c1"}],
        "tokens_per_minute": 5,
        "headers": {"X-Auth-Token": "d1", "x-version": "no"},
        "digests": {"alice": "e1"},
        "url": Interpolated("redis://:f1@host", False, frozenset({"f1"})),
        "first_token": "120",
        "password": "",
        "max_key": 7,
    }
    assert secrets_in(data) == {"a1", "b1", "c1", "d1", "e1", "f1"}
    assert mask(data) == {
        "api_key": "***",
        "keys": ["***", {"name": "alice", "sha256": "***"}],
        "tokens_per_minute": 5,
        "headers": {"X-Auth-Token": "***", "x-version": "no"},
        "digests": {"alice": "***"},
        "url": "redis://***@host",
        "first_token": "120",
        "password": "",
        "max_key": 7,
    }


# --- what may be missing, and warnings --------------------------------------------------------------------------------


def test_an_optional_provider_without_a_key_is_left_out_with_its_models(tmp_path: Path) -> None:
    loaded = read(
        config(
            providers={
                "openai": {"dialect": "openai", "api_key": "${OPENAI_API_KEY:-}", "optional": True},
                "filed": {"dialect": "openai", "api_key_file": "none", "optional": True},
                "demo": {"dialect": "demo"},
            },
            models={
                "gpt": {"provider": "openai"},
                "any": [{"provider": "openai"}, {"provider": "demo"}],
                "none": [{"provider": "openai"}, {"provider": "filed"}],
                "demo": {"provider": "demo"},
            },
        ),
        base=tmp_path,
    )
    assert set(loaded.settings.providers) == {"demo"}
    assert loaded.settings.models == {"any": (Target(provider="demo"),), "demo": Choice(provider="demo")}
    assert loaded.warnings == ("providers.filed: is off: it has no key", "providers.openai: is off: it has no key")


def test_an_optional_provider_with_a_key_stays() -> None:
    data = config(providers=provider(api_key="${K:-}", optional=True))
    assert set(read(data, {"K": "k"}).settings.providers) == {"one"}


def test_no_model_left_is_a_warning() -> None:
    loaded = read(config(providers=provider(api_key="", optional=True)))
    assert loaded.settings.models == {}
    assert loaded.warnings[-1] == "models: none is left: all their providers are off"


def test_a_provider_without_a_key_is_a_warning() -> None:
    loaded = read(config(providers={"one": {"dialect": "openai", "base_url": "http://127.0.0.1:11434/v1"}}))
    assert loaded.warnings == ("providers.one: has no api_key; calls are sent without one",)


def mistakes_of(admin: dict[str, Any]) -> list[str]:
    try:
        read(config(admin=admin))
    except ConfigErrors as errors:
        return str(errors).splitlines()
    return []


@pytest.mark.parametrize(
    ("host", "refused"),
    [("0.0.0.0", True), ("::", True), ("a.example", True), ("::1", False), ("localhost", False), ("127.0.0.2", False)],
)
def test_administration_that_others_can_reach_needs_a_key(host: str, refused: bool) -> None:
    said = f"admin.key: is needed where others can reach it (admin.host: {host}), or `without_key: metrics`"
    assert mistakes_of({"host": host}) == ([said] if refused else [])
    assert mistakes_of({"host": host, "key": "0123456789abcdef"}) == []
    assert mistakes_of({"host": host, "without_key": "metrics"}) == []


@pytest.mark.parametrize(
    ("key", "said"),
    [("0123456789abcde", "is shorter than 16 characters"), ("0123456789 abcdef", "visible ASCII"), ("é" * 16, "ASCII")],
)
def test_an_admin_key_is_one(key: str, said: str, tmp_path: Path) -> None:
    (mistake,) = mistakes_of({"key": key})
    assert mistake.startswith("admin.key: ")
    assert said in mistake
    assert key not in mistake
    (tmp_path / "key").write_text(key)
    (mistake,) = mistakes_of({"key_file": str(tmp_path / "key")})
    assert mistake.startswith("admin.key_file: ")


def test_an_admin_key_may_be_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("0123456789abcdef\n")
    loaded = read(config(admin={"host": "0.0.0.0", "key_file": str(tmp_path / "key")}))
    assert loaded.settings.admin is not None
    assert loaded.settings.admin.key == "0123456789abcdef"
    assert "0123456789abcdef" in loaded.secrets
    assert mistakes_of({"key": "0123456789abcdef", "key_file": "k"}) == [
        "admin: `key` and `key_file` exclude each other"
    ]
    assert mistakes_of({"host": "0.0.0.0", "key_file": str(tmp_path / "none")}) == [
        "admin.key_file: the file cannot be read: No such file or directory"
    ]


def test_no_admin_and_free_ports_are_fine() -> None:
    assert read(config(admin=None)).settings.admin is None
    assert read(config(listen={"port": 0}, admin={"port": 0})).warnings == ()


def test_a_route_for_what_earlier_ones_left_over_is_fine() -> None:
    routes = [
        {"name": "a", "pipeline": "main", "operations": ["chat"]},
        {"name": "b", "pipeline": "main", "prefix": "/team-a"},
        {"name": "c", "pipeline": "main"},
    ]
    assert [route.name for route in read(config(routes=routes)).settings.routes] == ["a", "b", "c"]


# --- whatever stands there --------------------------------------------------------------------------------------------

KEYS = {
    "timeouts",
    "connect",
    "dialect",
    "base_url",
    "api_key_file",
    "headers",
    "plugins",
    "attempt",
    "use",
    "settings",
}
KEYS |= {"name", "pipeline", "prefix", "operations", "url", "host", "port", *(known.name for known in fields(Settings))}
WORDS = st.sampled_from([*sorted(KEYS), "openai", "demo", "${X}", "${Y:-3}", "${"])
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | WORDS | st.text(max_size=6)
DATA = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4), max_leaves=20
)


# The first draw of a fresh clone builds tables of characters, which a busy machine takes seconds for.
@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.dictionaries(WORDS, DATA, max_size=5), st.booleans())
def test_nothing_but_config_errors_comes_out_of_any_data(data: dict[str, Any], usable: bool) -> None:
    try:
        read({**config(), **data} if usable else data, {"X": "x"})
    except ConfigErrors as error:
        told = [str(each) for each in error.errors]
    else:
        told = ["fine"]
    assert told
    assert not [line for line in told if "\n" in line]


PIECES = st.sampled_from(["a:", "- ", "  ", "\n", "{", "}", "[", "]", "!x ", "&a ", "*a ", "'", '"', "|", "? ", "<<: "])
TEXT = st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join)


@given(TEXT, st.sampled_from(["yaml", "toml", "json"]))
def test_nothing_but_config_errors_comes_out_of_any_text(
    tmp_path_factory: pytest.TempPathFactory, text: str, ending: str
) -> None:
    path = tmp_path_factory.getbasetemp() / f"any.{ending}"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    with pytest.raises(ConfigErrors):
        read_config(path, {})


@pytest.mark.parametrize("state", ["/tmp/x\0y", "/tmp/\ud800"])
def test_a_state_that_is_no_path_is_a_mistake_with_its_place(state: str) -> None:
    with pytest.raises(ConfigError, match="^state: is no path that a system could have"):
        read({"state": state, "pipelines": {"main": {}}, "providers": {"demo": {"dialect": "demo"}}, "models": {}})
