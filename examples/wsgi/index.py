"""A WSGI function in the style of Function Compute: environ has the context and the request's URI.

$ pipe-init run index.handler -C examples/wsgi --request 'PUT /files/a%20b?overwrite=1' -e 'some text' -i
HTTP/1.1 200 OK
Content-Type: text/plain; charset=utf-8
X-Uri: /files/a%20b?overwrite=1

PUT /files/a b
9 bytes for function in us-east-1
"""


def handler(environ, start_response):
    context = environ["fc.context"]
    size = 0
    while piece := environ["wsgi.input"].read(65536):
        size += len(piece)
    start_response(
        "200 OK",
        [("Content-Type", "text/plain; charset=utf-8"), ("X-Uri", environ["fc.request_uri"])],
    )
    yield f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}\n".encode("latin-1")
    yield f"{size} bytes for {context.function.name} in {context.region}\n".encode()
