"""The description of the HTTP interface: OpenAPI 3.1, served as /openapi.json.

Owns what is told of paths, parameters, statuses and fields, and nothing of how they come about.
Every path has the same three methods and the same ways to fail, so an operation is composed of what
is its own and of components that all of them share.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from zerocopy import __version__
from zerocopy.core.layout import U32_MAX
from zerocopy.core.query import DEFAULT_EXCHANGE

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Json = dict[str, object]

NAME_PATTERN = r"^[A-Za-z0-9_^][A-Za-z0-9._:+@^=&#~-]{0,63}$"
"""The grammar of `core.layout.is_name`, as JSON Schema writes it (ECMA-262)."""

COLUMNS_MAX = 32
"""`[limits] columns_max` unless config.toml says otherwise."""

_DESCRIPTION = """\
Columnar market data of any time range, straight from day files. A body is one line of compact JSON
that describes it, then the raw little-endian records of one column after the other.

Every answer may be read by any origin. `HEAD` is `GET` without content; `OPTIONS` answers the CORS
preflight. A path that is not listed here is answered 404. Errors are problem documents (RFC 9457)
whose `detail` names the parameter and what would be right."""

_DATA = """\
All records with `start` <= time <= `end`, each exactly once, every column with the same number of
them. The first line of the content is `HeaderLine` (see the schemas), ended by one LF. After it
come all records of the first column, days ascending, then all of the second, with nothing between.
Record i of each column belongs to record i of `time`. Times are u32 unix seconds, prices and
volumes f32, unless the operator declared another width: `record_size` says which."""

_NO_RECORDS = "A range without records is no error: every `num_records` is 0."

_CORS = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers")
_EVERYWHERE = ("Date", "Server", *_CORS)
_FRAMED = (*_EVERYWHERE, "Content-Length", "Cache-Control")
_VALIDATORS = ("ETag", "Last-Modified")
_PREFLIGHT = (
    *_EVERYWHERE,
    "Allow",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Max-Age",
    "Vary",
)

_PROBLEMS = {
    400: "The request is malformed: a parameter, the Host field, or the framing.",
    404: "The exchange, symbol or type does not exist, or no day of the symbol has a column.",
    405: "The method is none of those in Allow.",
    414: "The request target is too long.",
    417: "The Expect field asks for something other than 100-continue.",
    431: "One field is too long, or all fields together are.",
    500: "The data directory or a day file cannot be read.",
    503: "Too many connections or requests are in flight, or the server is not ready.",
}
_PROBLEM_FIELDS = {405: ("Allow",), 503: ("Retry-After",)}
_ANY_PATH = (400, 405, 414, 417, 431, 500, 503)


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _field(description: str, example: str, **schema: object) -> Json:
    return {
        "description": description,
        "schema": {"type": "string", **schema, "examples": [example]},
    }


def _fields(names: Iterable[str]) -> Json:
    return {name: _ref("headers", name) for name in names}


def _object(properties: Json, *, optional: Sequence[str] = ()) -> Json:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _array(items: Json, **schema: object) -> Json:
    return {"type": "array", "items": items, **schema}


def _count(description: str, **schema: object) -> Json:
    return {"type": "integer", "minimum": 0, "description": description, **schema}


def _parameter(
    name: str, description: str, schema: Json, *, required: bool = True, **rest: object
) -> Json:
    return {
        "name": name,
        "in": "query",
        "required": required,
        "description": description,
        "schema": schema,
        **rest,
    }


def _name(example: str, **schema: object) -> Json:
    return {"type": "string", "pattern": NAME_PATTERN, **schema, "examples": [example]}


def _seconds(example: int) -> Json:
    return {"type": "integer", "minimum": 0, "maximum": U32_MAX, "examples": [example]}


def _response(
    description: str, fields: Iterable[str], media_type: str = "", schema: Json | None = None
) -> Json:
    response: Json = {"description": description, "headers": _fields(fields)}
    if media_type:
        response["content"] = {media_type: {} if schema is None else {"schema": schema}}
    return response


def _without_content(response: Json) -> Json:
    return {key: value for key, value in response.items() if key != "content"}


def _problem(status: int, description: str) -> Json:
    fields = (*_FRAMED, *_PROBLEM_FIELDS.get(status, ()))
    return _response(description, fields, "application/problem+json", _ref("schemas", "Problem"))


def _path_item(
    name: str,
    summary: str,
    answer: Json,
    *,
    description: str = "",
    parameters: Sequence[str] = (),
    problems: Sequence[int] = _ANY_PATH,
) -> Json:
    """GET, HEAD and OPTIONS of one path; `answer` is the 200 of GET."""
    asked: Json = {"parameters": [_ref("parameters", p) for p in parameters]} if parameters else {}
    told: Json = {"description": description} if description else {}
    return {
        "get": {
            "operationId": f"get{name}",
            "summary": summary,
            **told,
            **asked,
            "responses": {
                "200": answer,
                **{str(status): _ref("responses", f"Problem{status}") for status in problems},
            },
        },
        "head": {
            "operationId": f"head{name}",
            "summary": "The same fields without content.",
            **asked,
            "responses": {
                "200": _without_content(answer),
                **{str(status): _ref("responses", f"Head{status}") for status in problems},
            },
        },
        "options": {
            "operationId": f"options{name}",
            "summary": "The CORS preflight.",
            "responses": {
                "204": _ref("responses", "Preflight"),
                **{
                    str(status): _ref("responses", f"Problem{status}")
                    for status in problems
                    if status not in {404, 405}
                },
            },
        },
    }


def _json_answer(description: str, schema: Json) -> Json:
    return _response(description, _FRAMED, "application/json", schema)


_PATHS: Json = {
    "/api/data": _path_item(
        "Data",
        "The records of one symbol in a time range.",
        _response(
            f"The header line and the records. {_NO_RECORDS}",
            (*_FRAMED, *_VALIDATORS),
            "application/octet-stream",
        ),
        description=_DATA,
        parameters=("symbol", "type", "start", "end", "columns", "dataExchange"),
        problems=(400, 404, *_ANY_PATH[1:]),
    ),
    "/api/symbols": _path_item(
        "Symbols",
        "The symbols of each exchange, newest first, true as of the request.",
        _json_answer(
            "The symbols; an unknown exchange has none of them and is no error.",
            _ref("schemas", "Symbols"),
        ),
        parameters=("exchange",),
    ),
    "/healthz": _path_item(
        "Health", "Whether the process is alive.", _json_answer("It is.", _ref("schemas", "Alive"))
    ),
    "/readyz": _path_item(
        "Readiness",
        "Whether requests should be sent here: the data root is readable and nothing is stopping.",
        _json_answer("They should; otherwise 503.", _ref("schemas", "Ready")),
    ),
    "/openapi.json": _path_item(
        "Description", "This document.", _json_answer("OpenAPI 3.1.", {"type": "object"})
    ),
}

_PARAMETERS: Json = {
    "symbol": _parameter("symbol", "The symbol, as on disk.", _name("BTC-USD")),
    "type": _parameter("type", "The type of records, as on disk.", _name("MD")),
    "start": _parameter("start", "First unix second, inclusive.", _seconds(1_738_281_600)),
    "end": _parameter("end", "Last unix second, inclusive.", _seconds(1_738_367_999)),
    "columns": _parameter(
        "columns",
        f"Distinct columns, in the order of the answer; at most {COLUMNS_MAX} by default.",
        _array(_name("price"), minItems=1, maxItems=COLUMNS_MAX, uniqueItems=True),
        style="form",
        explode=False,
    ),
    "dataExchange": _parameter(
        "exchange",
        "The exchange, as on disk.",
        _name("kraken", default=DEFAULT_EXCHANGE),
        required=False,
    ),
    "exchange": _parameter(
        "exchange", "List only this exchange; all of them if absent.", _name("kraken"), required=False
    ),
}

_SCHEMAS: Json = {
    "HeaderLine": _object(
        {
            "columns": _array(
                _object(
                    {
                        "name": _name("time"),
                        "record_size": _count("Bytes of one record.", minimum=1),
                        "num_records": _count("Records, the same in every column."),
                        "data_length": _count("Bytes: num_records times record_size."),
                    }
                )
            ),
            "skipped": _array(
                {"type": "string", "pattern": r"^[0-9]{2}\.[0-9]{2}\.[0-9]{2}$"},
                description="Days (DD.MM.YY) left out because they lack a column that was asked.",
            ),
        },
        optional=["skipped"],
    ),
    "Symbols": _object(
        {
            "symbols": _array(_name("BTC-USD"), uniqueItems=True, description="Sorted."),
            "exchanges": {
                "type": "object",
                "propertyNames": _name("coinbase"),
                "additionalProperties": _array(_ref("schemas", "Symbol")),
            },
        }
    ),
    "Symbol": _object(
        {
            "symbol": _name("BTC-USD"),
            "last_update": {
                "type": "integer",
                "description": "Unix second of the latest change of any of its files.",
                "examples": [1_738_326_923],
            },
            "last_update_date": {"type": "string", "examples": ["2025-01-31 12:35:23 UTC"]},
        }
    ),
    "Alive": _object({"status": {"const": "alive"}}),
    "Ready": _object({"status": {"const": "ready"}}),
    "Problem": _object(
        {
            "type": {"const": "about:blank"},
            "title": {"type": "string", "examples": ["Bad Request"]},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {
                "type": "string",
                "description": "One sentence: what is wrong and what would be right.",
                "examples": ["parameter start: is missing, must be given once"],
            },
        }
    ),
}
