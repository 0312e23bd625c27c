"""A function with a virtual environment of its own, in which neither pipe-init nor msgpack is installed.

It needs the package roman, which is only in that environment. (The command copies it; you would use pip.)

$ python3 -m venv --without-pip other && cp -r examples/virtual_env/roman other/lib/python3*/site-packages && pipe-init run index.handler -C examples/virtual_env/function --python other -e '{"year": 2026}'
{"year": "MMXXVI", "own msgpack": false}
"""  # noqa: E501

import importlib.util

from roman import roman


def handler(event, context):
    return {"year": roman(event["year"]), "own msgpack": importlib.util.find_spec("msgpack") is not None}
