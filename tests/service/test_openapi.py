"""/openapi.json: a valid document that says neither less nor more than the service does."""

from __future__ import annotations

import asyncio
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, cast

import orjson
import pytest

from tests.server import write_column
from tests.table import each
from zerocopy import __version__
from zerocopy.config import load as config
from zerocopy.core import errors
from zerocopy.core.counters import SLOTS
from zerocopy.core.endpoints import OPEN, endpoint_of
from zerocopy.core.http.messages import Request, Response
from zerocopy.core.layout import U32_MAX, is_name, parse_dtype
from zerocopy.core.query import parse_query
from zerocopy.service.openapi.access import SECURITY
from zerocopy.service.openapi.bars import COLUMNS_MAX
from zerocopy.service.openapi.document import DTYPE_PATTERN, NAME_PATTERN, OPENAPI
from zerocopy.service.problems import ALLOWED_METHODS
from zerocopy.supervise.compose import build_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from openapi_schema_validator import OAS31Validator

    from zerocopy.service.service import Service

DOCUMENT = cast("dict[str, Any]", OPENAPI)
PATHS: dict[str, Any] = DOCUMENT["paths"]
DATA = "/api/data?symbol=X&type=MD&start=0&end=86399&columns=time,price"
BY_TRANSPORT = {"Date", "Server", "Content-Length"}
SOMETIMES = {
    "Access-Control-Allow-Headers",  # only where a preflight asks for some
    "Content-Disposition",  # of every format but one
    "Content-Encoding",  # where the client takes one
    "Vary",  # where another client may get another coding
}

BARS = DATA.replace("data", "bars").replace("time,price", "price:ohlc,time:count")
GOOD = {
    "/api/data": DATA,
    "/api/bars": BARS,
    "/api/catalog": "/api/catalog?symbol=X",
    "/api/live": "/api/live?symbol=X&type=MD&columns=time,price",
    "/api/symbols": "/api/symbols?exchange=coinbase",
    "/healthz": "/healthz",
    "/readyz": "/readyz",
    "/openapi.json": "/openapi.json",
}
FAULTS = [
    ("GET", "/api/data", 400),
    ("HEAD", "/api/data?symbol=X", 400),
    ("GET", DATA.replace("symbol=X", "symbol=Y"), 404),
    ("GET", DATA.replace("price", "volume"), 404),
    ("POST", DATA, 405),
    ("GET", "/api/bars", 400),
    ("GET", "/api/catalog", 400),
    ("GET", "/api/catalog?symbol=Y", 404),
    ("GET", "/api/live?symbol=X&type=MD", 400),
    ("GET", "/api/live?symbol=Y&type=MD&columns=time", 404),
    ("GET", BARS + "&interval=0", 400),
    ("GET", BARS.replace("symbol=X", "symbol=Y"), 404),
    ("GET", "/api/symbols?exchange=a/b", 400),
    ("DELETE", "/healthz", 405),
]


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Return what a `$ref` points at, or the node itself."""
    if "$ref" not in node:
        return node
    kind, name = node["$ref"].removeprefix("#/components/").split("/")
    found: dict[str, Any] = DOCUMENT["components"][kind][name]
    return found


def references(node: object) -> Iterator[str]:
    """Yield every `$ref` below a node."""
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        for child in node.values():
            yield from references(child)
    elif isinstance(node, list):
        for child in node:
            yield from references(child)


def described(path: str, method: str, status: int) -> dict[str, Any]:
    """Return the response that the document gives for these."""
    operation = PATHS[path][method.lower()]
    return resolved(operation["responses"][str(status)])


def validator_of(schema: dict[str, Any]) -> OAS31Validator:
    """What judges a value by a schema; its import is half a second of each process of tests."""
    from openapi_schema_validator import OAS31Validator  # noqa: PLC0415

    return OAS31Validator(schema)


def check_schema(schema: dict[str, Any], content: bytes) -> None:
    """Fail unless content is JSON of that schema."""
    whole = {**schema, "components": DOCUMENT["components"]}
    validator_of(whole).validate(orjson.loads(content))


def check_response(response: Response, description: dict[str, Any]) -> None:
    """Fail unless fields and content are those described, no fewer and no more."""
    fields = {name.decode() for name, _ in response.fields}
    assert len(fields) == len(response.fields)
    told = set(description["headers"]) - BY_TRANSPORT
    assert fields - {"Content-Type", "Connection"} <= told
    assert told - fields <= SOMETIMES
    if "content" in description:
        content = description["content"][dict(response.fields)[b"Content-Type"].decode()]
        if "schema" in content:
            check_schema(content["schema"], response.content)


@pytest.fixture(name="service")
def fixture_service(tmp_path: Path) -> Iterator[Service]:
    """Yield a service over one symbol with one day of three records."""
    write_column(f"{tmp_path}/coinbase/X/MD/time.01.01.70.bin", [1, 2, 3], "I")
    write_column(f"{tmp_path}/coinbase/X/MD/price.01.01.70.bin", [1.0, 2.0, 3.0], "f")
    settings = config.load(os.devnull, environ={"DATA_PATH": str(tmp_path)})
    with ThreadPoolExecutor(1) as executor:
        yield build_service(settings, [0] * len(SLOTS), executor)


def ask(service: Service, method: str, target: str) -> Response:
    """Return the service's response."""
    request = Request(method.encode(), target.encode(), ())
    return asyncio.run(service.respond(request))


