"""Choose the values that describe the function, and the variables of its platform.

The context and the variables are made from one set of values here, so they never differ. This file reads neither files
nor the environment nor a clock, and knows nothing of workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..options.run_options import FC, LAMBDA, NONE, RunOptions

DEFAULT_NAME = "function"
DEFAULT_ACCOUNT = "000000000000"
"""The defaults of the function's name and account; the runtime's context has the same."""

DEFAULT_REGIONS = {LAMBDA: "us-east-1", FC: "cn-hangzhou"}

RUNTIME_VERSION = "pipe-init"
"""The value of FC_RUNTIME_VERSION. Functions test whether the variable exists."""

_VARIABLES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    LAMBDA: {
        "name": ("AWS_LAMBDA_FUNCTION_NAME",),
        "version": ("AWS_LAMBDA_FUNCTION_VERSION",),
        "region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
        "memory_mb": ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE",),
        "log_group": ("AWS_LAMBDA_LOG_GROUP_NAME",),
        "log_stream": ("AWS_LAMBDA_LOG_STREAM_NAME",),
        "handler": ("_HANDLER",),
    },
    FC: {
        "name": ("FC_FUNCTION_NAME",),
        "region": ("FC_REGION",),
        "memory_mb": ("FC_FUNCTION_MEMORY_SIZE",),
        "account_id": ("FC_ACCOUNT_ID",),
        "service.name": ("FC_SERVICE_NAME",),
        "service.qualifier": ("FC_QUALIFIER",),
        "service.version_id": ("FC_VER_ID",),
        "handler": ("FC_FUNCTION_HANDLER",),
    },
    NONE: {},
}
"""Platform: {field: the variables that have its value; the first one that is set decides}."""

_CREDENTIALS = {
    "access_key_id": "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "access_key_secret": "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "security_token": "ALIBABA_CLOUD_SECURITY_TOKEN",
}
"""Field of Function Compute's credentials: its variable."""

_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
"""Prefix of a region's name: the partition in its ARNs."""

_ARN_PARTS = 7
"""arn:aws:lambda:REGION:ACCOUNT:function:NAME; a qualifier may follow."""

MAX_NAME = 1024
"""Characters of a name, a region and the like. The platforms allow far fewer."""

_MEMORY_DIGITS = 10
"""Digits of a memory size that a variable may have."""


@dataclass(frozen=True)
class IdentityInputs:
    """What the options, the files and the environment say about the function, and facts about the machine.

    Attributes:
        options: The options of the run.
        code_dir: Absolute path of the function's folder.
        runtime_dir: Absolute path of the runtime's folder.
        machine_mb: The memory of the machine in MB.
        context: HELLO's `function` map as --context gives it.
        given: The variables of -E and --env-file.
        inherited: The variables that the function inherits.
        day: Today, such as 2026/01/31.
        unique: Letters and digits that no other run has.
        profile_region: Returns the region of the user's AWS profile, or "". Called only if nothing else names one.
    """

    options: RunOptions
    code_dir: str
    runtime_dir: str
    machine_mb: int = 128
    context: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    inherited: Mapping[str, str] = field(default_factory=dict)
    day: str = "1970/01/01"
    unique: str = "0" * 32
    profile_region: Callable[[], str] = str


@dataclass(frozen=True)
class Identity:
    """The values that describe the function.

    Attributes:
        function: HELLO's `function` map, without the time limit.
        variables: Variables for the function's environment. They replace inherited ones, and -E replaces them.
        assumed_region: The region if it is only the platform's default, else "".
    """

    function: dict[str, Any]
    variables: dict[str, str]
    assumed_region: str = ""


def identify(inputs: IdentityInputs) -> Identity:
    """Return the values that describe the function, and the variables that have them.

    The more explicit source wins, for the context and for the variables alike: -E and --env-file, then the options,
    then --context, then the environment, then a default.
    """
    choice = _Choice(inputs)
    platform = inputs.options.effective_platform
    if platform == LAMBDA:
        choice.for_lambda()
    elif platform == FC:
        choice.for_fc()
    return choice.identity()


