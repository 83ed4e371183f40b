"""Sets glewlwyd up over its admin API. Usage: provision.py <base URL> <private key> <public key>

The plugins, each an issuer of its own:

oidc    a new refresh token with every use, and the old one refused
steady  one refresh token for good
short   tokens of two seconds, and the rest as oidc
"""

import json
import sys
import urllib.request

BASE, PRIVATE_KEY, PUBLIC_KEY = sys.argv[1:]
SECRET = "interop-secret-0123456789abcdef0123456789abcdef"
# Every class of byte that the form encoding of Basic would change. No colon in the id: Basic without any encoding has no room
# for it (RFC 7617 section 2).
ODD_ID = "odd id %41&=?"
ODD_SECRET = "p@ss:w%rd+with space&=/?~!*'()%41"
REDIRECT_URI = "http://127.0.0.1:9999/cb"
EVERY_GRANT = ["client_credentials", "code", "refresh_token", "device_authorization", "password"]


def call(method, path, body, session=None):
    request = urllib.request.Request(f"{BASE}/api{path}", json.dumps(body).encode(), method=method)
    request.add_header("Content-Type", "application/json")
    if session:
        request.add_header("Cookie", session)
    # Whatever proxy the environment names.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as response:
        return response.headers.get("Set-Cookie", "").split(";")[0]


def sign_in(username):
    return call("POST", "/auth/", {"username": username, "password": "password"})


def read(path):
    with open(path) as file:
        return file.read()


def plugin(name, access_token_seconds=120, one_use="always"):
    return {
        "module": "oidc",
        "name": name,
        "display_name": name,
        "enabled": True,
        "parameters": {
            "iss": f"{BASE}/api/{name}",
            "jwt-type": "ecdsa",
            "jwt-key-size": "256",
            "key": read(PRIVATE_KEY),
            "cert": read(PUBLIC_KEY),
            "jwks-show": True,
            "allow-non-oidc": True,
            "access-token-duration": access_token_seconds,
            "refresh-token-duration": 3600,
            "refresh-token-rolling": False,
            "refresh-token-one-use": one_use,
            "code-duration": 60,
            "auth-type-code-enabled": True,
            "auth-type-code-revoke-replayed": True,
            "auth-type-token-enabled": False,
            "auth-type-id-token-enabled": True,
            "auth-type-none-enabled": False,
            "auth-type-password-enabled": True,
            "auth-type-client-enabled": True,
            "auth-type-device-enabled": True,
            "auth-type-refresh-enabled": True,
            "device-authorization-expiration": 60,
            "device-authorization-interval": 1,
            "pkce-allowed": True,
            "pkce-method-plain-allowed": False,
            "introspection-revocation-allowed": True,
            "introspection-revocation-allow-target-client": True,
            "resource-allowed": True,
            "resource-client-property": "resource",
            "resource-scope": {},
            "resource-scope-and-client-property": False,
            "oauth-as-iss-id": True,
        },
    }


def client(client_id, method, secret=SECRET, grants=("client_credentials",)):
    return {
        "client_id": client_id,
        "name": client_id,
        "enabled": True,
        "confidential": True,
        "client_secret": secret,
        "token_endpoint_auth_method": [method],
        "authorization_type": list(grants),
        "scope": ["api", "api2"],
        "redirect_uri": [REDIRECT_URI],
        "resource": ["https://api.example/"],
    }


admin = sign_in("admin")
for scope in ("api", "api2"):
    call("POST", "/scope/", {"name": scope, "display_name": scope, "password_required": False, "scheme": {}}, admin)
user = {"username": "alice", "name": "Alice", "password": "password", "enabled": True, "scope": ["openid", "api", "g_profile"]}
call("POST", "/user/", user, admin)
for new in (
    client("basic", "client_secret_basic"),
    client("post", "client_secret_post"),
    client(ODD_ID, "client_secret_basic", ODD_SECRET),
    client("odd post", "client_secret_post", ODD_SECRET),
    # The second is how the first would be written if this server decoded.
    client("two words", "client_secret_basic"),
    client("two+words", "client_secret_basic"),
    client("web", "client_secret_basic", grants=EVERY_GRANT),
):
    call("POST", "/client/", new, admin)
for new in (plugin("oidc"), plugin("steady", one_use="never"), plugin("short", access_token_seconds=2)):
    call("POST", "/mod/plugin/", new, admin)
call("PUT", "/auth/grant/web", {"scope": "openid api"}, sign_in("alice"))
