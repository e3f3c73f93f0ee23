"""What the answers to all requests but whole data must be.

Owns the judgement of problem documents, of lists of symbols, of parts, and of answers without
content. Whole answers of /api/data are judged in `wholes`.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from loadtest.question import WrongAnswerError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from loadtest.question import Question
    from loadtest.samples import Sample

CONTENT_BYTES_MAX = 64 << 20
"""Of an answer that is kept until its end: the list of symbols of the largest root there is."""

SHOWN_BYTES = 300
"""Of an answer that nobody expected, in the report."""

_BOUNDARY = re.compile(r'multipart/byteranges; *boundary="?([^";]+)"?')
_NO_CONTENT = 204, 304


class StatusCheck:
    """An answer with this status, the fields of every answer, and as long as it says."""

    has_content = True

    def __init__(self, status: int) -> None:
        self.expected = status
        self.status = 0
        self.fields: Mapping[str, str] = {}
        self.nbytes = 0

    def begin(self, status: int, fields: Mapping[str, str]) -> None:
        """Judge the fields that every answer has."""
        self.status, self.fields, self.nbytes = status, fields, 0
        self._shown = bytearray()
        if self.is_unexpected:
            return
        self.need("access-control-allow-origin", "*")
        self.need("date")
        if status not in _NO_CONTENT and not self.need("content-length").isdecimal():
            raise WrongAnswerError(f"Content-Length {fields['content-length']!r}")
        self.judge_head()

    def feed(self, piece: memoryview) -> None:
        """Count the content."""
        if self.is_unexpected:
            self._shown += piece[: SHOWN_BYTES - len(self._shown)]
        else:
            self.judge_piece(piece)
        self.nbytes += len(piece)

    def end(self) -> list[Question]:
        """Compare the length, then let the kind of answer judge."""
        if self.is_unexpected:
            shown = self._shown.decode(errors="replace")
            raise WrongAnswerError(f"status {self.status}, not {self.expected}: {shown}")
        promised = 0
        if self.has_content and self.status not in _NO_CONTENT:
            promised = int(self.fields["content-length"])
        if self.nbytes != promised:
            raise WrongAnswerError(f"{self.nbytes} bytes came, {promised} were promised")
        return self.judge_end()

    @property
    def is_unexpected(self) -> bool:
        """Whether the status is another one."""
        return self.status != self.expected

    def need(self, name: str, value: str = "") -> str:
        """The value of a field that must be there, with this value if one is given.

        Raises:
            WrongAnswerError: it is not there, or has another value.
        """
        found = self.fields.get(name)
        if found is None or (value and found != value):
            raise WrongAnswerError(f"{name} is {found!r}" + (f", not {value!r}" if value else ""))
        return found

    def judge_head(self) -> None:
        """What else the head must hold."""

    def judge_piece(self, piece: memoryview) -> None:
        """What else a piece of the content must be."""

    def judge_end(self) -> list[Question]:
        """What else must hold for the whole."""
        return []


class CollectedCheck(StatusCheck):
    """An answer that can only be judged as a whole; bounded, for it is held."""

    def judge_head(self) -> None:
        """Refuse what is too long to be held."""
        self._content = bytearray()
        if int(self.fields["content-length"]) > CONTENT_BYTES_MAX:
            raise WrongAnswerError(f"{self.fields['content-length']} bytes of a small document")

    def judge_piece(self, piece: memoryview) -> None:
        """Keep it."""
        self._content += piece

    @property
    def content(self) -> bytes:
        """The whole content."""
        return bytes(self._content)

    def document(self, content_type: str) -> Any:
        """The content as JSON of this media type."""
        self.need("content-type", content_type)
        try:
            return json.loads(self.content)
        except ValueError as error:
            raise WrongAnswerError(f"not JSON: {error}") from None


class ProblemCheck(CollectedCheck):
    """A refusal: this status, and a problem document (RFC 9457) that says the same."""

    def judge_end(self) -> list[Question]:
        """The document repeats the status and says what is wrong."""
        problem = self.document("application/problem+json")
        if not isinstance(problem, dict) or problem.get("status") != self.expected:
            raise WrongAnswerError(f"problem document {problem}")
        if not problem.get("title") or not problem.get("detail"):
            raise WrongAnswerError(f"a problem without title or detail: {problem}")
        if self.expected == 405:  # noqa: PLR2004 - Method Not Allowed
            self.need("allow")
        return []


class SymbolsCheck(CollectedCheck):
    """The document of /api/symbols, of all exchanges or of one; kept for who looks for symbols."""

    def __init__(self, exchange: str | None = None) -> None:
        super().__init__(200)
        self._exchange = exchange
        self.exchanges: dict[str, list[str]] = {}

    def judge_end(self) -> list[Question]:
        """Orders, and both lists hold the same symbols."""
        document = self.document("application/json")
        try:
            entries = document["exchanges"]
            keys = {
                name: [(-entry["last_update"], entry["symbol"]) for entry in listed]
                for name, listed in entries.items()
            }
            self.exchanges = {name: [symbol for _, symbol in key] for name, key in keys.items()}
            names = sorted({symbol for listed in self.exchanges.values() for symbol in listed})
            if document["symbols"] != names:
                raise WrongAnswerError("`symbols` is not the sorted union of all exchanges")
        except (KeyError, TypeError, AttributeError) as error:
            raise WrongAnswerError(f"not the document of the contract: {error!r}") from None
        if any(key != sorted(key) for key in keys.values()):
            raise WrongAnswerError("not newest first, ties by name")
        if self._exchange is not None and set(self.exchanges) != {self._exchange}:
            raise WrongAnswerError(f"exchanges {sorted(self.exchanges)}, not {self._exchange}")
        return []


class _FollowUpCheck(CollectedCheck):
    """An answer about a representation that was seen before, by its ETag.

    Where the data has grown meanwhile the answer is another representation, whole, and nothing can
    be compared with it.
    """

    def __init__(self, status: int, etag: str) -> None:
        super().__init__(status)
        self.etag = etag

    @property
    def is_other(self) -> bool:
        """Whether the answer is whole and of another state of the data."""
        return self.status == 200 and self.fields.get("etag", self.etag) != self.etag  # noqa: PLR2004

    @property
    def is_unexpected(self) -> bool:
        """Whether the status is neither."""
        return super().is_unexpected and not self.is_other

    def judge_head(self) -> None:
        """The tag is the one that was asked about."""
        if self.is_other:
            return
        self.need("etag", self.etag)
        if self.expected != 304:  # noqa: PLR2004 - Not Modified has no length
            super().judge_head()

    def judge_piece(self, piece: memoryview) -> None:
        """Keep it, if it is to be compared."""
        if not self.is_other:
            super().judge_piece(piece)

    def judge_end(self) -> list[Question]:
        """Compare, if it is the state that was seen."""
        if not self.is_other:
            self.compare()
        return []

    def compare(self) -> None:
        """Compare the content with what was seen before."""


class NotModifiedCheck(_FollowUpCheck):
    """304 with the tag, and nothing else."""

    def __init__(self, etag: str) -> None:
        super().__init__(304, etag)


class HeadCheck(_FollowUpCheck):
    """The head of the answer to GET, without content."""

    has_content = False

    def __init__(self, etag: str, total: int) -> None:
        super().__init__(200, etag)
        self._total = total

    def compare(self) -> None:
        """The length is that of the content GET would give."""
        self.need("content-length", str(self._total))


class RangeRefusedCheck(ProblemCheck):
    """416, with how long the content is (RFC 9110 section 15.5.17)."""

    def __init__(self, total: int) -> None:
        super().__init__(416)
        self._total = total

    def judge_head(self) -> None:
        """It may have grown, never shrunk."""
        super().judge_head()
        unit, _, total = self.need("content-range").partition("bytes */")
        if unit or not total.isdecimal() or int(total) < self._total:
            raise WrongAnswerError(f"Content-Range of {self._total} bytes: */{total}")


class PartCheck(_FollowUpCheck):
    """206 with one range, whose bytes were seen before."""

    def __init__(self, etag: str, total: int, sample: Sample) -> None:
        super().__init__(206, etag)
        self._range = f"bytes {sample.offset}-{sample.stop - 1}/{total}"
        self._sample = sample

    def compare(self) -> None:
        """The very bytes of the whole."""
        self.need("content-range", self._range)
        if self.content != self._sample.content:
            raise WrongAnswerError(f"{self._range} differs from the whole seen before")


class PartsCheck(_FollowUpCheck):
    """206 with several ranges (RFC 9110 section 14.6), whose bytes were seen before."""

    def __init__(self, etag: str, total: int, samples: Sequence[Sample]) -> None:
        super().__init__(206, etag)
        self._total = total
        self._samples = samples

    def compare(self) -> None:
        """Each part in the order asked for, by its range, with the very bytes of the whole."""
        found = _BOUNDARY.fullmatch(self.need("content-type"))
        if found is None:
            raise WrongAnswerError(f"Content-Type {self.fields['content-type']!r}")
        boundary, rest = f"--{found[1]}".encode(), b"\r\n" + self.content
        for sample in self._samples:
            delimiter, _, rest = rest.partition(b"\r\n\r\n")
            lines = delimiter.split(b"\r\n")
            wanted = f"bytes {sample.offset}-{sample.stop - 1}/{self._total}"
            ranges = [
                line.partition(b":")[2].strip().decode("latin-1")
                for line in lines
                if line.lower().startswith(b"content-range:")
            ]
            if lines[:2] != [b"", boundary] or ranges != [wanted]:
                raise WrongAnswerError(f"a part begins with {delimiter[:200]!r}, not {wanted}")
            if rest[: len(sample.content)] != sample.content:
                raise WrongAnswerError(f"part {wanted} differs from the whole seen before")
            rest = rest[len(sample.content) :]
        if rest.rstrip(b"\r\n") != b"\r\n" + boundary + b"--":
            raise WrongAnswerError(f"after the last part comes {rest[:200]!r}")
