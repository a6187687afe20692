"""What values of a configuration may be: paths, names of what is registered, and bounds of what is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, GetJsonSchemaHandler, PlainValidator, WithJsonSchema
from pydantic_core import CoreSchema

from scenepalette.common.errors import ConfigError
from scenepalette.common.urls import is_url, url_problem, without_file_scheme
from scenepalette.data.datasets import DATASETS
from scenepalette.generators.images.registry import IMAGE_SYSTEMS
from scenepalette.generators.layouts.registry import LAYOUT_SYSTEMS
from scenepalette.generators.nn.grids import SMALLEST_SIDE
from scenepalette.generators.pairs.registry import PAIR_KINDS
from scenepalette.pipeline.arms import ARMS
from scenepalette.pipeline.comparisons import ROWS
from scenepalette.segmenters.model import TIMM_PREFIX, known_encoders, weights_file
from scenepalette.segmenters.registry import SEGMENTERS


def _not_empty(value: Any) -> Any:
    if value == "":
        raise ValueError("an empty path would mean the working directory; write . for that, or leave it out")
    return without_file_scheme(value) if isinstance(value, str) else value


def _no_url(value: Any) -> Any:
    if is_url(value):
        raise ValueError(
            "this has to lie on a disk of this machine; give a path (data.root, data.unlabelled and "
            "report.extra_test take URLs)"
        )
    return value


def _absolute(path: Path) -> Path:
    """Return a path that means the same file from every working directory; links in it stay."""
    try:
        return path.expanduser().absolute()
    except (OSError, RuntimeError) as error:
        raise ValueError(f"it cannot be made absolute ({error}); give the whole path") from error


def _place(value: Any) -> Any:
    """Return a URL as a text, and a path as `FilePath` does."""
    if not isinstance(value, str | Path):
        raise ValueError("a path or a URL is required")
    if not is_url(value):
        return _absolute(Path(value))
    if problem := url_problem(str(value).strip()):
        raise ValueError(problem)
    return str(value).strip().rstrip("/")


FilePath = Annotated[
    Path,
    BeforeValidator(_no_url),
    BeforeValidator(_not_empty),
    AfterValidator(_absolute),
    WithJsonSchema({"type": "string", "format": "path", "minLength": 1}),
]
"""A file or folder: ~ is the user's home, and what is relative is so to the working directory. It need not exist."""


Location = Annotated[
    Path | str,
    # Plain, as JSON has no paths: one that a validator before the type returned would be refused there.
    PlainValidator(_place),
    BeforeValidator(_not_empty),
    WithJsonSchema({"type": "string", "format": "path", "minLength": 1}),
]
"""A folder as `FilePath` names it, or the URL of one as a text: s3://BUCKET/FOLDER."""


def _one_name(value: str) -> str:
    if not value.strip() or "/" in value or "\\" in value or value in (".", ".."):
        raise ValueError("a name without slashes is required, as it is in one folder")
    return value


def _names_below(value: str) -> str:
    for name in value.split("/"):
        _one_name(name)
    return value


FolderName = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_names_below)]
"""A folder's own name, or those of folders in each other with slashes between them; no path from elsewhere."""


NameEnd = Annotated[str, Field(min_length=1, max_length=100), AfterValidator(_one_name)]
"""What a file's name ends with before its extension."""


class InSchema:
    """Adds to the JSON schema of a value, so that a server refuses at submission what is checked here together."""

    def __init__(self, **added: Any) -> None:
        self.added = added

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the value's own schema with the keywords."""
        return handler(core) | self.added


class OneOf:
    """Lets a form offer names, and a server refuse others; here they are checked together, with words of their own.

    Names are looked up when a schema is made, since other packages may add some.
    """

    def __init__(self, names: Callable[[], Iterable[str]], keys: bool = False) -> None:
        """Take what returns the names, and whether they are the keys of a dictionary and not the value."""
        self.names, self.keys = names, keys

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema with the names."""
        names = {"enum": list(self.names())}
        return {**handler(core), "propertyNames": names} if self.keys else {"type": "string", **names}


class _EncoderPattern:
    """As `OneOf`, by a pattern: the models of timm are too many to list."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """Return the schema with the pattern."""
        return {"type": "string", "pattern": rf"^({'|'.join(sorted(known_encoders()))}|{TIMM_PREFIX}.+)$"}


def layout_names(partial: bool) -> list[str]:
    """Return the names of the layout systems that make whole layouts, or of those that edit them."""
    return [name for name, system in LAYOUT_SYSTEMS.items() if system.partial == partial]


def _known_dataset(name: str) -> str:
    try:
        return DATASETS.get(name).name
    except ConfigError as error:
        raise ValueError(str(error).removesuffix(".")) from error


def _known(names: Sequence[str]) -> AfterValidator:
    """Refuse other names where they stand."""

    def check(name: str) -> str:
        if name not in names:
            raise ValueError(f"input should be {', '.join(map(repr, names[:-1]))} or {names[-1]!r}")
        return name

    return AfterValidator(check)


ExtraTestName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,39}$")]
"""Names a folder and a column of a table."""

DatasetName = Annotated[str, AfterValidator(_known_dataset), OneOf(DATASETS.names)]
_DRAWN = [name for name, kind in PAIR_KINDS.items() if kind.layout_section]
_BUDGETED = [name for name, kind in PAIR_KINDS.items() if kind.takes_budget]
BudgetKindName = Annotated[str, _known(_BUDGETED), OneOf(lambda: _BUDGETED)]
KindName = Annotated[str, _known([*PAIR_KINDS]), OneOf(lambda: PAIR_KINDS)]
DrawnKindName = Annotated[str, _known(_DRAWN), OneOf(lambda: _DRAWN)]
LayoutSystemName = Annotated[str, OneOf(lambda: layout_names(False))]
PartialSystemName = Annotated[str, OneOf(lambda: layout_names(True))]
ImageSystemName = Annotated[str, OneOf(IMAGE_SYSTEMS.names)]
ArmName = Annotated[str, OneOf(ARMS.names)]
RowName = Annotated[str, OneOf(lambda: ROWS)]
ArchitectureName = Annotated[str, OneOf(SEGMENTERS.names)]
EncoderWeights = Annotated[
    str | None, AfterValidator(lambda name: str(_absolute(file)) if (file := weights_file(name)) else name)
]
EncoderName = Annotated[str, _EncoderPattern()]

# Bounds of what is counted, far above what anyone trains on: a slip of the hand must not exhaust memory.
LARGEST_SIZE = 8192
SMALLEST_SEGMENTED = 16
Side = Annotated[int, Field(ge=1, le=LARGEST_SIZE)]
# Checked by `reached_size`, which says what to do.
DataSide = Annotated[Side, InSchema(minimum=2 * SMALLEST_SIDE)]
Size = tuple[DataSide, DataSide]
SegmenterSide = Annotated[int, Field(ge=SMALLEST_SEGMENTED, le=LARGEST_SIZE)]
MOST_STRETCHED_PARTS = 1.05
"""Most by which crops and tiles of the aspect ratio of `data.size` are stretched to `segmenters.size`."""
LARGEST_SCENES = 1_000_000
LEAST_HELD_OUT, MOST_HELD_OUT = 0.01, 0.4
MOST_FOLDS = 20
LARGEST_DOSE = 100
MOST_CANDIDATES = 20
MOST_ROUNDS = 20
LARGEST_SHARDS = 99_999
"""Names of shards count with five digits."""
