"""Prepare the process for the function that HELLO names, and load it.

This module must not know requests, nor how the function is served.
"""

from __future__ import annotations

import os
import sys
from time import tzset  # imported now, because the function may replace the module's attribute

from .. import namespace
from ..call import codec
from ..load import handler
from ..log.writer import LoggingHook
from ..wire.errors import Fault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from .hello import Configuration
    from .process import Process

_TRACE = "_X_AMZN_TRACE_ID"


class Function:
    """The loaded function.

    Attributes:
        configuration: The fields of HELLO. A worker that a template forked gets a HELLO of its own.
        code_dir: The absolute path of the function's folder.
        found: The callable that the handler's name stands for.
        facts: What a Context gets to know of the function.
        trace_is_set: Whether the environment variable has a trace id. `tell_trace` must be called before the next
            request, and before each request that has a trace.
        is_plain: Whether the loop serves the function by itself, without an Invoker.
        call: The handler as a callable of event and context; only for a plain function.
    """

    call: Callable[[Any, Any], Any]

    def __init__(self, configuration: Configuration, process: Process) -> None:
        """Prepare this process for the function, then load it.

        Raises:
            BaseException: The function's module raised an exception.
            Fault: The function's folder, or the handler, does not exist.
        """
        self.configuration = configuration
        self.facts = configuration.function, configuration.handler, process.log.write
        self._tells_trace = self.trace_is_set = False
        self._set_variables()
        process.log.open_streams()
        process.log.configure(*configuration.log_settings(os.environ))
        LoggingHook(process.log).install()
        codec.write_bytes_as(configuration.bytes)
        code_dir = self.code_dir = os.path.abspath(configuration.code_dir)
        try:
            os.chdir(code_dir)
        except OSError as error:
            raise Fault(
                "Runtime.ImportModuleError", f"Unable to enter the code directory {code_dir}: {error.strerror}"
            ) from None
        namespace.prepare(code_dir, configuration.layers, process.baseline, configuration.handler)
        self.found = handler.find(configuration.handler, code_dir)
        is_event = configuration.type == "auto" and handler.is_plain(self.found)
        has_hooks = configuration.hooks or "snapshot_restore_py" in sys.modules
        self.is_plain = is_event and configuration.concurrency == 1 and not has_hooks
        if self.is_plain:
            self.call = handler.adapt(self.found)

    def stand_in(self, call: Callable[[Any, Any], Any]) -> Function:
        """Return a copy of this function that is plain and has `call` as its handler."""
        other = object.__new__(Function)
        vars(other).update(vars(self), is_plain=True, call=call)
        return other

    def tell_trace(self, request: Mapping[str, Any]) -> None:
        """Set the environment variable with the trace id, as INVOKE's metadata `request` has it."""
        if self._tells_trace:
            self.trace_is_set = namespace.own("call.platforms").set_trace(request.get("trace"))

    def _set_variables(self) -> None:
        """Set HELLO's environment variables, and the platform's variables whose values only the runtime knows."""
        variables = self.configuration.environment
        os.environ.update(variables)
        if "TZ" in variables:
            tzset()
        is_lambda = self.configuration.platform == "lambda"
        if is_lambda and not os.environ.get("AWS_EXECUTION_ENV"):
            os.environ["AWS_EXECUTION_ENV"] = "AWS_Lambda_python{}.{}".format(*sys.version_info)
        self._tells_trace = is_lambda and self.configuration.concurrency == 1 and _TRACE not in os.environ
