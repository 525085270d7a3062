"""A checkpoint's folder from what a user typed: a local folder, or a Hugging Face repository."""

import re
from pathlib import Path

from jaxablate.checkpoints.content import check_folder
from jaxablate.core.errors import UserError, nearest
from jaxablate.data.tokenizer import FILES

# What a decoder and its tokenizer need. Pickles and Python code are never fetched.
ALLOWED = (
    "model.safetensors",
    "model-*.safetensors",
    "model.safetensors.index.json",
    "config.json",
    "generation_config.json",
    *FILES,
)

# Checkpoints that come with the package, by name.
BUNDLED = Path(__file__).parents[1] / "reference"

_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?", re.ASCII)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def resolve(name_or_folder: str | Path, revision: str | None = None) -> Path:
    """The local folder of a checkpoint: as named, bundled, or downloaded from a repository.

    `HF_HOME`, `HF_TOKEN`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` mean what they mean to
    huggingface_hub, which does the download.
    """
    text = str(name_or_folder)
    if _exists(text):
        if revision is not None:
            raise UserError(f"{text}: is a local folder, which has no revision {revision!r}")
        return check_folder(text)
    if text in bundled() and revision is None:
        return BUNDLED / text
    if isinstance(name_or_folder, Path) or not _REPOSITORY.fullmatch(text) or ".." in text:
        raise UserError(f"{text!r}: no such folder{_suggestion(text)}")
    return _download(text, revision)


def bundled() -> tuple[str, ...]:
    """Names of the checkpoints that come with the package."""
    return tuple(sorted(path.parent.name for path in BUNDLED.glob("*/config.json")))


def revision_of(folder: str | Path) -> str | None:
    """The commit of a folder in the Hugging Face cache; None for any other folder."""
    folder = Path(folder).resolve()
    in_cache = folder.parent.name == "snapshots" and _COMMIT.fullmatch(folder.name)
    return folder.name if in_cache else None


def _download(repository: str, revision: str | None) -> Path:
    try:
        import huggingface_hub
        from huggingface_hub import errors
    except ImportError:
        raise UserError(
            f"{repository!r}: no such folder, and downloading it needs huggingface_hub; "
            "install it or name a local folder"
        ) from None
    what = repository if revision is None else f"{repository} at revision {revision}"
    try:
        folder = huggingface_hub.snapshot_download(
            repository, revision=revision, allow_patterns=list(ALLOWED)
        )
    except errors.GatedRepoError:
        raise UserError(
            f"{what}: the repository is gated; accept its terms on the hub and set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise UserError(f"{what}: the repository has no such revision") from None
    except errors.RepositoryNotFoundError:
        raise UserError(
            f"{what}: no such folder and no such repository, or it is private and HF_TOKEN is not "
            f"set{_suggestion(repository)}"
        ) from None
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled):
        raise UserError(
            f"{what}: not in the local cache, and the hub cannot be reached (no network, or "
            f"HF_HUB_OFFLINE is set){_suggestion(repository)}"
        ) from None
    except errors.HfHubHTTPError as error:
        raise UserError(f"{what}: the hub answered {_first_line(error)}") from None
    except OSError as error:
        raise UserError(f"{what}: download failed ({_first_line(error)})") from None
    return Path(folder)


def _suggestion(text: str) -> str:
    path = Path(text)
    try:
        names = [entry.name for entry in path.parent.iterdir() if entry.is_dir()]
    except (OSError, ValueError):
        return ""
    guess = nearest(path.name, names)
    return f"; did you mean {str(path.parent / guess)!r}?" if guess else ""


def _exists(text: str) -> bool:
    try:
        return text != "" and Path(text).exists()
    except (OSError, ValueError):  # a NUL in it, or too long for a path
        return False


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:200]
