"""Tests of the values that describe the function: which source decides, and that context and variables always agree."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import hypothesis
import hypothesis.strategies as st
import pytest

from pipe_init.cli.function import identity as identities
from pipe_init.cli.function.aws_region import MAX_SOURCES, mentions_aws, region_of_profile
from pipe_init.cli.function.context_file import traceparent
from pipe_init.cli.function.identity import Identity
from pipe_init.cli.options.run_options import FC, LAMBDA, NONE, RunOptions
from pipe_runtime.call import context
from pipe_runtime.call.context import Context
from pipe_runtime.call.platforms import fc_headers, xray


def asked(
    kind: str = LAMBDA,
    spelled_out: bool = False,
    name: str | None = None,
    region: str | None = None,
    memory_mb: int | None = None,
    **more: Any,
) -> Identity:
    """Return the identity of a function for a command line with these options and this environment."""
    platform = kind if spelled_out or kind != LAMBDA else None
    options = RunOptions("index.handler", platform=platform, name=name, region=region, memory=memory_mb)
    return Identity(options, "/code", "/runtime", **more)


def environment_of(asked: Identity) -> dict[str, str]:
    """Return the variables that the function finds."""
    return {**asked.inherited, **asked.variables, **asked.given}


def context_of(identity: Identity) -> Context:
    function = {**identity.function, "timeout_ms": 3000}
    return Context({"request_id": "r-1"}, function, "index.handler", print)


def said_by_lambda(shown: Context) -> dict[str, str]:
    """Return the values of a context, under the names of the variables with the same meaning."""
    return {
        "AWS_REGION": shown.region,
        "AWS_DEFAULT_REGION": shown.region,
        "AWS_LAMBDA_FUNCTION_NAME": shown.function_name,
        "AWS_LAMBDA_FUNCTION_VERSION": shown.function_version,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": shown.memory_limit_in_mb,
        "AWS_LAMBDA_LOG_GROUP_NAME": shown.log_group_name,
        "AWS_LAMBDA_LOG_STREAM_NAME": shown.log_stream_name,
        "_HANDLER": shown.function.handler,
    }


def said_by_fc(shown: Context) -> dict[str, str]:
    return {
        "FC_REGION": shown.region,
        "FC_ACCOUNT_ID": shown.account_id,
        "FC_FUNCTION_NAME": shown.function.name,
        "FC_FUNCTION_HANDLER": shown.function.handler,
        "FC_FUNCTION_MEMORY_SIZE": str(shown.function.memory),
        "FC_SERVICE_NAME": shown.service.name,
        "FC_QUALIFIER": shown.service.qualifier,
        "FC_VER_ID": shown.service.version_id,
    }


SAYS = {LAMBDA: said_by_lambda, FC: said_by_fc}


class TestDefaults:
    def test_lambda(self) -> None:
        assert asked(day="2026/01/31", unique="0f" * 16, machine_mb=512).variables == {
            "AWS_LAMBDA_FUNCTION_NAME": "function",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/function",
            "AWS_LAMBDA_LOG_STREAM_NAME": "2026/01/31/[$LATEST]" + "0f" * 16,
            "LAMBDA_TASK_ROOT": "/code",
            "LAMBDA_RUNTIME_DIR": "/runtime",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
            "_HANDLER": "index.handler",
        }

    def test_lambda_spelled_out_has_lambdas_time_zone_too(self) -> None:
        assert asked(spelled_out=True).variables["TZ"] == ":UTC"
        assert "TZ" not in asked(spelled_out=True, given={"TZ": "Asia/Tokyo"}).variables
        assert "TZ" not in asked(spelled_out=True, inherited={"TZ": "Asia/Tokyo"}).variables

    def test_fc(self) -> None:
        assert asked(FC, unique="7", machine_mb=512).variables == {
            "FC_FUNCTION_NAME": "function",
            "FC_REGION": "cn-hangzhou",
            "FC_FUNCTION_MEMORY_SIZE": "512",
            "FC_ACCOUNT_ID": "000000000000",
            "FC_SERVICE_NAME": "",
            "FC_QUALIFIER": "LATEST",
            "FC_VER_ID": "LATEST",
            "FC_FUNC_CODE_PATH": "/code",
            "FC_INSTANCE_ID": "c-7",
            "FC_RUNTIME_VERSION": "pipe-init",
            "FC_FUNCTION_HANDLER": "index.handler",
        }

    @pytest.mark.parametrize("kind", [LAMBDA, FC])
    def test_the_documented_table_has_each(self, kind: str) -> None:
        page = (Path(__file__).parents[2] / "docs" / "run.md").read_text(encoding="utf-8")
        table, end, _ = page.partition("\n## Platforms\n")[2].partition("\n**Which value counts.**")
        assert end
        assert [name for name in asked(kind, spelled_out=True).variables if f"`{name}`" not in table] == []

    def test_none(self) -> None:
        alone = asked(NONE, machine_mb=512)
        assert (alone.function, alone.variables, alone.assumed_region) == ({"memory_mb": 512}, {}, "")
        named = asked(NONE, name="shop", region="eu-1", memory_mb=64, inherited={"AWS_REGION": "eu-2"})
        assert (named.function, named.variables) == ({"memory_mb": 64, "name": "shop", "region": "eu-1"}, {})

    @pytest.mark.parametrize(("kind", "region"), [(LAMBDA, "us-east-1"), (FC, "cn-hangzhou")])
    def test_a_region_that_nothing_names_is_told(self, kind: str, region: str) -> None:
        assert asked(kind).assumed_region == region
        assert asked(kind, region=region).assumed_region == ""

    def test_they_are_the_defaults_of_the_context(self) -> None:
        assert (identities.DEFAULT_NAME, identities.DEFAULT_ACCOUNT) == (context.LOCAL_NAME, context.LOCAL_ACCOUNT)


class TestWhatWins:
    """Check the order of sources: -E, options, --context, environment, default. It is the same on both platforms."""

    SOURCES: tuple[tuple[str, dict[str, Any]], ...] = (
        ("given", {"given": {"AWS_REGION": "given", "AWS_LAMBDA_FUNCTION_NAME": "given"}}),
        ("option", {"region": "option", "name": "option"}),
        ("file", {"context": {"region": "file", "name": "file"}}),
        ("ambient", {"inherited": {"AWS_REGION": "ambient", "AWS_LAMBDA_FUNCTION_NAME": "ambient"}}),
    )

    @pytest.mark.parametrize("some", [c for n in range(1, 5) for c in itertools.combinations(range(4), n)])
    def test_the_most_explicit_source(self, some: tuple[int, ...]) -> None:
        chosen = [self.SOURCES[index] for index in some]
        request = asked(**{key: value for _, source in chosen for key, value in source.items()})
        found, shown = environment_of(request), context_of(request)
        names = ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_LAMBDA_FUNCTION_NAME")
        assert {*(found[name] for name in names), shown.region, shown.function_name} == {chosen[0][0]}

    def test_the_profile_is_asked_last(self) -> None:
        assert environment_of(asked(profile_region=lambda: "eu-9"))["AWS_DEFAULT_REGION"] == "eu-9"
        assert asked(profile_region=lambda: "eu-9").assumed_region == ""

        def never() -> str:
            raise AssertionError("a file was read for nothing")

        for source in (
            {"region": "eu-1"},
            {"given": {"AWS_DEFAULT_REGION": "eu-1"}},
            {"inherited": {"AWS_REGION": "eu-1"}},
        ):
            assert environment_of(asked(profile_region=never, **source))["AWS_REGION"] == "eu-1"

    def test_either_variable_of_the_region_stands_for_both(self) -> None:
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
            found = environment_of(asked(inherited={name: "eu-1"}))
            assert (found["AWS_REGION"], found["AWS_DEFAULT_REGION"]) == ("eu-1", "eu-1")

    def test_two_that_differ_stay_and_the_context_says_the_first(self) -> None:
        request = asked(inherited={"AWS_REGION": "eu-1", "AWS_DEFAULT_REGION": "eu-2"})
        assert environment_of(request)["AWS_DEFAULT_REGION"] == "eu-2"
        assert context_of(request).region == "eu-1"

    def test_one_that_is_given_replaces_the_others_that_are_inherited(self) -> None:
        request = asked(given={"AWS_REGION": "eu-1"}, inherited={"AWS_DEFAULT_REGION": "eu-2"})
        assert environment_of(request)["AWS_DEFAULT_REGION"] == "eu-1"

    @pytest.mark.parametrize("odd", ["", "a\nb", "\udcff", "x" * 2000])
    def test_what_cannot_be_shown_counts_as_not_there(self, odd: str) -> None:
        request = asked(inherited={"AWS_LAMBDA_FUNCTION_NAME": odd}, name=None)
        assert context_of(request).function_name == "function"
        assert environment_of(request)["AWS_LAMBDA_FUNCTION_NAME"] == "function"
        assert environment_of(asked(given={"AWS_LAMBDA_FUNCTION_NAME": odd}))["AWS_LAMBDA_FUNCTION_NAME"] == odd

    @pytest.mark.parametrize("odd", ["", "a\0b", "eu\x1b[2J", "x" * 2000])
    def test_a_profile_may_say_anything(self, odd: str, tmp_path: Path) -> None:
        (tmp_path / "config").write_text(f"[default]\nregion = {odd}\n")
        request = asked(
            profile_region=lambda: region_of_profile({"HOME": "/", "AWS_CONFIG_FILE": f"{tmp_path}/config"})
        )
        assert environment_of(request)["AWS_REGION"] == request.assumed_region == "us-east-1"

    @pytest.mark.parametrize("name", ["AWS_REGION", "AWS_DEFAULT_REGION"])
    def test_a_region_is_not_assumed_in_the_place_of_what_is_given(self, name: str) -> None:
        for odd in ("", "a\nb"):
            request = asked(given={name: odd})
            assert environment_of(request)[name] == odd
            assert request.assumed_region == ""

    @pytest.mark.parametrize(
        ("more", "size"),
        [
            ({"memory_mb": 128, "inherited": {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256"}}, "128"),
            ({"memory_mb": 128, "given": {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256"}}, "256"),
            ({"inherited": {"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256"}}, "256"),
            ({"machine_mb": 999}, "999"),
        ],
    )
    def test_memory(self, more: dict[str, Any], size: str) -> None:
        request = asked(**more)
        assert environment_of(request)["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == size
        assert context_of(request).memory_limit_in_mb == size

    @pytest.mark.parametrize("odd", ["", "0", "-1", "much", "٣", "1e3", "9" * 40])
    def test_what_is_no_memory_size(self, odd: str) -> None:
        function = asked(given={"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": odd}, machine_mb=64).function
        assert function["memory_mb"] == 64
        request = asked(inherited={"AWS_LAMBDA_FUNCTION_MEMORY_SIZE": odd}, machine_mb=64)
        assert environment_of(request)["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"] == "64"

    def test_the_handler_is_the_one_that_runs(self) -> None:
        assert environment_of(asked(inherited={"_HANDLER": "other.handler"}))["_HANDLER"] == "index.handler"

    def test_other_variables_of_the_platform_yield_to_those_that_are_there(self) -> None:
        there = {"LAMBDA_TASK_ROOT": "/var/task", "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start"}
        for source in ("given", "inherited"):
            found = environment_of(asked(**{source: there}))
            assert {name: found[name] for name in there} == there

    @hypothesis.given(st.data())
    def test_context_and_variables_never_differ(self, data: st.DataObject) -> None:
        kind = data.draw(st.sampled_from([LAMBDA, FC]))
        names = sorted(SAYS[kind](context_of(asked(kind))))
        own = {"_HANDLER", "FC_FUNCTION_HANDLER"}  # these stay as the user has set them: HANDLER alone says what runs
        values = st.dictionaries(
            st.sampled_from([name for name in names if name not in own]), st.sampled_from(["1", "22"])
        )
        keys = st.sampled_from(["name", "version", "region", "log_group", "log_stream", "account_id"])
        service = st.dictionaries(st.sampled_from(["name", "qualifier", "version_id"]), st.sampled_from(["", "3", "4"]))
        file: dict[str, Any] = data.draw(st.dictionaries(keys, st.sampled_from(["", "5", "66"])))
        request = asked(
            kind,
            context={**file, "service": data.draw(service)},
            given=data.draw(values),
            inherited=data.draw(values),
            name=data.draw(st.sampled_from([None, "n"])),
            region=data.draw(st.sampled_from([None, "r"])),
            memory_mb=data.draw(st.sampled_from([None, 99])),
        )
        said, found = SAYS[kind](context_of(request)), environment_of(request)
        different = {name for name in said if found[name] != said[name]}
        # Two variables may mean one thing. If one source sets both, each keeps its own value.
        assert different <= {"AWS_DEFAULT_REGION"}
        if different:
            assert any(
                {"AWS_REGION", "AWS_DEFAULT_REGION"} <= source.keys() for source in (request.given, request.inherited)
            )


class TestArn:
    ARN = "arn:aws:lambda:eu-1:123456789012:function:shop"

    def test_it_has_the_regions_partition(self) -> None:
        for region, partition in (("eu-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")):
            shown = context_of(asked(region=region, name="shop", context={"account_id": "1" * 12}))
            assert shown.invoked_function_arn == f"arn:{partition}:lambda:{region}:111111111111:function:shop"

    def test_what_only_the_arn_says_is_known(self) -> None:
        shown = context_of(asked(context={"arn": self.ARN}))
        assert (shown.region, shown.account_id, shown.function_name) == ("eu-1", "123456789012", "shop")
        assert environment_of(asked(context={"arn": self.ARN}))["AWS_REGION"] == "eu-1"

    @pytest.mark.parametrize("qualifier", ["", ":7"])
    def test_what_is_said_more_explicitly_is_put_into_it(self, qualifier: str) -> None:
        request = asked(name="bar", given={"AWS_REGION": "eu-2"}, context={"arn": self.ARN + qualifier})
        assert request.function["arn"] == f"arn:aws:lambda:eu-2:123456789012:function:bar{qualifier}"

    @pytest.mark.parametrize("arn", ["x", "arn:aws:lambda", "arn:aws:s3:::bucket:a:b", "acs:fc:cn-1:1:functions/f"])
    def test_another_text_stays_as_it_is(self, arn: str) -> None:
        identity = asked(context={"arn": arn})
        assert (identity.function["arn"], identity.function["name"]) == (arn, "function")

    def test_other_platforms_have_none_unless_it_is_given(self) -> None:
        assert "arn" not in asked(FC).function
        assert asked(NONE, context={"arn": self.ARN}).function["name"] == "shop"


class TestCredentials:
    KEYS = ("access_key_id", "access_key_secret", "security_token")

    def of(self, **more: Any) -> tuple[list[str], list[str]]:
        """Return what the context says, and what the variables say."""
        request = asked(FC, **more)
        found, shown = environment_of(request), context_of(request).credentials
        names = ("ALIBABA_CLOUD_" + key.upper() for key in self.KEYS)
        return [getattr(shown, key) for key in self.KEYS], [found.get(name, "") for name in names]

    def test_none(self) -> None:
        assert self.of() == (["", "", ""], ["", "", ""])
        assert "ALIBABA_CLOUD_SECURITY_TOKEN" not in environment_of(asked(FC))

    def test_of_the_file(self) -> None:
        file = dict(zip(self.KEYS, "abc", strict=True))
        assert self.of(context={"credentials": file}) == (["a", "b", "c"], ["a", "b", "c"])

    def test_of_the_environment(self) -> None:
        around = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "a", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "b"}
        assert self.of(inherited=around) == self.of(given=around) == (["a", "b", ""], ["a", "b", ""])

    def test_two_sources_are_not_mixed(self) -> None:
        around = {"ALIBABA_CLOUD_SECURITY_TOKEN": "ambient"}
        file = {"access_key_id": "a", "access_key_secret": "b"}
        assert self.of(inherited=around, context={"credentials": file}) == (["a", "b", ""], ["a", "b", ""])


class TestHeaders:
    def test_they_say_what_the_context_says(self) -> None:
        credentials = {"access_key_id": "id", "access_key_secret": "secret", "security_token": "token"}
        service = {"name": "s", "log_project": "p", "log_store": "l", "qualifier": "q", "version_id": "v"}
        named = {"credentials": credentials, "service": service, "account_id": "1"}
        shown = context_of(asked(FC, name="kühl", region="cn-1", memory_mb=64, context=named))
        assert dict(fc_headers(shown, {"initializer": "index.initialize"})) == {
            "x-fc-request-id": "r-1",
            "x-fc-access-key-id": "id",
            "x-fc-access-key-secret": "secret",
            "x-fc-security-token": "token",
            "x-fc-function-name": "kÃ¼hl",
            "x-fc-function-handler": "index.handler",
            "x-fc-function-memory": "64",
            "x-fc-function-timeout": "3",
            "x-fc-function-initializer": "index.initialize",
            "x-fc-region": "cn-1",
            "x-fc-account-id": "1",
            "x-fc-service-name": "s",
            "x-fc-service-logproject": "p",
            "x-fc-service-logstore": "l",
            "x-fc-qualifier": "q",
            "x-fc-version-id": "v",
            "x-fc-retry-count": "0",
            "x-fc-control-path": "/http-invoke",
        }

    def test_what_has_no_value_is_left_out(self) -> None:
        assert not {name for name, value in fc_headers(context_of(asked(FC)), {}) if not value}


class TestTrace:
    XRAY = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    W3C = "00-5759e988bd862e3fe1be46a994272793-53995c3f42cd8ad8-01"

    def test_there_and_back(self) -> None:
        assert (traceparent(self.XRAY), xray(self.W3C)) == (self.W3C, self.XRAY)
        assert traceparent(self.XRAY + ";Lineage=a:0") == self.W3C
        assert traceparent(self.XRAY.partition(";Sampled")[0]) == self.W3C[:-1] + "0"

    @pytest.mark.parametrize(("flags", "sampled"), [("00", 0), ("01", 1), ("02", 0), ("03", 1), ("ff", 1)])
    def test_the_last_bit_says_whether_it_is_sampled(self, flags: str, sampled: int) -> None:
        assert xray(self.W3C[:-2] + flags).endswith(f";Sampled={sampled}")

    @pytest.mark.parametrize("text", ["", "x", W3C[:-1], W3C + "-", W3C.upper(), W3C.replace("-", ":"), W3C + "\n"])
    def test_what_is_neither(self, text: str) -> None:
        assert (xray(text), traceparent(text)) == ("", text)


class TestProfile:
    def write(self, folder: Path, name: str, text: str) -> Path:
        (folder / ".aws").mkdir(exist_ok=True)
        (folder / ".aws" / name).write_text(text)
        return folder / ".aws" / name

    def test_no_file(self, tmp_path: Path) -> None:
        assert region_of_profile({"HOME": str(tmp_path)}) == ""

    @pytest.mark.parametrize(
        ("variables", "region"),
        [
            ({}, "eu-1"),
            ({"AWS_PROFILE": "work"}, "eu-2"),
            ({"AWS_DEFAULT_PROFILE": "work"}, "eu-2"),
            ({"AWS_PROFILE": "two words"}, "eu-3"),
            ({"AWS_PROFILE": "without"}, ""),
            ({"AWS_PROFILE": "unknown"}, ""),
        ],
    )
    def test_the_profile(self, tmp_path: Path, variables: dict[str, str], region: str) -> None:
        text = "[default]\nregion = eu-1\ns3 =\n  a = b\n[profile work]\nregion=eu-2\noutput=json\n"
        self.write(tmp_path, "config", text + "[profile 'two words']\nregion=eu-3\n[profile without]\noutput=%x%\n")
        assert region_of_profile({"HOME": str(tmp_path), **variables}) == region

    def test_a_file_elsewhere(self, tmp_path: Path) -> None:
        self.write(tmp_path, "config", "[default]\nregion=eu-1\n")
        (tmp_path / "other").write_text("[profile default]\nregion=eu-2\n")
        for path in (str(tmp_path / "other"), "~/other"):
            assert region_of_profile({"HOME": str(tmp_path), "AWS_CONFIG_FILE": path}) == "eu-2"

    def test_the_credentials_file_may_have_it_too(self, tmp_path: Path) -> None:
        self.write(tmp_path, "config", "[default]\nregion=eu-1\n")
        self.write(tmp_path, "credentials", "[default]\nregion=eu-2\n")
        assert region_of_profile({"HOME": str(tmp_path)}) == "eu-2"

    @pytest.mark.parametrize(
        "content", [b"", b"region=eu-1\n", b"[default\nregion=eu-1", b"\xff\xfe", b"[default]\nregion\n"]
    )
    def test_what_cannot_be_understood(self, tmp_path: Path, content: bytes) -> None:
        self.write(tmp_path, "config", "").write_bytes(content)
        assert region_of_profile({"HOME": str(tmp_path)}) == ""

    def test_what_is_no_plain_file(self, tmp_path: Path) -> None:
        assert region_of_profile({"AWS_CONFIG_FILE": "/dev/zero", "HOME": str(tmp_path)}) == ""
        assert region_of_profile({"AWS_CONFIG_FILE": str(tmp_path), "HOME": str(tmp_path)}) == ""

    def test_what_is_a_fifo_by_now_is_not_waited_for(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / ".aws").mkdir()
        os.mkfifo(tmp_path / ".aws" / "config")
        monkeypatch.setattr(os.path, "isfile", lambda path: True)
        assert region_of_profile({"HOME": str(tmp_path)}) == ""

    def test_a_long_space_costs_no_time(self, tmp_path: Path) -> None:
        """Check that a long blank does not take time that grows with the square of its length."""
        self.write(tmp_path, "config", f"[default]\nregion = eu-1\na{' ' * 500_000}b = c\n")
        assert region_of_profile({"HOME": str(tmp_path)}) == "eu-1"


class TestWhetherAwsIsMentioned:
    @pytest.mark.parametrize(
        ("handler", "file"),
        [
            ("index.handler", "index.py"),
            ("index:Class.method", "clients.py"),
            ("app.main.handler", "app/clients.py"),
            ("app.main:handler", "app/clients.py"),
            ("src/index.handler", "src/index.py"),
        ],
    )
    def test_where_it_is_looked_for(self, tmp_path: Path, handler: str, file: str) -> None:
        assert not mentions_aws(str(tmp_path), handler)
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("import boto3\n")
        assert mentions_aws(str(tmp_path), handler)
        (tmp_path / file).write_text("print('Hello')\n")
        assert not mentions_aws(str(tmp_path), handler)

    def test_not_everywhere(self, tmp_path: Path) -> None:
        for number in range(MAX_SOURCES):
            (tmp_path / f"a{number}.py").touch()
        (tmp_path / "index.py").write_text("import boto3\n")
        (tmp_path / "notes.txt").write_text("boto3")
        assert not mentions_aws(str(tmp_path), "index.handler")

    @pytest.mark.parametrize("handler", ["", "\0.handler", "nowhere/index.handler", "a..b", ":"])
    def test_a_name_that_leads_nowhere(self, tmp_path: Path, handler: str) -> None:
        assert not mentions_aws(str(tmp_path), handler)
