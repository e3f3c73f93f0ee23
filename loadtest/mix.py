"""What users ask, by weight: charts, backtests, resumed downloads, caches and clumsy clients.

Owns the choice of the next question and of what is asked once a whole answer has come. It knows the
server by its contract and the series that were found; the same seed gives the same questions.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from loadtest.checks import (
    HeadCheck,
    NotModifiedCheck,
    PartCheck,
    PartsCheck,
    ProblemCheck,
    RangeRefusedCheck,
    StatusCheck,
    SymbolsCheck,
)
from loadtest.question import DAY_S, U32_MAX, Query, Question, data_target
from loadtest.samples import Sample
from loadtest.wholes import DataCheck, Sums, Whole

if TYPE_CHECKING:
    from loadtest.dataroot import DataRoot
    from loadtest.series import Series

WINDOWS_S = (1, 10, 60, 300, 3_600)
SEVERAL_DAYS = (2, 3, 5, 7)
MONTH_DAYS = 30
FOLLOW_UP_SHARE = 0.3
"""Of whole answers after which something is asked about the same bytes."""

PARTS_MAX = 8
LONG_TARGET_BYTES = 9_000
"""Above `[limits] target_bytes_max`, as it is by default."""

KINDS = {
    "recent window": 20,
    "one day": 5,
    "several days": 1,
    "one month": 1,
    "symbols": 1,
    "symbols of one exchange": 1,
    "refused": 2,
    "preflight": 1,
}


@dataclass(frozen=True, slots=True)
class Market:
    """What there is to ask for, and what answers can be compared with; shared by all users."""

    series: list[Series]
    root: DataRoot | None = None
    sums: Sums = field(default_factory=Sums)


class Mix:
    """One user's questions."""

    def __init__(self, market: Market, seed: str) -> None:
        self._market = market
        self._random = random.Random(seed)

    def next(self) -> Question:
        """The next question, by weight."""
        [kind] = self._random.choices(list(KINDS), list(KINDS.values()))
        series = self._random.choice(self._market.series)
        match kind:
            case "symbols":
                return Question(kind, "/api/symbols", SymbolsCheck())
            case "symbols of one exchange":
                target = f"/api/symbols?exchange={series.exchange}"
                return Question(kind, target, SymbolsCheck(series.exchange))
            case "refused":
                return self._refused(series)
            case "preflight":
                return Question(kind, "/api/data", StatusCheck(204), "OPTIONS")
            case _:
                return self._whole(kind, series)

    def _whole(self, kind: str, series: Series) -> Question:
        """Some columns of a range, `time` first."""
        start, end = self._range(kind, series)
        count = self._random.randint(0, len(series.columns))
        columns = ("time", *self._random.sample(series.columns, count))
        query = Query(
            series.exchange, series.symbol, series.type_, max(start, 0), min(end, U32_MAX), columns
        )
        check = DataCheck(
            query,
            random=self._random,
            sums=self._market.sums,
            root=self._market.root,
            on_right=self._follow_up,
        )
        return Question(kind, query.target, check)

    def _range(self, kind: str, series: Series) -> tuple[int, int]:
        last_s = series.last_s
        if kind == "recent window":
            return last_s - self._random.choice(WINDOWS_S), last_s
        if kind == "one day":
            day = self._random.randint(series.first_s // DAY_S, last_s // DAY_S)
            return day * DAY_S, (day + 1) * DAY_S - 1
        days = MONTH_DAYS if kind == "one month" else self._random.choice(SEVERAL_DAYS)
        return last_s - days * DAY_S, last_s

    def _follow_up(self, whole: Whole) -> list[Question]:
        """Now and then, a question about the bytes that were just seen."""
        if self._random.random() > FOLLOW_UP_SHARE:
            return []
        sample = self._random.choice(whole.samples)
        target, etag, total = whole.target, whole.etag, whole.total
        past = f"bytes={total + (1 << 40)}-"
        choices = (
            Question("not modified", target, NotModifiedCheck(etag), "GET",
                     (("if-none-match", f'"other", {etag}'),)),
            Question("head", target, HeadCheck(etag, total), "HEAD"),
            Question("precondition failed", target, ProblemCheck(412), "GET",
                     (("if-match", '"other"'),)),
            Question("range refused", target, RangeRefusedCheck(total), "GET", (("range", past),)),
            self._part(whole, self._cut(sample)),
            self._parts(whole),
        )  # fmt: skip
        return [self._random.choice(choices)]

    def _cut(self, sample: Sample) -> Sample:
        """Some bytes of a sample, at least one."""
        begin = self._random.randrange(len(sample.content))
        end = self._random.randint(begin + 1, len(sample.content))
        return Sample(sample.offset + begin, sample.content[begin:end])

    @staticmethod
    def _part(whole: Whole, sample: Sample) -> Question:
        last = sample.stop == whole.total
        end = "" if last else sample.stop - 1
        fields = (("range", f"bytes={sample.offset}-{end}"), ("if-range", whole.etag))
        check = PartCheck(whole.etag, whole.total, sample)
        return Question("resumed" if last else "range", whole.target, check, "GET", fields)

    def _parts(self, whole: Whole) -> Question:
        """Several ranges with gaps between; one where the samples have no two."""
        samples = whole.samples
        if len(samples) == 1:  # a whole body: cut it, and keep every other piece
            [(_, body)] = samples
            cuts = sorted(self._random.sample(range(len(body)), min(len(body), 2 * PARTS_MAX)))
            pairs = zip(cuts[::2], cuts[1::2], strict=False)
            samples = [Sample(first, body[first:stop]) for first, stop in pairs]
        else:
            chosen = self._random.sample(samples, min(len(samples), PARTS_MAX))
            samples = sorted(chosen, key=lambda sample: sample.offset)
        if len(samples) < 2:  # noqa: PLR2004
            return self._part(whole, whole.samples[0])
        ranges = ",".join(f"{sample.offset}-{sample.stop - 1}" for sample in samples)
        fields = (("range", f"bytes={ranges}"), ("if-range", whole.etag))
        check = PartsCheck(whole.etag, whole.total, samples)
        return Question("multipart", whole.target, check, "GET", fields)

    def _refused(self, s: Series) -> Question:
        """What must be refused, with the status that says why."""
        good: dict[str, object] = {"exchange": s.exchange, "symbol": s.symbol, "type": s.type_}
        good |= {"start": s.first_s, "end": s.last_s, "columns": "time"}
        refusals: tuple[tuple[int, dict[str, object]], ...] = (
            (400, {"start": s.last_s, "end": s.last_s - 1}),
            (400, {"start": "yesterday"}),
            (400, {"end": U32_MAX + 1}),
            (400, {"columns": ""}),
            (400, {"columns": "time,time"}),
            (400, {"symbol": "../../etc"}),
            (404, {"symbol": "NO-SUCH-SYMBOL"}),
            (404, {"type": "NO-SUCH-TYPE"}),
            (404, {"columns": "time,no_such_column"}),
            (404, {}),
            (405, {}),
            (414, {"more": "x" * LONG_TARGET_BYTES}),
        )
        status, change = self._random.choice(refusals)
        target = data_target(**{**good, **change}) if change else "/api/nothing"
        if status == 405:  # noqa: PLR2004 - Method Not Allowed
            return Question("refused 405", data_target(**good), ProblemCheck(405), "DELETE")
        return Question(f"refused {status}", target, ProblemCheck(status))
