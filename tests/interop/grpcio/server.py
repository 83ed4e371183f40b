"""A gRPC service that introspects each token at the authorization server (RFC 7662).

Each test has its own authorization server, so each call names the introspection endpoint in its metadata `introspection-endpoint`.
The first argument is a folder with server.key, server.pem and ca.pem. Prints NAME=value for each address, and then `ready`.
"""

from concurrent import futures
from pathlib import Path
from urllib.parse import urlencode
from urllib.request import ProxyHandler, Request, build_opener
import base64
import json
import sys
import time

import grpc

CREDENTIALS = base64.b64encode(b'client:secret').decode()
SCOPE = 'echo'

direct = build_opener(ProxyHandler({}))


def introspect(endpoint, token):
    request = Request(endpoint, urlencode({'token': token}).encode(), {'authorization': f'Basic {CREDENTIALS}'})
    with direct.open(request, timeout=30) as response:
        return json.load(response)


def check(context):
    """Aborts the call unless its token is valid right now."""
    metadata = context.invocation_metadata()
    sent = [value for name, value in metadata if name == 'authorization']
    if len(sent) != 1 or not sent[0].startswith('Bearer '):
        context.abort(grpc.StatusCode.UNAUTHENTICATED, f'found {len(sent)} authorization entries, expected one bearer token')
    state = introspect(dict(metadata)['introspection-endpoint'], sent[0].removeprefix('Bearer '))
    if not state['active']:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, 'the token is not active')
    if SCOPE not in state.get('scope', '').split():
        context.abort(grpc.StatusCode.PERMISSION_DENIED, f'the token is not for {SCOPE}')


def unary(request, context):
    check(context)
    return request


def server_stream(request, context):
    check(context)
    for number in range(int(request)):
        yield b'%d' % number


def bidirectional(requests, context):
    # Nothing is sent before the first response. So a token that is refused for the first message is refused in the headers, and a
    # token that is revoked while the stream is open is refused in the trailers.
    for request in requests:
        check(context)
        yield request


def silent(request, context):
    """Sends its message after as many seconds as the request says. With the metadata `head`, it sends the head at once."""
    check(context)
    if 'head' in dict(context.invocation_metadata()):
        context.send_initial_metadata(())
    time.sleep(int(request))
    yield b'done'


service = grpc.method_handlers_generic_handler('interop.Echo', {
    'Unary': grpc.unary_unary_rpc_method_handler(unary),
    'ServerStream': grpc.unary_stream_rpc_method_handler(server_stream),
    'Silent': grpc.unary_stream_rpc_method_handler(silent),
    'Bidirectional': grpc.stream_stream_rpc_method_handler(bidirectional),
})
server = grpc.server(futures.ThreadPoolExecutor(max_workers=32), handlers=[service])
address = f'127.0.0.1:{server.add_insecure_port("127.0.0.1:0")}'
folder = Path(sys.argv[1])
pair = ((folder / 'server.key').read_bytes(), (folder / 'server.pem').read_bytes())
tls_port = server.add_secure_port('127.0.0.1:0', grpc.ssl_server_credentials([pair]))
server.start()
with grpc.insecure_channel(address, [('grpc.enable_http_proxy', 0)]) as channel:
    grpc.channel_ready_future(channel).result(timeout=60)
print(f'GRPCIO=http://{address}\nGRPCIO_TLS=https://localhost:{tls_port}\nGRPCIO_CA={folder / "ca.pem"}\nready', flush=True)
server.wait_for_termination()
