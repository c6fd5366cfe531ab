"""A Node with the vendors' clients, of `scripts/test`: one process serves many tests, so each costs milliseconds."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
INSTALLED = Path(os.environ.get("SIDEGATE_NODE_TEST") or HERE.parents[1] / ".node-test")
NODE = INSTALLED / "node_modules" / "node" / "bin" / "node"


class NodeError(Exception):
    """What a client for Node raised, as its fields are: `told["class"]`, `.message`, `.status`, `.code`, ..."""

    def __init__(self, told: dict[str, Any]) -> None:
        super().__init__(f"{told.get('class')}: {told.get('message')}")
        self.told = told


class Node:
    """Calls functions of the modules beside this one: `node("openai", "chat", url=..., ...)`."""

    def __init__(self) -> None:
        if not NODE.exists():
            raise FileNotFoundError(f"{NODE}: scripts/test installs it where npm is")
        self._heard: queue.Queue[bytes] = queue.Queue()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        # Nothing of this process's environment: no proxy, no key, no base URL that a client would pick up.
        environ = {"PATH": os.environ.get("PATH", ""), "HOME": os.environ.get("HOME", ""), "NO_COLOR": "1"}
        self._process = subprocess.Popen(
            [str(NODE), str(HERE / "serve.mjs"), str(INSTALLED / "package.json")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environ,
            cwd=HERE,
        )
        threading.Thread(target=self._listen, name="node", daemon=True).start()

    def __call__(self, module: str, name: str, *, seconds: float = 60, **given: Any) -> Any:
        """What an exported function gives for these arguments; `NodeError` where it throws."""
        assert self._process.stdin is not None
        asked = json.dumps({"module": module, "name": name, "given": given})
        self._process.stdin.write(asked.encode() + b"\n")
        self._process.stdin.flush()
        try:
            line = self._heard.get(timeout=seconds)
        except queue.Empty:
            line = b""
        if not line:
            self._process.kill()
            raise AssertionError(f"{module}.{name} did not answer: {self.complaints()}")
        answer = json.loads(line)
        if "error" in answer:
            raise NodeError(answer["error"])
        return answer.get("value")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def complaints(self) -> str:
        """What the process wrote to its standard error, the end of it."""
        self._errors.seek(0)
        return self._errors.read().decode(errors="replace")[-4000:]

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._heard.put(line)
        self._heard.put(b"")
