"""Copying what a run has finished to a URL, whole or not at all as a reader sees it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from scenepalette.common.errors import ConfigError, DataError, ScenepaletteError
from scenepalette.common.progress import NO_PROGRESS, Progress
from scenepalette.common.remote.store import Store
from scenepalette.common.storage.files import read_json
from scenepalette.common.urls import scheme_of
from scenepalette.data.cards.dataset_card import collection_card
from scenepalette.data.licences import PRETRAINED, licence_problem
from scenepalette.data.shards.manifest import (
    CARD_NAME,
    MANIFEST_NAME,
    document_problems,
    licence_of,
    manifest_problems,
    read_manifest,
)
from scenepalette.pipeline.run_directory.manifests import check_contents, read_record
from scenepalette.pipeline.run_directory.ownership import check_holds_run

What = Literal["shards", "selected", "report", "weights"]
WHATS: tuple[What, ...] = ("shards", "selected", "report", "weights")
DEFAULT: tuple[What, ...] = ("shards", "report")
MODEL_STAGES = ("layouts", "images", "finetuned", "segmenters")
_THREADS = 4
_MARK = "\n<!-- scenepalette push "


@dataclass(frozen=True)
class Part:
    """A finished folder that is pushed as a whole.

    Attributes:
        folder: The folder.
        place: Its folder at the URL; empty for the URL itself.
        manifest: Its manifest, which is pushed last.
        licence: Terms of the data that it was made from.
        shards: Whether it holds shards, which another set must not take the place of.
    """

    folder: Path
    place: str
    manifest: Mapping[str, Any] = field(repr=False)
    licence: str
    shards: bool

    @property
    def files(self) -> dict[str, str]:
        """SHA-256 of all files but the manifest, by name in the folder."""
        if not self.shards:
            return {name: entry["sha256"] for name, entry in self.manifest.get("files", {}).items()}
        listed = {shard["name"]: shard["sha256"] for shard in self.manifest["shards"]}
        return {**listed, **self.manifest.get("documents", {})}

    def named(self, name: str) -> str:
        """Return the name of one of its files at the URL."""
        return f"{self.place}/{name}" if self.place else name


@dataclass(frozen=True)
class Pushed:
    """What was pushed.

    Attributes:
        place: The folder at the URL.
        files: How many files it has, with the manifest.
        copied: How many of them were copied by this call; the others were there already.
    """

    place: str
    files: int
    copied: int


def push(
    folder: Path,
    url: str,
    *,
    whats: Sequence[What] = (),
    kinds: Sequence[str] = (),
    allowed: bool = False,
    options: Mapping[str, Any] | None = None,
    progress: Progress = NO_PROGRESS,
    note: Callable[[str], object] = lambda text: None,
) -> list[Pushed]:
    """Copy finished parts of a run, or a folder of shards, to a URL.

    Files are copied first and the manifest of each folder last, so that a folder with a manifest is whole. The same
    call again copies what is missing or differs: sizes are compared, then hashes. A set of shards that has grown since
    (`generate.pairs`) is completed; a report or weights that were made again take the place of those before.

    Args:
        folder: A run directory, or a folder of shards.
        url: Where to: s3://BUCKET/FOLDER, hf://ORG/NAME, or whatever else fsspec knows.
        whats: Which parts of a run; shards and the report by default, as far as they are finished.
        kinds: Which kinds of pairs; all that are finished by default.
        allowed: Whether the user may pass on what was made from data whose terms do not allow it to everyone.
        options: What the URL's file system is told, such as credentials; else it reads the environment.
        progress: Watches the files.
        note: Told what a user should know beside that.

    Returns:
        What was pushed, in order.

    Raises:
        ConfigError: Something that is asked for is not finished, the URL cannot be used, or the terms of the data do
            not allow it; nothing was copied.
        DataError: A file is not what was written, or the URL holds another set; nothing was copied.
        StoreError: The URL cannot be read or written; what was copied whole stays, and counts when it is tried again.
    """
    store = Store.open(url, options)
    parts = parts_of(folder, whats, kinds)
    if not allowed:
        _check_licences(parts)
    for part in parts:
        _check_here(part)
    there = {part.place: _manifest_at(store, part.named(MANIFEST_NAME)) for part in parts}
    problems = [text for part in parts for text in _conflicts(store, part, there[part.place])]
    if problems:
        raise DataError(
            f"{store.url} holds something else. Give another URL, or remove it there first; nothing was copied.",
            problems,
        )
    pushed = [_push_part(store, part, there[part.place], progress) for part in parts]
    if any(part.shards and part.place and "/" not in part.place for part in parts):
        _write_card(store, note)
    return pushed


def parts_of(folder: Path, whats: Sequence[What] = (), kinds: Sequence[str] = ()) -> list[Part]:
    """Return the finished parts of a run, or a folder of shards, that `push` is asked for.

    Raises:
        ConfigError: Something that is asked for is not finished, or nothing is.
        ScenepaletteError: The folder holds neither, or a manifest is damaged.
    """
    if (folder / MANIFEST_NAME).is_file() and "shards" in read_record(folder / MANIFEST_NAME):
        if whats or kinds:
            raise ConfigError(f"{folder} is a folder of shards, which is pushed whole; leave --what and --select out.")
        return [_shard_part(folder, "")]
    check_holds_run(folder)
    found, problems, lent = list[Part](), list[str](), _lent_terms(folder)
    if kinds and not {"shards", "selected"} & {*(whats or DEFAULT)}:
        raise ConfigError(
            f"--select chooses kinds of pairs ({', '.join(kinds)}), but --what asks for {', '.join(whats)}; leave "
            "--select out, or add --what shards."
        )
    for what in whats or DEFAULT:
        if what in ("shards", "selected"):
            home = folder / what
            finished = {path.parent.name: path.parent for path in sorted(home.glob(f"*/{MANIFEST_NAME}"))}
            problems += [
                f"{what}/{kind} is not finished; finished are {', '.join(finished) or 'none'}"
                for kind in kinds
                if kind not in finished
            ]
            chosen = [kind for kind in finished if not kinds or kind in kinds]
            prefix = "" if what == "shards" else "selected/"
            parts = [_shard_part(finished[kind], f"{prefix}{kind}", lent) for kind in chosen]
        elif what == "report":
            parts = [_part(folder, folder / what, what, lent)] if (folder / what / MANIFEST_NAME).is_file() else []
        else:
            homes = [path.parent for stage in MODEL_STAGES for path in sorted((folder / stage).rglob(MANIFEST_NAME))]
            parts = [_part(folder, home, f"weights/{home.relative_to(folder).as_posix()}", lent) for home in homes]
        if not parts and whats and not kinds:
            problems.append(f"{what}: nothing of it is finished")
        found += parts
    if problems or not found:
        raise ConfigError(
            f"{folder} cannot be pushed like this: make it first, for example with `scenepalette run`, or ask for what "
            "is finished.",
            problems or ["neither shards nor a report are finished"],
        )
    return found


def _shard_part(folder: Path, place: str, lent: Sequence[str] = ()) -> Part:
    manifest = read_manifest(folder)
    beside = [terms for terms in lent if terms not in manifest["source"].get(PRETRAINED, {}).values()]
    return Part(folder, place, manifest, "; ".join([licence_of(manifest), *beside]), shards=True)


def _part(run_dir: Path, folder: Path, place: str, lent: Sequence[str]) -> Part:
    terms = "; ".join([_terms_of_data(run_dir), *lent])
    return Part(folder, place, read_record(folder / MANIFEST_NAME), terms, shards=False)


def _terms_of_data(run_dir: Path) -> str:
    data = read_json(run_dir / "data" / "train.json")
    return str((data.get("licence") if isinstance(data, dict) else None) or "not stated")


def _lent_terms(run_dir: Path) -> list[str]:
    """Return the terms that a run's finished models come under beside those of its data; see `_terms_of_records`."""
    homes = (path for stage in MODEL_STAGES for path in sorted((run_dir / stage).rglob(MANIFEST_NAME)))
    return _terms_of_records(read_record(path) for path in homes)


