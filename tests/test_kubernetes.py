"""The manifests, as far as they can be tried without a cluster.

Tried: each document against the schemas of several versions of Kubernetes; that names, ports, volumes and labels lead
to each other; each config in them, served, asked by its own probes, called through the socket as its own program would.
Not tried: a cluster, and `kustomize build`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import kubernetes_validate
import pytest
import yaml

from sidegate.commands.check import made
from sidegate.testing import Running, gateway
from tests.local import ask, folder, rights, through
from tests.tree import ROOT

FOLDER = ROOT / "config" / "kubernetes"
BASES = ("sidecar", "gateway")
VERSIONS = ("1.30", "1.33", "1.37")
STORES = {
    "SIDEGATE_LEDGER": "postgresql://u:a-long-password@postgres/sidegate",
    "SIDEGATE_COUNTERS": "redis://valkey/0",
}
KEY = "an-admin-key-of-32-characters-00"

each_base = pytest.mark.parametrize("base", BASES)
Document = dict[str, Any]


def kustomization(base: str) -> Document:
    found: Document = yaml.safe_load((FOLDER / base / "kustomization.yaml").read_text())
    return found


def documents(base: str) -> list[Document]:
    """Those that the base names, in order."""
    names = kustomization(base)["resources"]
    return [each for name in names for each in yaml.safe_load_all((FOLDER / base / name).read_text())]


def deployment(base: str) -> Document:
    (found,) = [each for each in documents(base) if each["kind"] == "Deployment"]
    return found


def pod(base: str) -> Document:
    found: Document = deployment(base)["spec"]["template"]["spec"]
    return found


def containers(base: str) -> dict[str, Document]:
    spec = pod(base)
    return {each["name"]: each for each in (*spec["initContainers"], *spec["containers"])}


def config(base: str) -> Document:
    found: Document = yaml.safe_load((FOLDER / base / "sidegate.yaml").read_text())
    return found


def probes(base: str) -> list[Document]:
    serving = containers(base)["sidegate"]
    return [serving[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]


# --- by the schemas ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS)
@each_base
def test_every_document_is_right_by_the_schema(base: str, version: str) -> None:
    for document in documents(base):
        kubernetes_validate.validate(document, version, strict=True)


@pytest.mark.parametrize(
    ("at", "wrong"),
    [
        (("template", "spec", "initContainers", 0, "restartPolicyy"), "Always"),
        (("template", "spec", "initContainers", 0, "startupProbe", "periodSeconds"), "soon"),
        (("selector",), None),
    ],
)
def test_a_mistake_is_seen(at: tuple[Any, ...], wrong: Any) -> None:
    document = deployment("sidecar")
    inner: Any = document["spec"]
    for name in at[:-1]:
        inner = inner[name]
    if wrong is None:
        del inner[at[-1]]
    else:
        inner[at[-1]] = wrong
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, VERSIONS[-1], strict=True)


# --- among themselves -------------------------------------------------------------------------------------------------


@each_base
def test_a_base_names_all_that_lies_in_it(base: str) -> None:
    named = kustomization(base)
    files = {name for made in named["configMapGenerator"] for name in made["files"]} | set(named["resources"])
    assert files | {"kustomization.yaml"} == {path.name for path in (FOLDER / base).iterdir()}
    assert set(named) == {"apiVersion", "kind", "resources", "configMapGenerator", "images"}


@each_base
def test_volumes_and_their_mounts_lead_to_each_other(base: str) -> None:
    volumes = {each["name"]: each for each in pod(base)["volumes"]}
    mounted = {mount["name"] for each in containers(base).values() for mount in each["volumeMounts"]}
    assert mounted == set(volumes)
    generated = {made["name"] for made in kustomization(base)["configMapGenerator"]}
    assert {each["configMap"]["name"] for each in volumes.values() if "configMap" in each} == generated


@each_base
def test_every_file_the_config_names_is_in_a_volume(base: str) -> None:
    mounts = [mount["mountPath"] for mount in containers(base)["sidegate"]["volumeMounts"]]
    writable = [
        mount["mountPath"] for mount in containers(base)["sidegate"]["volumeMounts"] if not mount.get("readOnly")
    ]
    for path in absolute(config(base)):
        assert any(path == mount or path.startswith(mount + "/") for mount in mounts), path
    for path in (config(base)["state"], *(unix["path"] for unix in sockets(base))):
        assert any(path == mount or path.startswith(mount + "/") for mount in writable), path


def absolute(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from absolute(each)
    elif isinstance(value, str) and value.startswith("/"):
        yield value


def sockets(base: str) -> list[Document]:
    return [part["unix"] for name in ("listen", "admin") if (part := config(base)[name]).get("unix")]


@each_base
def test_selectors_find_the_pods(base: str) -> None:
    labels = deployment(base)["spec"]["template"]["metadata"]["labels"].items()
    for document in documents(base):
        spec = document["spec"]
        found = spec.get("podSelector") or spec.get("selector")
        if document["kind"] != "HorizontalPodAutoscaler":
            assert (found.get("matchLabels") or found).items() <= labels, document["kind"]
        else:
            target = spec["scaleTargetRef"]
            assert (target["kind"], target["name"]) == ("Deployment", deployment(base)["metadata"]["name"])


@each_base
def test_ports_are_those_of_the_config(base: str) -> None:
    ports = {each["name"]: each["containerPort"] for each in containers(base)["sidegate"]["ports"]}
    assert ports.get("http") == config(base)["listen"].get("port")
    assert ports["admin"] == config(base)["admin"]["port"]
    annotations = deployment(base)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == str(ports["admin"])
    (policy,) = [each["spec"] for each in documents(base) if each["kind"] == "NetworkPolicy"]
    assert {port["port"] for rule in policy["ingress"] for port in rule["ports"]} == set(ports.values())
    for service in (each for each in documents(base) if each["kind"] == "Service"):
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= set(ports)


# --- what it asks of a cluster ----------------------------------------------------------------------------------------


@each_base
def test_no_container_has_more_rights_than_it_needs(base: str) -> None:
    spec = pod(base)
    whole = spec["securityContext"]
    assert (whole["runAsNonRoot"], whole["seccompProfile"]) == (True, {"type": "RuntimeDefault"})
    assert spec["automountServiceAccountToken"] is False
    for name, container in containers(base).items():
        own = {**whole, **container["securityContext"]}
        assert own["runAsUser"] >= 10_000, name
        assert own["readOnlyRootFilesystem"] is True
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert set(container["resources"]) == {"requests", "limits"}
        assert "memory" in container["resources"]["limits"]


@each_base
def test_whoever_runs_the_image_is_its_user_and_its_state_is_theirs(base: str) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    own = {**pod(base)["securityContext"], **containers(base)["sidegate"]["securityContext"]}
    assert f"USER {own['runAsUser']}:{own['runAsGroup']}" in dockerfile
    assert pod(base)["securityContext"]["fsGroup"] == own["runAsGroup"]


@each_base
def test_the_drain_fits_into_the_end_of_the_pod(base: str) -> None:
    before = (
        containers(base)["sidegate"].get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", [0])[-1]
    )
    assert config(base)["server"]["drain"] + int(before) + 5 <= pod(base)["terminationGracePeriodSeconds"]


@each_base
def test_secrets_are_in_no_manifest(base: str) -> None:
    assert "Secret" not in {document["kind"] for document in documents(base)}
    assert "secretGenerator" not in kustomization(base)
    text = (FOLDER / base / "sidegate.yaml").read_text()
    assert "api_key:" not in text
    names = {mount["name"]: mount for mount in containers(base)["sidegate"]["volumeMounts"]}
    assert names["keys"]["readOnly"] is True


def test_the_sidecar_is_a_native_one() -> None:
    (first,) = pod("sidecar")["initContainers"]
    assert (first["name"], first["restartPolicy"]) == ("sidegate", "Always")
    assert first["startupProbe"], "the program starts when it is ready, not when it has begun"
    assert "restartPolicy" not in pod("gateway")["initContainers"][0], "this one ends"


def test_the_program_is_let_in_by_the_socket_and_by_its_uid() -> None:
    program = containers("sidecar")["app"]
    path = config("sidecar")["listen"]["unix"]["path"]
    (mount,) = program["volumeMounts"]
    assert Path(path).parent == Path(mount["mountPath"])
    assert path in program["command"][-1]
    use = {each["use"]: each.get("settings") for each in config("sidecar")["pipelines"]["default"]["plugins"]}
    assert [caller["user"] for caller in use["unix_peer"]["callers"]] == [program["securityContext"]["runAsUser"]]
    assert config("sidecar")["listen"]["unix"]["mode"] == "0660", "by the group, which both are in"
    assert config("sidecar")["listen"].get("port") is None
    admin = config("sidecar")["admin"]["unix"]["path"]
    assert not admin.startswith(mount["mountPath"]), "the program does not administer"


# --- the configs ------------------------------------------------------------------------------------------------------


@each_base
def test_the_config_is_right_with_and_without_keys(base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in STORES.items():
        monkeypatch.setenv(name, value)
    for keys in ((), ("openai",), ("openai", "anthropic")):
        path = moved(base, tmp_path, keys)
        loaded, _ = made(path)
        assert set(loaded.settings.providers) == {"demo", *keys}


def moved(base: str, place: Path, keys: tuple[str, ...] = ()) -> Path:
    """The config with its folders below `place`, and these keys in the Secret."""
    text = (FOLDER / base / "sidegate.yaml").read_text()
    for name in ("data", "keys", "admin", "run/sidegate"):
        (place / name).mkdir(parents=True, exist_ok=True)
        text = text.replace(f" /{name}", f" {place}/{name}")
    (place / "admin" / "key").write_text(KEY)
    for key in keys:
        (place / "keys" / key).write_text("sk-a-key-of-this-provider")
    path = place / "sidegate.yaml"
    path.write_text(text)
    return path


async def probe(running: Running, base: str) -> list[int]:
    """What the probes get, at the port of the admin listener."""
    url = running.admin_url.replace("0.0.0.0", "127.0.0.1")
    asked = []
    async with aiohttp.ClientSession(url) as session:
        for each in probes(base):
            assert each["httpGet"]["port"] == "admin"
            # As kubelet asks: by the pod's address.
            async with session.get(each["httpGet"]["path"], headers={"Host": "10.1.2.3:8081"}) as reply:
                asked.append(reply.status)
    return asked


async def test_the_sidecar_serves_its_program_and_its_probes() -> None:
    with folder() as place:
        served = yaml.safe_load(moved("sidecar", place).read_text())
        served["admin"]["port"] = 0
        (unix_peer,) = [use for use in served["pipelines"]["default"]["plugins"] if use["use"] == "unix_peer"]
        unix_peer["settings"]["callers"][0]["user"] = os.geteuid()
        async with gateway(served) as running:
            assert await probe(running, "sidecar") == [200, 200, 200]
            assert rights(place / "run/sidegate/gate.sock")[0] == "0660"
            async with through(place / "run/sidegate/gate.sock") as session:
                assert [(await ask(session, stream=stream))[0] for stream in (True, False)] == [200, 200]
            async with through(place / "data/admin.sock") as session, session.get("/admin/usage") as reply:
                assert reply.status == 200
            tcp = running.admin_url.replace("0.0.0.0", "127.0.0.1")
            async with aiohttp.ClientSession(tcp) as session, session.get("/admin/usage") as reply:
                assert reply.status == 403


async def test_the_gateway_serves_its_probes_over_real_stores(
    postgres_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sidegate.commands.migrate import run as migrate

    monkeypatch.setenv("SIDEGATE_LEDGER", postgres_url)
    monkeypatch.setenv("SIDEGATE_COUNTERS", redis_url)
    with folder() as place:
        path = moved("gateway", place)
        served = yaml.safe_load(path.read_text())
        served["listen"]["port"] = served["admin"]["port"] = 0
        (migrating,) = pod("gateway")["initContainers"]
        assert migrating["args"] == ["migrate", "/config/sidegate.yaml"]
        for _ in range(2):
            assert await asyncio.to_thread(migrate, path, False) == 0
        environ = {name: os.environ[name] for name in STORES}
        async with gateway(served, environ=environ) as running:
            assert await probe(running, "gateway") == [200, 200, 200]
            url = running.url.replace("0.0.0.0", "127.0.0.1")
            async with aiohttp.ClientSession(url) as session:
                assert (await ask(session))[0] == 401
