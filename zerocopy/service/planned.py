"""Responses made of plans: the fields of /api/data and /api/bars, and what is kept of them.

Owns the validators as fields and the log lines of days that are skipped or unsound. Used in the
event loop's thread only.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

from zerocopy.core import counters as slots
from zerocopy.core.codings import VARY
from zerocopy.core.http.messages import Response
from zerocopy.core.http.pending import CURRENT
from zerocopy.core.http.semantics import ACCEPT_RANGES, unchanged
from zerocopy.core.http.validators import cache_control, last_modified
from zerocopy.core.layout import day_label
from zerocopy.observe.access_log import naming
from zerocopy.observe.log import get_logger
from zerocopy.service.answers import Answer
from zerocopy.service.problems import CORS_FIELDS, private_fields
from zerocopy.service.representations import disposition

if TYPE_CHECKING:
    from collections.abc import Sequence

    from zerocopy.core.counters import Counters
    from zerocopy.core.http.messages import AnswerKey, Fields, Request
    from zerocopy.core.query import Query
    from zerocopy.service.answers import Answers
    from zerocopy.storage.planner import Planned

CLOCK_LAG_S = 0.02
"""By how much the time of a change may lag behind the clock: a tick of the kernel, or two."""

DATE_LAG_S = 1
"""Seconds that Date may lag behind the clock: transports renew it by a timer."""

DAYS_LOGGED_MAX = 10
"""Days named in one log line, which always has their number."""

_OK = 200
_UNSOUND = {"uneven": slots.DAYS_UNEVEN, "outside": slots.DAYS_OUTSIDE}

_log = get_logger(__name__)


class PlannedResponses:
    """Makes responses of plans, and keeps those that can be proved in `answers`."""

    def __init__(
        self, answers: Answers, counters: Counters, closed_max_age_s: int, *, is_private: bool
    ) -> None:
        self._answers = answers
        self._counters = counters
        self._closed_max_age_s = closed_max_age_s
        self._is_private = is_private

    def response(self, key: AnswerKey, query: Query, planned: Planned) -> Response:
        """The 200 to `query`, kept for `key` where its proof allows it.

        A body of the spool is not: what keeps it can give it up.
        """
        found, validators, closes_s = planned.representation, planned.validators, planned.closes_s
        now_s = time.time()
        fields = self._fields(query, planned, now_s)
        if planned.content is not None:
            response = Response(_OK, fields, planned.content, validators=validators)
        else:
            body = found.content, found.segments
            response = Response(_OK, fields, *body, ends=found.ends, validators=validators)
        is_spooled = planned.content is None and query.is_computed
        if planned.proof.reusable and not is_spooled:
            span = (0.0, closes_s) if now_s < closes_s else (closes_s, math.inf)
            self._answers.put(key, Answer(response, planned.proof, *span))
        return response

    def unchanged(self, request: Request, query: Query, planned: Planned) -> Response | None:
        """The 304 to `request` of what is not computed yet, where it is due.

        Raises:
            PreconditionFailedError: a precondition does not hold.
        """
        if not request.is_conditional:
            return None
        now_s = time.time()
        fields = self._fields(query, planned, now_s)
        return unchanged(request, Response(_OK, fields, validators=planned.validators), now_s)

    def _fields(self, query: Query, planned: Planned, now_s: float) -> Fields:
        found, validators, closes_s = planned.representation, planned.validators, planned.closes_s
        fields = [
            (b"Content-Type", found.media_type),
            *disposition(query),
            (b"Cache-Control", cache_control(closes_s, now_s, self._closed_max_age_s)),
            (b"ETag", validators.etag),
            ACCEPT_RANGES,
            *CORS_FIELDS,
        ]
        if query.coding:
            fields.append((b"Content-Encoding", query.coding))
        if query.is_negotiated:
            fields.append(VARY)
        modified = last_modified(validators, int(now_s - CLOCK_LAG_S) - DATE_LAG_S)
        if modified is not None:
            fields.append((b"Last-Modified", modified))
        return private_fields(tuple(fields)) if self._is_private else tuple(fields)

    def note(self, query: Query, planned: Planned) -> None:
        """Count and log the days that were left out, and those that are unsound."""
        if planned.skipped:
            self._note_skipped(query, planned.skipped)
        if planned.unsound:
            for reason, slot in _UNSOUND.items():
                days = [day for day, what in planned.unsound if what == reason]
                self._counters[slot] += len(days)
                if days:
                    _log.warning("days_unsound", reason=reason, **_naming(query, days))

    def _note_skipped(self, query: Query, days: Sequence[int]) -> None:
        self._counters[slots.DAYS_SKIPPED] += len(days)
        reason = "a day lacks time or a requested column"
        _log.warning("days_skipped", reason=reason, **_naming(query, days))


def _naming(query: Query, days: Sequence[int]) -> dict[str, object]:
    """What a line about days names: the query, how many days, the first of them, the request."""
    return {
        "exchange": query.exchange,
        "symbol": query.symbol,
        "type": query.type,
        "columns": query.columns,
        "count": len(days),
        "days": [day_label(day) for day in days[:DAYS_LOGGED_MAX]],
        **naming(CURRENT.get()),
    }
