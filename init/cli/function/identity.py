"""Choose the values that describe the function, and the variables of its platform.

The context and the variables come from one set of values here, so they never differ. This file does not read files, the
environment or a clock, and it does not know workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ...kernel.plain_classes import dataclass, field
from ...model import Fields, Metadata
from ..options.run_options import FC, LAMBDA, NONE, RunOptions

DEFAULT_NAME = "function"
DEFAULT_ACCOUNT = "000000000000"
"""The defaults of the function's name and account. The runtime's context has the same defaults."""

DEFAULT_REGIONS = {LAMBDA: "us-east-1", FC: "cn-hangzhou"}

RUNTIME_VERSION = "pipe-init"
"""The value of FC_RUNTIME_VERSION. Some functions only test whether this variable exists."""

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
"""{platform: {field: the variables that have the field's value}}. The first of these variables that is set decides."""

_CREDENTIALS = {
    "access_key_id": "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "access_key_secret": "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "security_token": "ALIBABA_CLOUD_SECURITY_TOKEN",
}
"""{field of Function Compute's credentials: its variable}."""

_PARTITIONS = {"cn-": "aws-cn", "us-gov-": "aws-us-gov"}
"""{prefix of a region's name: the partition in its ARNs}. Other regions have the partition `aws`."""

_ARN_PARTS = 7
"""The parts of a function's ARN: arn:aws:lambda:REGION:ACCOUNT:function:NAME. A qualifier may follow."""

_IN_ARN = {"region": 3, "account_id": 4, "name": 6}
"""{field: the index of its part in a function's ARN}."""

MAX_NAME = 1024
"""The most characters of a name, a region and similar texts. The platforms allow far fewer."""

_MEMORY_DIGITS = 10
"""The most digits of a memory size in a variable."""


@dataclass
class Identity:
    """Choose the values that describe the function from the options, the files and the environment.

    The most explicit source decides, both for the context and for the variables: first -E and --env-file, then the
    options, --context, the environment, and a default. A field in a map has a name such as `service.name` here.

    Args:
        options: The options of the run.
        code_dir: The absolute path of the code directory.
        runtime_dir: The absolute path of the runtime's folder.
        machine_mb: The memory of the machine in MB.
        context: HELLO's map `function` from --context.
        given: The variables of -E and --env-file.
        inherited: The variables that the function inherits.
        day: The current date, such as 2026/01/31.
        unique: Letters and digits that no other run has.
        profile_region: A function that returns the region of the user's AWS profile, or "". It is called only if no
            other source names a region.

    Attributes:
        function: HELLO's map `function`, without the time limit.
        variables: Variables for the function's environment. They replace inherited variables. Variables of -E and
            --env-file replace them.
        assumed_region: The region if it is only the platform's default; otherwise "".
    """

    options: RunOptions
    code_dir: str
    runtime_dir: str
    machine_mb: int = 128
    context: Metadata = field(default_factory=dict)
    given: Mapping[str, str] = field(default_factory=dict)
    inherited: Mapping[str, str] = field(default_factory=dict)
    day: str = "1970/01/01"
    unique: str = "0" * 32
    profile_region: Callable[[], str] = str

    def __post_init__(self) -> None:
        options, platform = self.options, self.options.effective_platform
        said = {"name": options.name, "region": options.region, "memory_mb": options.memory}
        self.function: Fields = {
            **_fields_of_arn(str(self.context.get("arn", ""))),
            **self.context,
            **{name: value for name, value in said.items() if value is not None},
        }
        self.variables: dict[str, str] = {}
        self.assumed_region = ""
        self._names = _VARIABLES[platform]
        if platform == LAMBDA:
            self._choose_for_lambda()
        elif platform == FC:
            self._choose_for_fc()
        for name in self._names.get("handler", ()):
            self._replace(name, options.handler)
        self.function["memory_mb"] = int(self.function.get("memory_mb") or self.machine_mb)
        if "arn" in self.function:
            self.function["arn"] = _corrected_arn(self.function)

    def _choose_for_lambda(self) -> None:
        """Choose the fields of a function of AWS Lambda."""
        name = self._choose("name", lambda: DEFAULT_NAME)
        version = self._choose("version", lambda: "$LATEST")
        region = self._choose("region", lambda: self.profile_region() or self._assume_region())
        self._choose("memory_mb", lambda: str(self.machine_mb))
        self._choose("log_group", lambda: f"/aws/lambda/{name}")
        self._choose("log_stream", lambda: f"{self.day}/[{version}]{self.unique}")
        account = self.function.get("account_id") or DEFAULT_ACCOUNT
        partition = next((known for start, known in _PARTITIONS.items() if region.startswith(start)), "aws")
        self.function["arn"] = self.function.get("arn") or f"arn:{partition}:lambda:{region}:{account}:function:{name}"
        self._add("LAMBDA_TASK_ROOT", self.code_dir)
        self._add("LAMBDA_RUNTIME_DIR", self.runtime_dir)
        self._add("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand")
        self._add("AWS_XRAY_CONTEXT_MISSING", "LOG_ERROR")
        if self.options.platform is not None:
            self._add("TZ", ":UTC")

    def _choose_for_fc(self) -> None:
        """Choose the fields of a function of Function Compute."""
        self._choose("name", lambda: DEFAULT_NAME)
        self._choose("region", self._assume_region)
        self._choose("memory_mb", lambda: str(self.machine_mb))
        self._choose("account_id", lambda: DEFAULT_ACCOUNT)
        self.function["service"] = dict(self.context.get("service", {}))
        self._choose("service.name", str)
        self._choose("service.qualifier", lambda: "LATEST")
        self._choose("service.version_id", lambda: "LATEST")
        self._choose_credentials()
        self._add("FC_FUNC_CODE_PATH", self.code_dir)
        self._add("FC_INSTANCE_ID", f"c-{self.unique}")
        self._add("FC_RUNTIME_VERSION", RUNTIME_VERSION)

    def _choose(self, name: str, default: Callable[[], str]) -> str:
        """Choose the value of a field, and set its variables to the same value."""
        names = self._names.get(name, ())
        usable = _is_size if name == "memory_mb" else is_name
        within, _, key = name.rpartition(".")
        fields = self.function[within] if within else self.function
        explicit = _first(self.given, names, usable) or str(fields.get(key, ""))
        ambient = _first(self.inherited, names, usable)
        value = fields[key] = explicit or ambient or default()
        for variable in names:
            if explicit or not usable(self.inherited.get(variable, "")):
                self._replace(variable, value)
        return value

    def _choose_credentials(self) -> None:
        """Use the credentials of one source only: -E and --env-file, else --context, else the environment."""
        around = self.given if any(name in self.given for name in _CREDENTIALS.values()) else self.inherited
        known = {field: str(self.context.get("credentials", {}).get(field, "")) for field in _CREDENTIALS}
        if around is self.given or not any(known.values()):
            known = {field: around.get(name, "") for field, name in _CREDENTIALS.items()}
            known = {field: value for field, value in known.items() if is_name(value)}
        self.function["credentials"] = known
        for field_name, value in known.items():
            if value or _CREDENTIALS[field_name] in self.inherited:
                self._replace(_CREDENTIALS[field_name], value)

    def _assume_region(self) -> str:
        region = DEFAULT_REGIONS[self.options.effective_platform]
        if not any(variable in self.given for variable in self._names["region"]):
            self.assumed_region = region  # otherwise the user has set the variable, even if its value is no region
        return region

    def _add(self, variable: str, value: str) -> None:
        """Set a variable, unless -E or --env-file sets it, or the function inherits a value for it."""
        if variable not in self.given and not self.inherited.get(variable):
            self.variables[variable] = value

    def _replace(self, variable: str, value: str) -> None:
        """Set a variable, unless -E or --env-file sets it. Replace an inherited variable."""
        if variable not in self.given:
            self.variables[variable] = value


def _first(variables: Mapping[str, str], names: tuple[str, ...], usable: Callable[[str], bool]) -> str:
    return next((variables[name] for name in names if name in variables and usable(variables[name])), "")


def is_name(value: str) -> bool:
    """Return whether a text can be used in a context, in a frame's head and in a log line."""
    return 0 < len(value) <= MAX_NAME and value.isprintable()


def _is_size(value: str) -> bool:
    """Return whether a variable's value is a number of megabytes."""
    return value.isascii() and value.isdigit() and len(value) <= _MEMORY_DIGITS and int(value) > 0


def _fields_of_arn(arn: str) -> dict[str, str]:
    """Return the fields that a function's ARN contains; {} if the text is not the ARN of a function."""
    parts = arn.split(":")
    if len(parts) < _ARN_PARTS or (parts[0], parts[2], parts[5]) != ("arn", "lambda", "function"):
        return {}
    return {name: parts[place] for name, place in _IN_ARN.items() if parts[place]}


def _corrected_arn(fields: Metadata) -> str:
    """Return the ARN with the chosen region, account and name. Do not change a text that is not a function's ARN."""
    arn = str(fields["arn"])
    said = _fields_of_arn(arn)
    parts = arn.split(":")
    for name, place in _IN_ARN.items():
        if said and fields.get(name):
            parts[place] = str(fields[name])
    return ":".join(parts)
