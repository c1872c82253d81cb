"""A file appears under its name whole or not at all."""

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kinema.errors import OutputError


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A draft beside `path`, with its ending; it takes the name when the block ends well and is removed when it does not.

    Raises OutputError, in one line, where the folder or the disk refuses.
    """
    draft = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem[:40]}-", suffix=path.suffix)
        os.close(handle)
        draft = Path(name)
        yield draft
        draft.chmod(0o666 & ~current_umask())
        draft.replace(path)
    except OSError as error:
        reason = error.strerror or str(error)
        raise OutputError(f"cannot write {path}: {reason}; choose another folder, or free some space there") from error
    finally:
        if draft is not None:
            with suppress(OSError):
                draft.unlink(missing_ok=True)


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def pack(metadata: dict[str, Any] | None) -> str:
    """Metadata as the text that goes into a file; empty for None."""
    return "" if metadata is None else json.dumps(metadata, ensure_ascii=False)


def unpack(text: str | None) -> dict[str, Any] | None:
    """Metadata from a file's text; None where there is none of ours."""
    try:
        found = json.loads(text or "")
    except json.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
