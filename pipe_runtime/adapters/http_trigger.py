"""Turn an HTTP request into an event, and a result into an HTTP answer, as a platform's HTTP trigger does.

For Lambda, events and answers have the format of function URLs and HTTP APIs (payload version 2.0). For Function
Compute, they have the format of HTTP triggers (version v1). The runtime loads this module only for such a request. This
module must know neither frames nor how the handler is called.
"""

from __future__ import annotations

from ..call import codec
from ..namespace import late
from ..wire.errors import Fault
from ..wire.messages import ANY, JSON

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ..call.context import Context

    Http = dict[str, Any]

LAMBDA, FC = "lambda", "fc"
PLATFORMS = (LAMBDA, FC)


def event_of(platform: str, request: Mapping[str, Any], body: bytes, context: Context) -> object:
    """Return the event for an HTTP request: a dict for Lambda, bytes of JSON for Function Compute.

    Args:
        platform: One of PLATFORMS.
        request: INVOKE's metadata, with `http`.
        body: The whole body.
        context: The request's context.

    Raises:
        Fault: Runtime.UnmarshalError, if the `http` map is not valid.
    """
    try:
        if platform == LAMBDA:
            return _lambda_event(request["http"], body, context)
        event = _fc_event(request["http"], body, context)
    except (AttributeError, TypeError, ValueError) as error:
        raise Fault("Runtime.UnmarshalError", f"Unable to unmarshal input: the http map: {error}") from None
    encoded: str = late.json.dumps(event, ensure_ascii=False)
    return encoded.encode("utf-8", "surrogatepass")


def answer_of(platform: str, value: object) -> tuple[bytes, str, Http]:
    """Turn a handler's result into an HTTP answer. Return its body, its content type and its `http` map.

    If the result has a `statusCode`, it describes the answer. Any other result becomes the body of an answer with
    status 200.

    Raises:
        Fault: Runtime.MarshalError, if the result cannot be encoded, or has a `statusCode` but is not a valid answer.
    """
    _, payload = codec.encode_result(value, JSON if platform == LAMBDA else ANY)
    try:
        result = late.json.loads(payload)
    except (ValueError, RecursionError):
        result = None  # the payload is not JSON: bytes or a text, which Function Compute also searches for an answer
    if isinstance(result, dict) and "statusCode" in result:
        return _given_answer(result)
    if platform == LAMBDA and isinstance(result, str):
        payload = result.encode("utf-8", "backslashreplace")
    return payload, JSON, {"status": 200, "headers": [["content-type", JSON]]}


# Events


def _lambda_event(http: Http, body: bytes, context: Context) -> dict[str, object]:
    headers = _joined((name.lower(), _utf8(value)) for name, value in http.get("headers", ()))
    query = http.get("query", "")
    now = late.datetime.datetime.now(late.datetime.timezone.utc)
    text, is_base64 = _text(body)
    event: dict[str, object] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": _path(http),
        "rawQueryString": query,
        "headers": headers,
        "requestContext": {
            "accountId": context.account_id,
            "apiId": "local",
            **_about(http, headers, context),
            "routeKey": "$default",
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        "isBase64Encoded": is_base64,
    }
    if query:
        event["queryStringParameters"] = _parameters(query)
    if "cookie" in headers:
        event["cookies"] = [cookie.strip() for cookie in headers["cookie"].split(";")]
    if body:
        event["body"] = text
    return event


def _fc_event(http: Http, body: bytes, context: Context) -> dict[str, object]:
    headers = _joined((name, _utf8(value)) for name, value in http.get("headers", ()))
    lower = {name.lower(): value for name, value in headers.items()}
    now = late.datetime.datetime.now(late.datetime.timezone.utc)
    text, is_base64 = _text(body)
    return {
        "version": "v1",
        "rawPath": http.get("path") or "/",
        "body": text,
        "isBase64Encoded": is_base64,
        "headers": headers,
        "queryParameters": _parameters(http.get("query", "")),
        "requestContext": {
            "accountId": context.account_id,
            **_about(http, lower, context),
            "time": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "timeEpoch": str(int(now.timestamp() * 1000)),
        },
    }


