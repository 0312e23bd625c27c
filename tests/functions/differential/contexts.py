"""Handlers that return or log what their context holds."""

import copy
import json
import os
import pickle
import time


def fields(part, names):
    return {name: getattr(part, name) for name in names.split()}


def remaining(event, context):
    left = context.get_remaining_time_in_millis()
    return [type(left).__name__, 0 < left <= 60_000]


def remaining_shrinks(event, context):
    before = context.get_remaining_time_in_millis()
    time.sleep(0.02)
    return context.get_remaining_time_in_millis() < before


def setting_a_field(event, context):
    context.function_name = "renamed"
    context.own = 1
    return [context.function_name, context.own]


def variables(event, context):
    names = "FUNCTION_NAME FUNCTION_VERSION FUNCTION_MEMORY_SIZE LOG_GROUP_NAME LOG_STREAM_NAME INITIALIZATION_TYPE"
    found = {name: os.environ.get(f"AWS_LAMBDA_{name}") for name in names.split()}
    return found | {name: os.environ.get(name) for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "_HANDLER", "TZ")}


def same_as_variables(event, context):
    return [
        context.function_name == os.environ["AWS_LAMBDA_FUNCTION_NAME"],
        context.memory_limit_in_mb == os.environ["AWS_LAMBDA_FUNCTION_MEMORY_SIZE"],
        context.log_stream_name == os.environ["AWS_LAMBDA_LOG_STREAM_NAME"],
    ]


def pickled(event, context):
    found = pickle.loads(pickle.dumps(context))
    return [found.aws_request_id == context.aws_request_id, found.get_remaining_time_in_millis() > 0]


def logs(event, context):
    context.log("a line\n")
    context.log({"a": 1})
    context.log("\n")


def logs_without_line_breaks(event, context):
    context.log("one")
    context.log("two")


FIELDS = (
    "aws_request_id function_name function_version invoked_function_arn memory_limit_in_mb log_group_name "
    "log_stream_name tenant_id"
)

CASES = {
    **{name: lambda event, context, name=name: getattr(context, name) for name in FIELDS.split()},
    "types": lambda event, context: {name: type(getattr(context, name)).__name__ for name in FIELDS.split()},
    "client_context": lambda event, context: fields(context.client_context, "custom env"),
    "client": lambda event, context: fields(
        context.client_context.client,
        "installation_id app_title app_version_name app_version_code app_package_name",
    ),
    "client_missing": lambda event, context: context.client_context.missing,
    "identity": lambda event, context: fields(context.identity, "cognito_identity_id cognito_identity_pool_id"),
    "w3c": lambda event, context: context.w3c(),
    "remaining": remaining,
    "remaining_shrinks": remaining_shrinks,
    "setting_a_field": setting_a_field,
    "missing": lambda event, context: context.no_such_field,
    "variables": variables,
    "trace_variable": lambda event, context: os.environ.get("_X_AMZN_TRACE_ID"),
    "same_as_variables": same_as_variables,
    "vars": lambda event, context: sorted(name for name in vars(context) if not name.startswith("_")),
    "vars_of_identity": lambda event, context: repr(getattr(context.identity, "__dict__", "none")),
    "repr": lambda event, context: repr(context),
    "class_name": lambda event, context: type(context).__name__,
    "deepcopy": lambda event, context: copy.deepcopy(context).aws_request_id == context.aws_request_id,
    "copy": lambda event, context: copy.copy(context).client_context is context.client_context,
    "pickle": pickled,
    "returned": lambda event, context: context,
    "json_of_vars": lambda event, context: json.loads(json.dumps(vars(context), default=lambda part: "part"))[
        "tenant_id"
    ],
    "logs": logs,
    "logs_without_line_breaks": logs_without_line_breaks,
}
