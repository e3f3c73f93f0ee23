"""The description of the HTTP interface: OpenAPI 3.1, served as /openapi.json.

Owns what is told of paths, parameters, statuses and fields, and nothing of how they come about.
Every path has the same three methods and the same ways to fail, so an operation is composed of what
is its own and of components that all of them share.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from zerocopy import __version__
from zerocopy.core.bars import FORMATS as BARS_FORMATS
from zerocopy.core.http.messages import REASONS
from zerocopy.core.layout import U32_MAX
from zerocopy.core.query import DEFAULT_EXCHANGE, FORMATS, LAST_MAX, MEDIA_TYPES
from zerocopy.service.openapi.access import (
    ACCESS_HEADERS,
    ACCESS_PROBLEMS,
    OPTIONAL_SECURITY,
    SECURITY_SCHEMES,
)
from zerocopy.service.openapi.bars import BARS, BARS_PARAMETERS, BARS_SCHEMAS, COLUMNS_MAX
from zerocopy.service.openapi.catalog import CATALOG, CATALOG_PARAMETERS, CATALOG_SCHEMAS
from zerocopy.service.openapi.coding import CODED, CODING_HEADERS, CODING_PARAMETERS
from zerocopy.service.openapi.data import DATA, INTERFACE
from zerocopy.service.openapi.live import LIVE, LIVE_FIELDS, LIVE_MEDIA_TYPE, LIVE_PARAMETERS
from zerocopy.service.openapi.problems import PROBLEMS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Json = dict[str, object]

NAME_PATTERN = r"^[A-Za-z0-9_^][A-Za-z0-9._:+@^=&#~-]{0,63}$"
"""The grammar of `core.layout.is_name`, as JSON Schema writes it (ECMA-262)."""

DTYPE_PATTERN = r"^(<([ui][248]|f[48])|\|([ui]1|S[1-9][0-9]{0,2}))$"
"""Every `core.layout.Dtype.name`."""

_ANY_RESPONSE = ("Date", "Server", "Access-Control-Allow-Origin", "Access-Control-Expose-Headers")
_WITH_CONTENT = (*_ANY_RESPONSE, "Content-Length", "Cache-Control")
_OF_VALIDATED = (*_WITH_CONTENT, "ETag", "Last-Modified", "Accept-Ranges", *CODED)
_OF_DATA = (*_OF_VALIDATED, "Content-Disposition")
_PREFLIGHT = (
    *_ANY_RESPONSE,
    "Allow",
    "Access-Control-Allow-Methods",
    "Access-Control-Allow-Headers",
    "Access-Control-Max-Age",
    "Vary",
)

_ANY_METHOD = (400, 414, 417, 431, 500, 501, 503, 505)


def _ref(kind: str, name: str) -> Json:
    return {"$ref": f"#/components/{kind}/{name}"}


def _text(example: str, description: str = "", **schema: object) -> Json:
    described: Json = {"description": description} if description else {}
    return {"type": "string", **described, **schema, "examples": [example]}


def _name(example: str, **schema: object) -> Json:
    return _text(example, "", pattern=NAME_PATTERN, **schema)


def _integer(description: str, minimum: int = 0, **schema: object) -> Json:
    return {"type": "integer", "description": description, "minimum": minimum, **schema}


def _array(items: Json, **schema: object) -> Json:
    return {"type": "array", "items": items, **schema}


def _object(properties: Json, *, optional: Sequence[str] = ()) -> Json:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


def _parameter(name: str, description: str, schema: Json, **rest: object) -> Json:
    parameter = {"name": name, "in": "query", "required": True, "description": description}
    return {**parameter, "schema": schema, **rest}


def _header(description: str, example: str) -> Json:
    return {"description": description, "schema": _text(example)}


def _response(
    description: str, fields: Iterable[str], media_type: str, schema: Json | None = None
) -> Json:
    headers = {name: _ref("headers", name) for name in fields}
    content = {media_type: {} if schema is None else {"schema": schema}}
    return {"description": description, "headers": headers, "content": content}


def _in_any_format(response: Json, formats: Sequence[str] = FORMATS) -> Json:
    return {**response, "content": {MEDIA_TYPES[name]: {} for name in formats}}


def _without_content(response: Json) -> Json:
    return {key: value for key, value in response.items() if key != "content"}


def _json(description: str, schema: Json, more: Iterable[str] = CODED) -> Json:
    return _response(description, (*_WITH_CONTENT, "ETag", *more), "application/json", schema)


def _problem(status: int) -> Json:
    description, fields = PROBLEMS[status]
    media_type, schema = "application/problem+json", _ref("schemas", "Problem")
    return _response(description, (*_WITH_CONTENT, *fields), media_type, schema)


def _responses(
    status: int, answer: Json, problems: Iterable[int], component: str = "Problem"
) -> Json:
    errors = {str(code): _ref("responses", f"{component}{code}") for code in sorted(problems)}
    return {str(status): answer, **errors}


_UNCHANGED: Json = {"304": _ref("responses", "Unchanged")}


def _path_item(
    name: str,
    summary: str,
    answer: Json,
    *,
    parameters: Iterable[str] = (),
    problems: Sequence[int] = (405,),
    others: Json | None = None,
    is_open: bool = False,
    **told: str,
) -> Json:
    """GET, HEAD and OPTIONS of one path; `answer` is what GET gives with 200, or `others`."""
    asked: Json = {"parameters": [_ref("parameters", parameter) for parameter in parameters]}
    asked |= {"security": []} if is_open else {}
    problems = (*_ANY_METHOD, 412, *problems, *(() if is_open else ACCESS_PROBLEMS))
    return {
        "get": {
            "operationId": f"get{name}",
            "summary": summary,
            **told,
            **asked,
            "responses": _responses(200, answer, problems) | _UNCHANGED | (others or {}),
        },
        "head": {
            "operationId": f"head{name}",
            "summary": "The same fields without content.",
            **asked,
            "responses": _responses(200, _without_content(answer), problems, "Head") | _UNCHANGED,
        },
        "options": {
            "operationId": f"options{name}",
            "summary": "The CORS preflight.",
            "security": [],
            "responses": _responses(204, _ref("responses", "Preflight"), _ANY_METHOD),
        },
    }


_PATHS: Json = {
    "/api/data": _path_item(
        "Data",
        "The records of one symbol in a time range.",
        _in_any_format(
            _response(
                "The records; in the format `columns` the header line before them.", _OF_DATA, ""
            )
        ),
        others={"206": _ref("responses", "Part")},
        description=DATA,
        parameters=(
            *("symbol", "type", "start", "end", "columns", "exchange", "format", "compress"),
            "last",
        ),
        problems=(404, 405, 416),
    ),
    "/api/bars": _path_item(
        "Bars",
        "Open, high, low, close, sum, mean and count of any interval.",
        _in_any_format(
            _response(
                "The bars; in the format `columns` the header line before them.", _OF_DATA, ""
            ),
            BARS_FORMATS,
        ),
        others={"206": _ref("responses", "Part")},
        description=BARS,
        parameters=(
            *("symbol", "type", "start", "end", "outputs", "exchange"),
            *("interval", "maxPoints", "barsFormat", "compress"),
        ),
        problems=(404, 405, 416),
    ),
    "/api/live": _path_item(
        "Live",
        "What is appended, as it is appended: server-sent events, or a WebSocket.",
        _response("Events, without end.", (*_ANY_RESPONSE, *LIVE_FIELDS), LIVE_MEDIA_TYPE),
        description=LIVE,
        parameters=("symbol", "type", "columns", "exchange", "from", "liveStart", "maxRate"),
        problems=(404, 405, 426),
    ),
    "/api/catalog": _path_item(
        "Catalog",
        "What a symbol has: types, columns, days.",
        _json("The types that have day files.", _ref("schemas", "Catalog")),
        description=CATALOG,
        parameters=("symbol", "exchange", "listedType"),
        problems=(404, 405),
    ),
    "/api/symbols": _path_item(
        "Symbols",
        "The symbols of each exchange, newest first, true as of the request.",
        _json("An exchange that does not exist has no symbols.", _ref("schemas", "Symbols")),
        parameters=("listedExchange",),
    ),
    "/healthz": _path_item(
        "Health",
        "Whether the process is alive.",
        _json("It is.", _ref("schemas", "Alive"), ()),
        is_open=True,
    ),
    "/readyz": _path_item(
        "Readiness",
        "Whether requests should come here: the data can be read and the server is not stopping.",
        _json("They should; else the answer is 503.", _ref("schemas", "Ready"), ()),
        is_open=True,
    ),
    "/openapi.json": _path_item(
        "Description", "This document.", _json("OpenAPI 3.1.", {"type": "object"})
    ),
}

_PART: Json = {
    **_response(
        "What the Range field asked for: one range, or several as multipart/byteranges.",
        (*_OF_VALIDATED, "Content-Range"),
        "",
    ),
    "content": {media_type: {} for media_type in (*MEDIA_TYPES.values(), "multipart/byteranges")},
}

_PARAMETERS: Json = {
    **BARS_PARAMETERS,
    **CATALOG_PARAMETERS,
    **CODING_PARAMETERS,
    **LIVE_PARAMETERS,
    "symbol": _parameter("symbol", "As on disk.", _name("BTC-USD")),
    "type": _parameter("type", "As on disk.", _name("MD")),
    "start": _parameter("start", "Inclusive.", _integer("Unix seconds.", maximum=U32_MAX)),
    "end": _parameter("end", "Inclusive.", _integer("Unix seconds.", maximum=U32_MAX)),
    "columns": _parameter(
        "columns",
        f"Distinct names, in the order of the answer; at most {COLUMNS_MAX} by default.",
        _array(_name("price"), minItems=1, maxItems=COLUMNS_MAX, uniqueItems=True),
        style="form",
        explode=False,
    ),
    "exchange": _parameter(
        "exchange", "As on disk.", _name("kraken", default=DEFAULT_EXCHANGE), required=False
    ),
    "format": _parameter(
        "format",
        "The shape of the answer.",
        _text(FORMATS[0], "", enum=list(FORMATS), default=FORMATS[0]),
        required=False,
    ),
    "last": _parameter(
        "last",
        "Only so many records from the end of the range; 1 is the newest.",
        _integer("Records of each column.", minimum=1, maximum=LAST_MAX),
        required=False,
    ),
    "listedExchange": _parameter(
        "exchange", "List this one only, else all.", _name("kraken"), required=False
    ),
}

_HEADERS: Json = {
    **ACCESS_HEADERS,
    **CODING_HEADERS,
    "Date": _header("When the answer was sent.", "Fri, 31 Jan 2025 12:35:23 GMT"),
    "Server": _header("Always the same.", "zerocopy"),
    "Content-Length": _header("Bytes of the content; exact.", "8127"),
    "Cache-Control": _header(
        "Data of closed days may be kept for a while, other answers are asked for again, problems "
        "are not stored.",
        "public, max-age=3600, no-transform",
    ),
    "ETag": _header("Strong; equal on replicas.", '"539873d3417f9a0abedf2ba4bfcf808d"'),
    "Last-Modified": _header(
        "The newest file of the answer; absent without files.", "Fri, 31 Jan 2025 12:35:23 GMT"
    ),
    "Accept-Ranges": _header("Any part may be asked for.", "bytes"),
    "Content-Disposition": _header(
        "A name for a file; absent in the format `columns`.", 'attachment; filename="a.arrows"'
    ),
    "Content-Range": _header("Which bytes of how many; 416 tells only that.", "bytes 0-99/8127"),
    "Allow": _header("The methods of every path.", "GET, HEAD, OPTIONS"),
    "Upgrade": _header("What the server would speak instead.", "websocket"),
    "Sec-WebSocket-Version": _header("The version it knows.", "13"),
    "Retry-After": _header("Seconds to wait.", "1"),
    "X-Accel-Buffering": _header("A proxy is to pass each event on at once.", "no"),
    "Access-Control-Allow-Origin": _header("Any origin may read.", "*"),
    "Access-Control-Expose-Headers": _header("Fields that scripts may read.", "ETag, Retry-After"),
    "Access-Control-Allow-Methods": _header("As Allow.", "GET, HEAD, OPTIONS"),
    "Access-Control-Allow-Headers": _header("What the browser asked for, if it did.", "range"),
    "Access-Control-Max-Age": _header("Seconds the preflight holds.", "86400"),
}

_SCHEMAS: Json = {
    **BARS_SCHEMAS,
    **CATALOG_SCHEMAS,
    "HeaderLine": _object(
        {
            "columns": _array(_ref("schemas", "Column")),
            "skipped": _array(
                _text("02.06.25", "A day, DD.MM.YY, left out because it lacks a column.")
            ),
        },
        optional=["skipped"],
    ),
    "Column": _object(
        {
            "name": _name("time"),
            "record_size": _integer("Bytes of one record.", minimum=1),
            "num_records": _integer("The same in every column."),
            "data_length": _integer("Bytes: num_records times record_size."),
            "dtype": _text("<u4", "What a record is, as numpy spells it.", pattern=DTYPE_PATTERN),
        }
    ),
    "Symbols": _object(
        {
            "symbols": _array(_name("BTC-USD"), uniqueItems=True, description="Sorted."),
            "exchanges": {
                "type": "object",
                "additionalProperties": _array(_ref("schemas", "Symbol")),
            },
        }
    ),
    "Symbol": _object(
        {
            "symbol": _name("BTC-USD"),
            "last_update": _integer("Unix second of the latest change of any of its files."),
            "last_update_date": _text("2025-01-31 12:35:23 UTC"),
        }
    ),
    "Alive": _object({"status": {"const": "alive"}}),
    "Ready": _object({"status": {"const": "ready"}}),
    "Problem": _object(
        {
            "type": {"const": "about:blank"},
            "title": _text("Bad Request", enum=[REASONS[status] for status in PROBLEMS]),
            "status": _integer("The status code.", enum=list(PROBLEMS)),
            "detail": _text("parameter start: is missing, must be given once"),
        }
    ),
}

OPENAPI: dict[str, object] = {
    "openapi": "3.1.0",
    "info": {"title": "zerocopy", "version": __version__, "description": INTERFACE},
    "security": OPTIONAL_SECURITY,
    "paths": _PATHS,
    "components": {
        "securitySchemes": SECURITY_SCHEMES,
        "parameters": _PARAMETERS,
        "headers": _HEADERS,
        "responses": {
            "Preflight": _without_content(_response("Any field may be sent.", _PREFLIGHT, "")),
            "Unchanged": _without_content(
                _response(
                    "What the client has is still true.",
                    (*_ANY_RESPONSE, "Cache-Control", "ETag", "Vary"),
                    "",
                )
            ),
            "Part": _PART,
            **{f"Problem{status}": _problem(status) for status in PROBLEMS},
            **{f"Head{status}": _without_content(_problem(status)) for status in PROBLEMS},
        },
        "schemas": _SCHEMAS,
    },
}
"""The whole document, ready for JSON."""