def _terms_of_records(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the terms of what models that were trained in other runs were learned from, and of pretrained weights."""
    found = set[str]()
    for record in records:
        if record.get("lender"):
            found.add(str(record["lender"].get("licence") or "not stated"))
        found.update(map(str, record.get(PRETRAINED, {}).values()))
    return sorted(found)


def check_terms(run_dir: Path, coming: Iterable[Mapping[str, Any]] = ()) -> None:
    """Refuse early what `push` would refuse at the end, as far as the terms are known; they need not be.

    Args:
        run_dir: The run directory.
        coming: What the manifests of units will say that are still to be made.

    Raises:
        ConfigError: Terms of the data or of models do not allow everyone to pass on what is made from them.
    """
    terms = sorted({*_lent_terms(run_dir), *_terms_of_records(coming)})
    if (run_dir / "data" / "train.json").is_file():
        terms.insert(0, _terms_of_data(run_dir))
    if terms:
        _check_licences([Part(run_dir, "", {}, "; ".join(terms), shards=False)])


def _check_licences(parts: Iterable[Part]) -> None:
    """Raise a ConfigError if terms of the data do not allow everyone to pass on what is made from it."""
    problems = dict[str, list[str]]()
    for part in parts:
        if reason := licence_problem(part.licence):
            problems.setdefault(f"'{part.licence}': {reason}", []).append(part.place or part.folder.name)
    if problems:
        raise ConfigError(
            "The terms of the data do not say that everyone may pass on what is made from it; nothing was copied. Add "
            "--i-may (of a flow, i_may) if you may, or if the URL is for yourself alone. Terms of your own data are "
            "stated in its class file, classes.yaml, by the key licence.",
            [f"{', '.join(places)}: the terms are {text}" for text, places in problems.items()],
        )


def _check_here(part: Part) -> None:
    """Raise a ScenepaletteError if a file that is to be pushed is not what was written."""
    check_contents(part.folder)
    if part.shards and (problems := document_problems(part.folder, part.manifest)):
        raise DataError(
            f"Documents in {part.folder} are not as they were written. `scenepalette shards verify {part.folder} "
            "--mend` writes them again.",
            problems,
        )


def _manifest_at(store: Store, name: str) -> Any:
    """Return the manifest of a name at the URL; None where there is none, or half of one."""
    content = store.read(name)
    try:
        return None if content is None else json.loads(content)
    except ValueError:
        return None


def _conflicts(store: Store, part: Part, there: Any) -> list[str]:
    """Say what at the URL a part must not take the place of."""
    where = part.place or "it"
    if there is None:
        if not part.shards:
            return []
        others = sorted(
            name
            for name in store.files(part.place)
            if name.endswith(".parquet") and name not in part.files and "/" not in name
        )
        return [f"{where} has Parquet files of another set: {', '.join(others[:3])}"] if others else []
    if not isinstance(there, dict) or ("shards" in there) != part.shards or "sha256" not in there:
        return [f"{where} has a {MANIFEST_NAME} that is not one of {'shards' if part.shards else 'a run'}"]
    if not part.shards or there["sha256"] == part.manifest["sha256"]:
        return []
    if manifest_problems(there):
        return [f"{where} has a damaged {MANIFEST_NAME}"]
    ours = part.files
    others = [shard["name"] for shard in there["shards"] if ours.get(shard["name"]) != shard["sha256"]]
    return [f"{where} has other pairs, such as {others[0]}"] if others else []


def _push_part(store: Store, part: Part, there: Any, progress: Progress) -> Pushed:
    """Copy the files that differ or are missing, and the manifest last."""
    files, record = part.files, part.folder / MANIFEST_NAME
    same = there is not None and there.get("sha256") == part.manifest.get("sha256")
    listed = store.files(part.place) if same else {}
    vouched = {name for name in files if name in listed and listed[name].size == (part.folder / name).stat().st_size}
    todo = [name for name in files if name not in vouched]
    if there is not None and not part.shards and not same:
        store.remove(part.named(MANIFEST_NAME))  # what it says holds no longer
        for name in there.get("files", {}):
            if name not in files:
                store.remove(part.named(name))
    progress.start(f"push {part.place or part.folder.name}", len(files) + 1, done=len(vouched))

    def copy(name: str) -> bool:
        path, target = part.folder / name, part.named(name)
        if store.holds(target, path, files[name]):
            return False
        store.put(path, target)
        if not store.holds(target, path, files[name]):
            raise ScenepaletteError(
                f"{store.url}/{target} is not what was copied there. Rerun the same command; if this stays so, look at "
                "what else writes there."
            )
        return True

    copied = 0
    # Documents after the shards that they describe.
    for names in ([n for n in todo if n.endswith(".parquet")], [n for n in todo if not n.endswith(".parquet")]):
        # On the Hub each file is a commit, and commits at once conflict.
        with ThreadPoolExecutor(1 if scheme_of(store.url) == "hf" else _THREADS) as pool:
            futures = [pool.submit(copy, name) for name in names]
            try:
                for future in futures:
                    copied += future.result()
                    progress.advance(1)
            finally:
                for future in futures:
                    future.cancel()
    if not same or not store.holds(part.named(MANIFEST_NAME), record):
        store.put(record, part.named(MANIFEST_NAME))
        copied += 1
    progress.advance(1)
    progress.finish()
    return Pushed(part.place, len(files) + 1, copied)


def _write_card(store: Store, note: Callable[[str], object]) -> None:
    """Write the card above all kinds that are at the URL, unless somebody wrote or changed the one that is there."""
    manifests = {}
    for name in store.files():
        kind, slash, rest = name.partition("/")
        if slash and rest == MANIFEST_NAME and kind not in ("report", "weights"):
            manifest = _manifest_at(store, name)
            if isinstance(manifest, dict) and "shards" in manifest and not manifest_problems(manifest):
                manifests[kind] = manifest
    card, there = _marked(collection_card(manifests)), (store.read(CARD_NAME) or b"").decode(errors="replace")
    if there and there != _marked(there.rpartition(_MARK)[0]):
        note(f"{store.url}/{CARD_NAME} was written or changed by somebody else, and stays as it is.")
    elif there != card:
        store.write(CARD_NAME, card.encode())


def _marked(card: str) -> str:
    """Return a card with its hash, by which one that nobody changed is recognised."""
    return f"{card}{_MARK}{hashlib.sha256(card.encode()).hexdigest()} -->\n"