class _Choice:
    """Choose a value for one field after the other. A field within a map has a name such as `service.name`."""

    def __init__(self, inputs: IdentityInputs) -> None:
        options = inputs.options
        said = {"name": options.name, "region": options.region, "memory_mb": options.memory}
        self._inputs = inputs
        self._names = _VARIABLES[options.effective_platform]
        self._fields: dict[str, Any] = {
            **_fields_of_arn(str(inputs.context.get("arn", ""))),
            **inputs.context,
            **{name: value for name, value in said.items() if value is not None},
        }
        self._variables: dict[str, str] = {}
        self._assumed_region = ""

    def for_lambda(self) -> None:
        """Choose the fields of a function of AWS Lambda."""
        inputs = self._inputs
        name = self._choose("name", lambda: DEFAULT_NAME)
        version = self._choose("version", lambda: "$LATEST")
        region = self._choose("region", lambda: self._profile_region() or self._assume_region())
        self._choose("memory_mb", lambda: str(inputs.machine_mb))
        self._choose("log_group", lambda: f"/aws/lambda/{name}")
        self._choose("log_stream", lambda: f"{inputs.day}/[{version}]{inputs.unique}")
        account = self._fields.get("account_id") or DEFAULT_ACCOUNT
        partition = next((known for start, known in _PARTITIONS.items() if region.startswith(start)), "aws")
        self._fields["arn"] = self._fields.get("arn") or f"arn:{partition}:lambda:{region}:{account}:function:{name}"
        self._add("LAMBDA_TASK_ROOT", inputs.code_dir)
        self._add("LAMBDA_RUNTIME_DIR", inputs.runtime_dir)
        self._add("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        self._add("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR")
        if inputs.options.platform is not None:
            self._add("TZ", ":UTC")

    def for_fc(self) -> None:
        """Choose the fields of a function of Function Compute."""
        inputs = self._inputs
        self._choose("name", lambda: DEFAULT_NAME)
        self._choose("region", self._assume_region)
        self._choose("memory_mb", lambda: str(inputs.machine_mb))
        self._choose("account_id", lambda: DEFAULT_ACCOUNT)
        self._fields["service"] = dict(inputs.context.get("service", {}))
        self._choose("service.name", str)
        self._choose("service.qualifier", lambda: "LATEST")
        self._choose("service.version_id", lambda: "LATEST")
        self._choose_credentials()
        self._add("FC_FUNC_CODE_PATH", inputs.code_dir)
        self._add("FC_INSTANCE_ID", f"c-{inputs.unique}")
        self._add("FC_RUNTIME_VERSION", RUNTIME_VERSION)

    def identity(self) -> Identity:
        """Return what was chosen."""
        for name in self._names.get("handler", ()):
            self._replace(name, self._inputs.options.handler)
        self._fields["memory_mb"] = int(self._fields.get("memory_mb") or self._inputs.machine_mb)
        if "arn" in self._fields:
            self._fields["arn"] = _corrected_arn(self._fields)
        return Identity(self._fields, self._variables, self._assumed_region)

    def _choose(self, name: str, default: Callable[[], str]) -> str:
        """Choose the value of a field, and set its variables to the same value."""
        names = self._names.get(name, ())
        usable = _is_size if name == "memory_mb" else is_name
        within, _, key = name.rpartition(".")
        fields = self._fields[within] if within else self._fields
        explicit = _first(self._inputs.given, names, usable) or str(fields.get(key, ""))
        ambient = _first(self._inputs.inherited, names, usable)
        value = fields[key] = explicit or ambient or default()
        for variable in names:
            if explicit or not usable(self._inputs.inherited.get(variable, "")):
                self._replace(variable, value)
        return value

    def _choose_credentials(self) -> None:
        """Take all credentials from one source: -E, else --context, else the environment."""
        inputs = self._inputs
        around = inputs.given if any(name in inputs.given for name in _CREDENTIALS.values()) else inputs.inherited
        known = {field: str(inputs.context.get("credentials", {}).get(field, "")) for field in _CREDENTIALS}
        if around is inputs.given or not any(known.values()):
            known = {field: around.get(name, "") for field, name in _CREDENTIALS.items()}
            known = {field: value for field, value in known.items() if is_name(value)}
        self._fields["credentials"] = known
        for field_name, value in known.items():
            if value or _CREDENTIALS[field_name] in inputs.inherited:
                self._replace(_CREDENTIALS[field_name], value)

    def _profile_region(self) -> str:
        region = self._inputs.profile_region()
        return region if is_name(region) else ""

    def _assume_region(self) -> str:
        region = DEFAULT_REGIONS[self._inputs.options.effective_platform]
        if not any(variable in self._inputs.given for variable in self._names["region"]):
            self._assumed_region = region  # else the function's variables say what the user gave, whatever it is
        return region

    def _add(self, variable: str, value: str) -> None:
        """Set a variable, unless the function has it already."""
        if variable not in self._inputs.given and not self._inputs.inherited.get(variable):
            self._variables[variable] = value

    def _replace(self, variable: str, value: str) -> None:
        """Set a variable, unless -E does; it replaces an inherited one."""
        if variable not in self._inputs.given:
            self._variables[variable] = value


def _first(variables: Mapping[str, str], names: tuple[str, ...], usable: Callable[[str], bool]) -> str:
    return next((variables[name] for name in names if name in variables and usable(variables[name])), "")


def is_name(value: str) -> bool:
    """Return whether a text can be used in a context, in a head and in a log line."""
    return 0 < len(value) <= MAX_NAME and value.isprintable()


def _is_size(value: str) -> bool:
    """Return whether a variable's value is a number of megabytes."""
    return value.isascii() and value.isdigit() and len(value) <= _MEMORY_DIGITS and int(value) > 0


def _fields_of_arn(arn: str) -> dict[str, str]:
    """Return the fields that a function's ARN contains; none if it is not the ARN of a function."""
    parts = arn.split(":")
    if len(parts) < _ARN_PARTS or (parts[0], parts[2], parts[5]) != ("arn", "lambda", "function"):
        return {}
    return {
        name: part for name, part in zip(("region", "account_id", "name"), (*parts[3:5], parts[6]), strict=True) if part
    }


def _corrected_arn(fields: Mapping[str, Any]) -> str:
    """Return the ARN with the chosen region, account and name; unchanged if it is not the ARN of a function."""
    arn = str(fields["arn"])
    said = _fields_of_arn(arn)
    parts = arn.split(":")
    for position, name in ((3, "region"), (4, "account_id"), (6, "name")):
        if said and fields.get(name):
            parts[position] = str(fields[name])
    return ":".join(parts)
