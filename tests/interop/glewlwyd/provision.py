"""Configures glewlwyd through its admin API. Usage: provision.py <base URL> <folder with keys and certificates>

Each plugin is a separate issuer:

oidc    returns a new refresh token with every use, and refuses the old one
steady  keeps the same refresh token permanently
short   issues tokens that are valid for two seconds, and is otherwise like oidc
nonce   requires a nonce in proofs, which is valid for five uses

Over TLS there is only the plugin mtls, whose endpoints for client certificates are aliases. It accepts only certificates of its
authority, because its TLS stack does not pass self-signed certificates to glewlwyd.
"""

import base64
import json
import ssl
import subprocess
import sys
import urllib.request

BASE, KEYS = sys.argv[1:]
IS_TLS = BASE.startswith("https:")
SECRET = "interop-secret-0123456789abcdef0123456789abcdef"
# Every class of byte that the form encoding of Basic would change. The id has no colon, because Basic without form encoding does
# not allow one (RFC 7617 section 2).
ODD_ID = "odd id %41&=?"
ODD_SECRET = "p@ss:w%rd+with space&=/?~!*'()%41"
# HMAC keys must be at least as long as the hash; this is long enough for all hashes (RFC 7518 section 3.2).
HMAC_SECRET = "interop-hmac-secret-0123456789abcdef0123456789abcdef0123456789abcdef"
SIGNING_KEYS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), "signing-rsa"),
    "ES256": "signing-es256",
    "ES384": "signing-es384",
    "ES512": "signing-es512",
    "EdDSA": "signing-ed25519",
}
REDIRECT_URI = "http://127.0.0.1:9999/cb"
EVERY_GRANT = ["client_credentials", "code", "refresh_token", "device_authorization", "password"]


def call(method, path, body, session=None):
    request = urllib.request.Request(f"{BASE}/api{path}", json.dumps(body).encode(), method=method)
    request.add_header("Content-Type", "application/json")
    if session:
        request.add_header("Cookie", session)
    # Ignores any proxy that the environment configures.
    trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=f"{KEYS}/ca.pem"))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
    with opener.open(request, timeout=30) as response:
        return response.headers.get("Set-Cookie", "").split(";")[0]


def sign_in(username):
    return call("POST", "/auth/", {"username": username, "password": "password"})


def read(name):
    with open(f"{KEYS}/{name}") as file:
        return file.read()


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def public_jwk(key, **more):
    """Returns the public key as a JWK, taken from the end of its SubjectPublicKeyInfo."""
    command = ["openssl", "pkey", "-in", f"{KEYS}/{key}.key", "-pubout", "-outform", "DER"]
    der = subprocess.run(command, check=True, capture_output=True).stdout
    if "rsa" in key:  # 2048 bits, followed by the exponent 65537 in five bytes
        jwk = {"kty": "RSA", "n": base64url(der[-5 - 256 : -5]), "e": "AQAB"}
    elif "ed25519" in key:
        jwk = {"kty": "OKP", "crv": "Ed25519", "x": base64url(der[-32:])}
    else:
        curves = {"signing-es384": ("P-384", 48), "signing-es512": ("P-521", 66)}
        curve, size = curves.get(key, ("P-256", 32))
        jwk = {"kty": "EC", "crv": curve, "x": base64url(der[-2 * size : -size]), "y": base64url(der[-size:])}
    return {**jwk, "use": "sig", **more}


def plugin(name, access_token_seconds=120, one_use="always", nonce=False):
    return {
        "module": "oidc",
        "name": name,
        "display_name": name,
        "enabled": True,
        "parameters": {
            "iss": f"{BASE}/api/{name}",
            "jwt-type": "ecdsa",
            "jwt-key-size": "256",
            "key": read("signing.key"),
            "cert": read("signing.pub"),
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
            "register-client-allowed": True,
            "register-client-auth-scope": [],
            "register-client-credentials-scope": ["api"],
            "resource-allowed": True,
            "resource-client-property": "resource",
            "resource-scope": {},
            "resource-scope-and-client-property": False,
            "oauth-as-iss-id": True,
            "oauth-par-allowed": True,
            "oauth-par-required": False,
            "oauth-par-request_uri-prefix": "urn:ietf:params:oauth:request_uri:",
            "oauth-par-duration": 60,
            # This also enables client assertions.
            "request-parameter-allow": True,
            "request-maximum-exp": 3600,
            "client-jwks-parameter": "jwks",
            "oauth-dpop-allowed": True,
            "oauth-dpop-iat-duration": 60,
            "oauth-dpop-iat-gap-duration": 5,
            **({"oauth-dpop-nonce-mandatory": True, "oauth-dpop-nonce-counter": 5} if nonce else {}),
            "client-cert-source": "TLS" if IS_TLS else "",
            "client-cert-use-endpoint-aliases": IS_TLS,
        },
    }


def client(client_id, method, secret=SECRET, grants=("client_credentials",), keys=(), **more):
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
        **({"jwks": {"keys": keys}} if keys else {}),
        **more,
    }


def clients():
    yield client("basic", "client_secret_basic")
    yield client("post", "client_secret_post")
    yield client(ODD_ID, "client_secret_basic", ODD_SECRET)
    yield client("odd post", "client_secret_post", ODD_SECRET)
    # The second id is the form-encoded first id. The server does not decode, so these are different clients.
    yield client("two words", "client_secret_basic")
    yield client("two+words", "client_secret_basic")
    yield client("web", "client_secret_basic", grants=EVERY_GRANT)
    yield client("client_secret_jwt", "client_secret_jwt", HMAC_SECRET)
    for alg, key in SIGNING_KEYS.items():
        yield client(f"private_key_jwt-{alg}", "private_key_jwt", keys=[public_jwk(key, alg=alg, kid=alg)])


def tls_clients():
    yield client("tls", "tls_client_auth", tls_client_auth_san_dns="tls-client.example")


admin = sign_in("admin")
for scope in ("api", "api2"):
    call("POST", "/scope/", {"name": scope, "display_name": scope, "password_required": False, "scheme": {}}, admin)
user = {"username": "alice", "name": "Alice", "password": "password", "enabled": True, "scope": ["openid", "api", "g_profile"]}
call("POST", "/user/", user, admin)
for new in tls_clients() if IS_TLS else clients():
    call("POST", "/client/", new, admin)
plugins = (
    plugin("oidc"),
    plugin("steady", one_use="never"),
    plugin("short", access_token_seconds=2),
    plugin("nonce", nonce=True),
)
for new in (plugin("mtls"),) if IS_TLS else plugins:
    call("POST", "/mod/plugin/", new, admin)
if not IS_TLS:
    call("PUT", "/auth/grant/web", {"scope": "openid api"}, sign_in("alice"))