def _about(http: Http, headers: Mapping[str, str], context: Context) -> dict[str, object]:
    """Return the fields of `requestContext` that both platforms have."""
    client = http.get("client") or ["127.0.0.1", 0]
    host = headers.get("host", "localhost")
    return {
        "domainName": host,
        "domainPrefix": host.partition(".")[0],
        "http": {
            "method": http.get("method", "GET"),
            "protocol": "HTTP/" + http.get("version", "1.1"),
            "sourceIp": str(client[0]),
            "userAgent": headers.get("user-agent", ""),
            "path": _path(http),
        },
        "requestId": context.request_id,
    }


def _joined(pairs: Any) -> dict[str, str]:
    """Return headers or parameters as a dict. Join the values of the same name with commas."""
    found: dict[str, str] = {}
    for name, value in pairs:
        found[name] = f"{found[name]},{value}" if name in found else value
    return found


def _utf8(value: str) -> str:
    """Decode a header's value as UTF-8. Each character of the value stands for one byte."""
    return value.encode("latin-1", "replace").decode("utf-8", "replace")


def _parameters(query: str) -> dict[str, str]:
    return _joined(late.urllib_parse.parse_qsl(query, keep_blank_values=True))


def _path(http: Http) -> str:
    path: str = http.get("path") or "/"
    return late.urllib_parse.unquote(path) if "%" in path else path


def _text(body: bytes) -> tuple[str, bool]:
    """Return a body as text, and whether the text is base64 because the body is not UTF-8."""
    try:
        return body.decode(), False
    except UnicodeDecodeError:
        return late.binascii.b2a_base64(body, newline=False).decode(), True


# Answers


def _given_answer(result: dict[str, Any]) -> tuple[bytes, str, Http]:
    status = result["statusCode"]
    if isinstance(status, str) and status.isascii() and status.isdigit():
        status = int(status)
    if type(status) is not int or not 100 <= status <= 999:
        raise _fault("its statusCode is not a number of three digits")
    headers = [[name, value] for name, value in _headers(result)]
    known = [value for name, value in headers if name.lower() == "content-type"]
    if not known:
        headers.append(["content-type", JSON])
    return _body(result), known[0] if known else JSON, {"status": status, "headers": headers}


def _headers(result: dict[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    repeated = result.get("multiValueHeaders") or {}
    single, cookies = result.get("headers") or {}, result.get("cookies") or []
    if not (isinstance(repeated, dict) and isinstance(single, dict) and isinstance(cookies, list)):
        raise _fault("its headers and multiValueHeaders have to be objects, its cookies an array")
    taken = {name.lower() for name in repeated}
    for name, value in single.items():
        if name.lower() not in taken:
            found.append((name, _header(name, value)))
    for name, values in repeated.items():
        found += ((name, _header(name, value)) for value in (values if isinstance(values, list) else [values]))
    found += (("set-cookie", _header("set-cookie", cookie)) for cookie in cookies)
    return found


def _header(name: str, value: object) -> str:
    """Return a header's value as text in UTF-8, with one character for each byte."""
    if isinstance(value, (dict, list)) or value is None:
        raise _fault(f"its header {name[:64]!r} is not a text")
    text = value if isinstance(value, str) else str(value).lower() if isinstance(value, bool) else str(value)
    return text.encode("utf-8", "replace").decode("latin-1")


def _body(result: dict[str, Any]) -> bytes:
    body = result.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise _fault("its body is not a text; json.dumps makes one of an object")
    if not result.get("isBase64Encoded"):
        return body.encode("utf-8", "backslashreplace")
    try:
        decoded: bytes = late.binascii.a2b_base64(body)
    except ValueError:
        raise _fault("its isBase64Encoded is true, and its body is not base64") from None
    return decoded


def _fault(why: str) -> Fault:
    return Fault("Runtime.MarshalError", f"Unable to marshal response: the HTTP answer: {why}")
