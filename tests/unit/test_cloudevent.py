"""Tests of CloudEvents: the JSON envelope in both directions, and refused ones, as in the specification."""

from __future__ import annotations

import copy
import datetime
import json
import pickle
from typing import Any

import pytest

from pipe_runtime.call import codec
from pipe_runtime.cloudevent import CloudEvent, EnvelopeError

UTC = datetime.timezone.utc

ENVELOPE = {
    "specversion": "1.0",
    "type": "com.example.someevent",
    "source": "/mycontext",
    "id": "C234-1234-1234",
    "time": "2018-04-05T17:31:00Z",
    "subject": None,
    "comexampleextension1": "value",
    "comexampleothervalue": 5,
    "datacontenttype": "application/json",
    "data": {"appinfoA": "abc", "appinfoB": 123},
}


def envelope(**changes: Any) -> dict[str, Any]:
    return {**ENVELOPE, **changes}


def without(*names: str) -> dict[str, Any]:
    return {name: value for name, value in ENVELOPE.items() if name not in names}


def refusal(value: object) -> str:
    with pytest.raises(EnvelopeError) as caught:
        CloudEvent.from_json(value)
    return str(caught.value)


def test_attributes_are_attributes_and_items() -> None:
    event = CloudEvent.from_json(ENVELOPE)
    assert (event.specversion, event.id, event.source) == ("1.0", "C234-1234-1234", "/mycontext")
    assert event.type == event["type"] == "com.example.someevent"
    assert event.time == event["time"] == datetime.datetime(2018, 4, 5, 17, 31, tzinfo=UTC)
    assert event.datacontenttype == "application/json"
    assert event.data == {"appinfoA": "abc", "appinfoB": 123}


def test_extensions_are_attributes_and_items() -> None:
    event = CloudEvent.from_json(ENVELOPE)
    assert event.extensions == {"comexampleextension1": "value", "comexampleothervalue": 5}
    assert event.comexampleothervalue == event["comexampleothervalue"] == 5
    assert event.get("comexampleextension1") == "value"
    with pytest.raises(AttributeError, match="the event has no attribute 'other'"):
        _ = event.other
    with pytest.raises(KeyError, match="other"):
        _ = event["other"]


def test_null_is_an_attribute_that_is_not_set() -> None:
    event = CloudEvent.from_json(envelope(unsetextension=None))
    assert event.subject is None
    assert "subject" not in event and "unsetextension" not in event and "type" in event
    assert event.get("subject", "none") == "none"
    with pytest.raises(KeyError, match="subject"):
        _ = event["subject"]
    assert list(event) == [
        "specversion",
        "id",
        "source",
        "type",
        "datacontenttype",
        "time",
        "comexampleextension1",
        "comexampleothervalue",
    ]


def test_data_in_base64_becomes_bytes_and_base64_again() -> None:
    event = CloudEvent.from_json({**without("data"), "data_base64": "AP8="})
    assert event.data == b"\x00\xff"
    assert event.to_json()["data_base64"] == "AP8="
    assert "data" not in event.to_json()


@pytest.mark.parametrize("data", ["I'm just a string", 5, False, [None], '{"not": "parsed"}'])
def test_data_is_the_json_value_itself(data: object) -> None:
    event = CloudEvent.from_json(envelope(data=data))
    assert event.data == data
    assert event.to_json()["data"] == data


def test_event_without_data_has_none() -> None:
    event = CloudEvent.from_json(without("data"))
    assert event.data is None
    assert "data" not in event.to_json()


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("2018-04-05T17:31:00Z", "2018-04-05T17:31:00Z"),
        ("2018-04-05t17:31:00z", "2018-04-05T17:31:00Z"),
        ("2018-04-05T17:31:00.5+02:00", "2018-04-05T17:31:00.500000+02:00"),
        ("2018-04-05T17:31:00.123456789Z", "2018-04-05T17:31:00.123456Z"),
    ],
)
def test_time_is_rfc_3339(text: str, written: str) -> None:
    assert CloudEvent.from_json(envelope(time=text)).to_json()["time"] == written


def test_time_may_be_a_datetime_already() -> None:
    time = datetime.datetime(2026, 1, 31, tzinfo=UTC)
    assert CloudEvent.from_json(envelope(time=time)).time == time


@pytest.mark.parametrize("time", ["yesterday", "", "2018-04-05T17:31:00", 5, datetime.datetime(2026, 1, 31)])
def test_other_time_is_refused(time: object) -> None:
    assert refusal(envelope(time=time)).startswith("time must be a date and time with a time zone")


def test_missing_attributes_are_all_named() -> None:
    assert refusal(without("id", "type")) == "a CloudEvent needs specversion, id, source, type; missing: id, type"
    assert refusal(envelope(specversion=None)).endswith("missing: specversion")


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion", "subject", "datacontenttype", "dataschema"])
@pytest.mark.parametrize("value", ["", 5, ["a"]])
def test_attribute_that_is_no_text_is_refused(name: str, value: object) -> None:
    assert refusal(envelope(**{name: value})) == f"{name} must be text that is not empty"


def test_other_version_is_refused() -> None:
    assert refusal(envelope(specversion="0.3")) == "specversion must be '1.0', got '0.3'"


@pytest.mark.parametrize("value", ["text", None, [ENVELOPE], b"{}"])
def test_what_is_no_map_is_refused(value: object) -> None:
    assert refusal(value) == f"expected a CloudEvent, got {type(value).__name__}"


@pytest.mark.parametrize("encoded", ["!", "AP8", 5, "ü", [1]])
def test_data_that_is_no_base64_is_refused(encoded: object) -> None:
    assert refusal({**without("data"), "data_base64": encoded}) == "data_base64 is not base64"


def test_both_kinds_of_data_are_refused() -> None:
    assert refusal(envelope(data_base64="AP8=")) == "data and data_base64 exclude each other"


def test_made_event_needs_source_and_type_only() -> None:
    one = CloudEvent({"source": "/me", "type": "done", "attempt": 2}, [1])
    other = CloudEvent({"source": "/me", "type": "done"})
    assert one.id != other.id and len(one.id) == 36
    assert one.to_json() == {
        "specversion": "1.0",
        "id": one.id,
        "source": "/me",
        "type": "done",
        "attempt": 2,
        "data": [1],
    }
    with pytest.raises(EnvelopeError, match="missing: source"):
        CloudEvent({"type": "done"})
    with pytest.raises(EnvelopeError, match="data is not an attribute"):
        CloudEvent({"source": "/me", "type": "done", "data": 1})


def test_changed_event_is_written_as_changed() -> None:
    event = CloudEvent.from_json(ENVELOPE)
    event.subject = "changed"
    assert event.to_json()["subject"] == "changed"
    with pytest.raises(AttributeError):
        event.sbject = "a slip of the pen"  # type: ignore[attr-defined]


def test_handler_may_return_one() -> None:
    _, payload = codec.encode_result({"event": CloudEvent.from_json(ENVELOPE)}, "application/json")
    assert json.loads(payload) == {"event": without("subject")}


def test_repr_says_which_event_it_is() -> None:
    assert repr(CloudEvent.from_json(ENVELOPE)) == (
        "<CloudEvent 'C234-1234-1234': 'com.example.someevent' from '/mycontext'>"
    )


def test_copies_are_the_same_event() -> None:
    event = CloudEvent.from_json(ENVELOPE)
    for other in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
        assert other.to_json() == event.to_json()