def test_document_is_valid_openapi() -> None:
    """The official schema of 3.1, checked by openapi-spec-validator."""
    from openapi_spec_validator import validate  # noqa: PLC0415 - see `validator_of`

    validate(DOCUMENT)
    assert DOCUMENT["openapi"].startswith("3.1")
    assert DOCUMENT["info"]["version"] == __version__


def test_document_survives_json() -> None:
    """What is served is what is described here: no tuples, no bytes, no numbers for keys."""
    assert orjson.loads(orjson.dumps(OPENAPI)) == OPENAPI


def test_every_component_is_used_and_every_reference_leads_somewhere() -> None:
    """Only the header lines are named in prose: their media type is not JSON."""
    used = set(references(DOCUMENT))
    defined = {
        f"#/components/{kind}/{name}"
        for kind, components in DOCUMENT["components"].items()
        for name in components
    }
    used |= {f"#/components/securitySchemes/{name}" for each in SECURITY for name in each}
    assert used <= defined
    assert defined - used == {
        "#/components/schemas/HeaderLine",
        "#/components/schemas/BarsHeaderLine",
    }
    assert "`HeaderLine`" in PATHS["/api/data"]["get"]["description"]


def test_every_routed_path_is_described_and_every_described_path_is_routed(
    service: Service,
) -> None:
    """The service's own table of endpoints against the document's."""
    routed = service._endpoints.keys() - service._page.keys()
    assert {path.decode() for path in routed} == set(PATHS) == set(GOOD)


def test_every_path_has_the_methods_that_are_allowed() -> None:
    """GET, HEAD and OPTIONS, as Allow says, each with a name of its own."""
    allowed = ALLOWED_METHODS.decode().lower().split(", ")
    for item in PATHS.values():
        assert list(item) == allowed
    names = [operation["operationId"] for item in PATHS.values() for operation in item.values()]
    assert len(set(names)) == len(names)


@each("path", GOOD)
@each(("method", "status"), [("GET", 200), ("HEAD", 200), ("OPTIONS", 204)])
def test_answer_is_as_described(service: Service, path: str, method: str, status: int) -> None:
    """Status, fields and content of what the service really gives for each path and method."""
    response = ask(service, method, GOOD[path])
    assert response.status == status
    check_response(response, described(path, method, status))


@each(("method", "target", "status"), FAULTS)
def test_refusal_is_as_described(service: Service, method: str, target: str, status: int) -> None:
    """Faults of a request are problem documents with the fields described."""
    response = ask(service, method, target)
    assert response.status == status
    told = method if method == "HEAD" else "GET"
    check_response(response, described(target.partition("?")[0], told, status))


