"""Sentence embeddings by an ONNX graph on the CPU, from a weights folder whose bytes are verified.

Each text is embedded alone: its vector depends on nothing but the text, whatever else is embedded
in the same call, so that an index is reproducible and unchanged chunks may reuse their vectors.
On a CPU this is no slower than padded batches; two texts run at once on two threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from proa.errors import Conflict, InvalidInput, NotFound
from proa.release.canonical import digest_bytes, digest_file, parse_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

LISTING: Final = "weights.json"
DESCRIPTION: Final = "embedder.json"
_MEND: Final = "make setup-engine"


def find_weights(cache: Path, digest: str) -> Path:
    """The weights folder in `cache` whose `weights.json` has this digest.

    Raises:
        NotFound: there is none; nothing is downloaded.
    """
    if cache.is_dir():
        for folder in sorted(cache.iterdir()):
            listing = folder / LISTING
            if listing.is_file() and digest_file(listing) == digest:
                return folder
    raise NotFound(f"no weights with digest {digest} in {cache}", hint=_MEND)


@dataclass(frozen=True, slots=True)
class EmbedderFacts:
    """What a weights folder says about its embedder.

    Attributes:
        name: the model's name.
        digest: `sha256:` and hex of `weights.json`.
        dimension: numbers in a vector.
        max_tokens: tokens that are read, special tokens included.
        output: the graph's output that holds the finished embedding.
    """

    name: str
    digest: str
    dimension: int
    max_tokens: int
    output: str


def find_named(cache: Path, name: str) -> Path:
    """The newest weights folder in `cache` of the embedder with this name.

    Raises:
        NotFound: there is none; the message names those that are there.
    """
    found: dict[str, Path] = {}
    for description in sorted(cache.glob(f"*/{DESCRIPTION}")):
        listing = description.parent / LISTING
        if listing.is_file():
            about = parse_json(listing.read_bytes(), what=str(listing))
            found[str(about.get("name"))] = description.parent
    if name not in found:
        known = ", ".join(found) or "none"
        raise NotFound(f"no embedder {name!r} in {cache}: there are {known}", hint=_MEND)
    return found[name]


class Embedder:
    """A loaded embedding model. Safe to use from several threads."""

    def __init__(
        self,
        *,
        facts: EmbedderFacts,
        session: Any,
        reading: Tokenizer,
        counting: Tokenizer,
        threads: int,
    ) -> None:
        self._facts = facts
        self._session = session
        self._reading = reading
        self._counting = counting
        self._threads = threads

    @classmethod
    def load(cls, folder: Path, *, threads: int = 1, verify: bool = True) -> Embedder:
        """Load `model.onnx` and `tokenizer.json` from a weights folder.

        Args:
            folder: holds `weights.json`, which lists every file with its sha256.
            threads: texts embedded at once.
            verify: compare every file with the listing first (0.1 s per 100 MB).

        Raises:
            NotFound: no such folder or no listing.
            Conflict: a file is missing or has another sha256 (code `corrupt`).
            InvalidInput: the folder holds no embedder, or `threads` < 1.
        """
        if threads < 1:
            raise InvalidInput(f"embedder: threads = {threads}: expected at least 1")
        facts = read_facts(folder, verify=verify)
        reading, counting = _tokenizer(folder), _tokenizer(folder)
        reading.enable_truncation(facts.max_tokens)
        return cls(
            facts=facts,
            session=_session(folder / "model.onnx"),
            reading=reading,
            counting=counting,
            threads=threads,
        )

    @property
    def name(self) -> str:
        """The model's name, as proa.yaml says it."""
        return self._facts.name

    @property
    def digest(self) -> str:
        """`sha256:` and hex of the weights' listing, which pins every file."""
        return self._facts.digest

    @property
    def dimension(self) -> int:
        """Numbers in a vector."""
        return self._facts.dimension

    @property
    def max_tokens(self) -> int:
        """Tokens that are read; the rest of a text has no effect."""
        return self._facts.max_tokens

    def embed(
        self, texts: Sequence[str], *, progress: Callable[[int, int], None] | None = None
    ) -> NDArray[np.float32]:
        """Embed texts.

        Args:
            texts: any strings.
            progress: called with (done, all) about a hundred times.

        Returns:
            float32 array of shape [len(texts), dimension], rows of length 1.
        """
        import numpy as np

        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        ids = [encoding.ids for encoding in self._reading.encode_batch(list(texts))]
        # Longest first: the threads end together.
        order = sorted(range(len(ids)), key=lambda number: -len(ids[number]))
        with _mapper(min(self._threads, len(texts))) as run:
            step = max(1, len(texts) // 100)
            for done, (number, vector) in enumerate(
                run(lambda number: (number, self._forward(ids[number])), order), start=1
            ):
                vectors[number] = vector
                if progress is not None and (done % step == 0 or done == len(texts)):
                    progress(done, len(texts))
        return vectors

    def count(self, texts: Sequence[str]) -> list[int]:
        """Tokens of each whole text, without the model's own special tokens."""
        encodings = self._counting.encode_batch(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in encodings]

    def _forward(self, ids: Sequence[int]) -> Any:
        import numpy as np

        tokens = np.array([ids], dtype=np.int64)
        feed = {"input_ids": tokens, "attention_mask": np.ones_like(tokens)}
        return self._session.run([self._facts.output], feed)[0][0]


def read_facts(folder: Path, *, verify: bool = True) -> EmbedderFacts:
    """Read what a weights folder holds, and check its files against their sha256.

    Raises:
        NotFound: no such folder or no listing.
        Conflict: a file is missing or has another sha256 (code `corrupt`).
        InvalidInput: the listing or the description has another shape.
    """
    try:
        data = (folder / LISTING).read_bytes()
    except OSError as error:
        raise NotFound(f"embedder: {folder} holds no {LISTING}", hint=_MEND) from error
    listing = parse_json(data, what=str(folder / LISTING))
    try:
        files = {str(name): str(entry["sha256"]) for name, entry in listing["files"].items()}
        if verify:
            _verify(folder, files)
        about = parse_json((folder / DESCRIPTION).read_bytes(), what=DESCRIPTION)
        return EmbedderFacts(
            name=str(listing["name"]),
            digest=digest_bytes(data),
            dimension=int(about["dimension"]),
            max_tokens=int(about["max_tokens"]),
            output=str(about["output"]),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OSError) as error:
        raise InvalidInput(
            f"{folder} holds no embedder: {LISTING} and {DESCRIPTION} expected ({error!r})",
            hint=_MEND,
        ) from error


def _verify(folder: Path, files: dict[str, str]) -> None:
    for name, expected in sorted(files.items()):
        path = folder / name
        actual = digest_file(path) if path.is_file() else "missing"
        if actual != f"sha256:{expected}":
            raise Conflict(
                f"embedder: {path} is {actual}, {LISTING} says sha256:{expected}",
                hint=f"remove {folder} and run: {_MEND}",
                code="corrupt",
            )


def _tokenizer(folder: Path) -> Tokenizer:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # One thread inside a text: two texts at once are faster than two threads on one.
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@contextmanager
def _mapper(threads: int) -> Iterator[Callable[..., Any]]:
    if threads <= 1:
        yield map
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="embed") as pool:
            yield pool.map
