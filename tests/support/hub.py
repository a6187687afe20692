"""A hub on loopback: the part of the Hugging Face Hub's API that reading and writing one data set repository needs."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

REPOSITORY, COMMIT = "someone/street-scenes", "0123456789abcdef0123456789abcdef01234567"
LARGE = ".parquet"


class Hub:
    """One data set repository; what ends with `LARGE` is kept by the protocol of Git LFS, as the Hub does.

    Attributes:
        files: Content of each file of the repository.
        asked: Path of every request.
        address: URL of the server.
        refuses: Whether every request is answered by 401, as the Hub does where a token is not known.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self.files = dict(files)
        self.asked: list[str] = []
        self.refuses = False
        self._uploaded: dict[str, bytes] = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                hub.answer(self)

            def do_HEAD(self) -> None:
                hub.answer(self)

            def do_POST(self) -> None:
                hub.answer(self, self._body())

            def do_PUT(self) -> None:
                hub.answer(self, self._body())

            def _body(self) -> bytes:
                if self.headers.get("Transfer-Encoding") != "chunked":
                    return self.rfile.read(int(self.headers.get("Content-Length", 0)))
                chunks = list[bytes]()
                while size := int(self.rfile.readline(), 16):
                    chunks.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(chunks)

            def log_message(self, format: str, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    @classmethod
    @contextmanager
    def served(cls, files: Mapping[str, bytes]) -> Iterator[Hub]:
        """Serve a repository within the block."""
        hub = cls(files)
        thread = threading.Thread(target=hub.server.serve_forever)
        thread.start()
        try:
            yield hub
        finally:
            hub.server.shutdown()
            thread.join()
            hub.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler, body: bytes = b"") -> None:
        """Answer a request."""
        address = urlsplit(request.path)
        path = unquote(address.path)
        self.asked.append(path)
        api = f"/api/datasets/{REPOSITORY}"
        if self.refuses:
            self._send(request, 401, self._json({"error": "Invalid username or password."}))
        elif path == api or path.startswith(f"{api}/revision/"):
            self._send(request, 200, self._json({**self._about(), "siblings": [{"rfilename": n} for n in self.files]}))
        elif path.startswith(f"{api}/tree/"):
            folder = path.removeprefix(f"{api}/tree/").partition("/")[2]
            below = [name for name in self._names() if not folder or name.startswith(f"{folder}/")]
            if parse_qs(address.query.lower()).get("recursive") != ["true"]:
                below = [name for name in below if "/" not in name.removeprefix(f"{folder}/")]
            self._send(request, 200, self._json([self._entry(name) for name in below]))
        elif path.startswith(f"{api}/paths-info/"):
            asked = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode())["paths"]
            self._send(request, 200, self._json([self._entry(name) for name in asked if name in self._names()]))
        elif path.startswith(f"/datasets/{REPOSITORY}/resolve/") and (name := path.split("/", 6)[-1]) in self.files:
            headers = {"ETag": f'"{self._hash(name)}"', "X-Repo-Commit": COMMIT}
            self._send(request, 200, self.files[name], headers)
        elif path.startswith(f"{api}/preupload/"):
            names = [file["path"] for file in json.loads(body)["files"]]
            self._send(request, 200, self._json({"files": [self._mode(name) for name in names]}))
        elif path == f"/datasets/{REPOSITORY}.git/info/lfs/objects/batch":
            objects = [self._place(entry) for entry in json.loads(body)["objects"]]
            self._send(request, 200, self._json({"transfer": "basic", "objects": objects}))
        elif path.startswith("/uploads/"):
            self._uploaded[hashlib.sha256(body).hexdigest()] = body
            self._send(request, 200, b"")
        elif path.startswith(f"{api}/commit/"):
            lines = [json.loads(line) for line in body.splitlines()]
            if any(line["key"] == "deletedFile" and line["value"]["path"] not in self.files for line in lines):
                absent = self._json({"error": "A file with this name doesn't exist"})
                return self._send(request, 404, absent, {"X-Error-Code": "EntryNotFound"})
            for line in lines:
                self._commit(**line)
            commit = {
                "commitUrl": f"{self.address}/datasets/{REPOSITORY}/commit/{COMMIT}",
                "commitOid": COMMIT,
                "success": True,
            }
            self._send(request, 200, self._json(commit))
        else:
            missing = "RepoNotFound" if not path.startswith((api, f"/datasets/{REPOSITORY}")) else "EntryNotFound"
            self._send(request, 404, self._json({"error": missing}), {"X-Error-Code": missing})

    def _about(self) -> dict[str, object]:
        stated = {"id": REPOSITORY, "sha": COMMIT, "private": False, "gated": False, "disabled": False}
        return {**stated, "tags": [], "downloads": 0, "likes": 0, "cardData": {"license": "cc-by-4.0"}}

    def _names(self) -> list[str]:
        folders = {str(folder) for name in self.files for folder in PurePosixPath(name).parents}
        return sorted({*self.files, *folders} - {"."})

    def _entry(self, name: str) -> dict[str, object]:
        if name not in self.files:
            return {"type": "directory", "path": name, "oid": COMMIT, "size": 0}
        entry = {"type": "file", "path": name, "oid": self._hash(name), "size": len(self.files[name])}
        if name.endswith(LARGE):
            sha256 = hashlib.sha256(self.files[name]).hexdigest()
            return {**entry, "lfs": {"oid": sha256, "size": len(self.files[name]), "pointerSize": 134}}
        return entry

    @staticmethod
    def _mode(name: str) -> dict[str, object]:
        return {"path": name, "uploadMode": "lfs" if name.endswith(LARGE) else "regular", "shouldIgnore": False}

    def _place(self, entry: Mapping[str, object]) -> dict[str, object]:
        upload = {"href": f"{self.address}/uploads/{entry['oid']}", "header": {}}
        return {"oid": entry["oid"], "size": entry["size"], "actions": {"upload": upload}}

    def _commit(self, key: str, value: Mapping[str, str]) -> None:
        if key == "file":
            self.files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            self.files[value["path"]] = self._uploaded[value["oid"]]
        elif key == "deletedFile":
            del self.files[value["path"]]

    def _hash(self, name: str) -> str:
        return hashlib.sha1(self.files[name]).hexdigest()

    @staticmethod
    def _json(content: object) -> bytes:
        return json.dumps(content).encode()

    @staticmethod
    def _send(request: BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        request.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            request.send_header(key, value)
        request.end_headers()
        if request.command != "HEAD":
            request.wfile.write(body)