@pytest.mark.parametrize("path", GOOD)
def test_every_error_of_the_package_is_described(service: Service, path: str) -> None:
    """Whatever the service or a transport may raise at a client; 404 where things have names."""
    limit = {"policy": "requests", "quota": 1, "window_s": 1, "retry_s": 1}
    raised = {
        error.status: error("said", **(limit if error is errors.LimitedError else {}))
        for error in vars(errors).values()
        if isinstance(error, type) and issubclass(error, errors.ZerocopyError)
    }
    is_data = path in {"/api/data", "/api/bars"}
    others = {206} if is_data else set()
    if not is_data:
        del raised[416]
    if not is_data and path not in {"/api/catalog", "/api/live"}:
        del raised[404]
    if path != "/api/live":
        del raised[426]
    if endpoint_of(path.encode()) in OPEN:
        del raised[401], raised[429]
    statuses = {int(status) for status in PATHS[path]["get"]["responses"]}
    assert statuses == {200, 304, *others, *raised}
    for status, error in raised.items():
        check_response(service.refuse(error), described(path, "GET", status))
        assert "content" not in described(path, "HEAD", status)


def test_header_line_of_an_answer_matches_its_schema(service: Service) -> None:
    """The first line of real content, with and without skipped days."""
    schema = {"$ref": "#/components/schemas/HeaderLine"}
    content = ask(service, "GET", DATA).content
    check_schema(schema, content.partition(b"\n")[0])
    check_schema(schema, b'{"columns":[],"skipped":["02.06.25"]}')
    with pytest.raises(Exception, match="required"):
        check_schema(schema, b"{}")


def test_parameters_are_those_of_the_query() -> None:
    """The parser demands the ones that are required, and takes the examples of the document."""
    parameters = [resolved(p) for p in PATHS["/api/data"]["get"]["parameters"]]
    names = {parameter["name"]: parameter for parameter in parameters}
    assert names.keys() == {
        "symbol",
        "type",
        "start",
        "end",
        "columns",
        "exchange",
        "format",
        "compress",
        "last",
    }
    values = {"start": "1", "end": "2", "columns": "price"}
    values |= {
        name: parameter["schema"]["examples"][0]
        for name, parameter in names.items()
        if parameter["schema"]["type"] == "string"
    }
    for name, parameter in names.items():
        others = "&".join(f"{key}={value}" for key, value in values.items() if key != name)
        if parameter["required"]:
            with pytest.raises(errors.BadRequestError, match=f"parameter {name}: is missing"):
                parse_query(others.encode(), columns_max=1)
        else:
            query = parse_query(others.encode(), columns_max=1)
            assert (getattr(query, name) or None) == parameter["schema"].get("default")


def test_bounds_of_the_parameters_are_those_of_the_query() -> None:
    """Seconds are u32; columns are as many as the shipped configuration allows."""
    parameters = DOCUMENT["components"]["parameters"]
    for name in ("start", "end"):
        schema = parameters[name]["schema"]
        assert (schema["minimum"], schema["maximum"]) == (0, U32_MAX)
    settings = config.load(os.devnull, environ={})
    assert settings.limits.columns_max == COLUMNS_MAX
    columns = parameters["columns"]["schema"]
    assert (columns["minItems"], columns["maxItems"]) == (1, COLUMNS_MAX)


@each("name", ["BTC-USD", "^GSPC", "a" * 64, "a" * 65, "", ".", "-a", "a/b", "a b", "a.:+@=&#~-_^"])
def test_name_pattern_agrees_with_the_grammar_of_names(name: str) -> None:
    """The pattern is written twice, for two languages; both must mean the same."""
    validator = validator_of({"type": "string", "pattern": NAME_PATTERN})
    assert validator.is_valid(name) == is_name(name)


def test_dtype_pattern_is_of_all_dtypes_and_no_others() -> None:
    """Every dtype that can be declared, as the header line spells it."""
    validator = validator_of({"type": "string", "pattern": DTYPE_PATTERN})
    numbers = ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f4", "f8"]
    for text in [*numbers, *(f"S{size}" for size in range(1, 256))]:
        assert validator.is_valid(parse_dtype("x", text).name)
    for wrong in ("u4", ">u4", "<u1", "|u4", "<S4", "<f2", "|S0", "<u4 ", ""):
        assert not validator.is_valid(wrong)
