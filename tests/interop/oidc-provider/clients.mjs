// The clients registered at oidc-provider.
import { X509Certificate, createPublicKey } from 'node:crypto';

const AUTHORIZATION_CODE = 'authorization_code';
const CIBA = 'urn:openid:params:grant-type:ciba';
const CLIENT_CREDENTIALS = 'client_credentials';
const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';
export const REFRESH_TOKEN = 'refresh_token';

const SECRET = 'interop-secret-0123456789abcdef0123456789abcdef';
// HMAC keys must be at least as long as the hash; this is long enough for all hashes (RFC 7518 §3.2).
const HMAC_SECRET = 'interop-hmac-secret-0123456789abcdef0123456789abcdef0123456789abcdef';
// Every class of byte that the form encoding in Basic (RFC 6749 §2.3.1) must handle correctly.
const ODD_SECRET = "p@ss:w%rd+with space&=/?~!*'()";

const HMAC = ['HS256', 'HS384', 'HS512'];
const SIGNING_KEYS = {
  RS256: 'rsa',
  RS384: 'rsa',
  RS512: 'rsa',
  PS256: 'rsa',
  PS384: 'rsa',
  PS512: 'rsa',
  ES256: 'es256',
  ES384: 'es384',
  ES512: 'es512',
  EdDSA: 'ed25519',
  Ed25519: 'ed25519',
};
const SIGNING_ALGORITHMS = Object.keys(SIGNING_KEYS);
export const CLIENT_ALGORITHMS = [...HMAC, ...SIGNING_ALGORITHMS];

const machine = (client_id, token_endpoint_auth_method, client_secret) => ({
  client_id,
  client_secret,
  token_endpoint_auth_method,
  grant_types: [CLIENT_CREDENTIALS],
  redirect_uris: [],
  response_types: [],
});

const publicJwk = (key, more) => ({ ...createPublicKey(key).export({ format: 'jwk' }), use: 'sig', ...more });

const secretClients = [
  machine('basic', 'client_secret_basic', SECRET),
  machine('basic:odd id%+', 'client_secret_basic', ODD_SECRET),
  machine('odd', 'client_secret_basic', ODD_SECRET),
  { ...machine('post', 'client_secret_post', SECRET), scope: 'api:read' },
  {
    client_id: 'web',
    client_secret: SECRET,
    token_endpoint_auth_method: 'client_secret_basic',
    grant_types: [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE],
    response_types: ['code'],
    redirect_uris: ['http://127.0.0.1:9999/cb'],
  },
  {
    client_id: 'public',
    token_endpoint_auth_method: 'none',
    application_type: 'native',
    grant_types: [AUTHORIZATION_CODE, REFRESH_TOKEN, DEVICE_CODE],
    response_types: ['code'],
    redirect_uris: ['http://127.0.0.1/cb', 'http://127.0.0.1/callback'],
  },
  {
    ...machine('ciba', 'client_secret_basic', SECRET),
    backchannel_token_delivery_mode: 'poll',
    grant_types: [CIBA, REFRESH_TOKEN],
  },
  { ...machine('dpop', 'client_secret_basic', SECRET), dpop_bound_access_tokens: true },
];

// `client_secret_jwt-HS256` etc., and `private_key_jwt-RS256` etc., whose `kid` is the name of the algorithm.
const jwtClients = (pem) => [
  ...HMAC.map((alg) => ({
    ...machine(`client_secret_jwt-${alg}`, 'client_secret_jwt', HMAC_SECRET),
    token_endpoint_auth_signing_alg: alg,
  })),
  ...SIGNING_ALGORITHMS.map((alg) => ({
    ...machine(`private_key_jwt-${alg}`, 'private_key_jwt'),
    token_endpoint_auth_signing_alg: alg,
    jwks: { keys: [publicJwk(pem(`signing-${SIGNING_KEYS[alg]}.key`), { alg, kid: alg })] },
  })),
  // FAPI 2.0: only pushed requests, only bound tokens.
  {
    client_id: 'fapi',
    token_endpoint_auth_method: 'private_key_jwt',
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [publicJwk(pem('signing-es256.key'), { alg: 'ES256', kid: 'ES256' })] },
    grant_types: [AUTHORIZATION_CODE, REFRESH_TOKEN],
    response_types: ['code'],
    redirect_uris: ['http://127.0.0.1:9999/cb'],
    require_pushed_authorization_requests: true,
    dpop_bound_access_tokens: true,
  },
  // Must send the thumbprint of its certificate instead of a `kid`: see `certificateIsNamed`.
  {
    ...machine('private_key_jwt-x5t', 'private_key_jwt'),
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [publicJwk(pem('signing-es256.key'), certificate(pem('signing-es256.pem')))] },
  },
];

function certificate(pem) {
  const { raw, fingerprint256 } = new X509Certificate(pem);
  return {
    x5c: [raw.toString('base64')],
    'x5t#S256': Buffer.from(fingerprint256.replaceAll(':', ''), 'hex').toString('base64url'),
  };
}

// oidc-provider itself selects keys only by `kid` and `alg`.
export function certificateIsNamed(header, client) {
  const [key] = client.jwks?.keys ?? [];
  if (client.clientAuthMethod !== 'private_key_jwt' || !key?.['x5t#S256']) return true;
  return header['x5t#S256'] === key['x5t#S256'] && header.kid === undefined;
}

const boundToCertificate = { tls_client_certificate_bound_access_tokens: true };
const tlsClients = (pem) => [
  {
    ...machine('tls', 'tls_client_auth'),
    ...boundToCertificate,
    tls_client_auth_subject_dn: 'CN=tls-client,O=Interop',
  },
  {
    ...machine('tls-self-signed', 'self_signed_tls_client_auth'),
    ...boundToCertificate,
    jwks: { keys: [publicJwk(pem('tls-client-self-signed.key'), certificate(pem('tls-client-self-signed.pem')))] },
  },
  // Authenticates with a signed JWT. Its tokens are bound to the certificate of its TLS connection.
  {
    ...machine('tls-private_key_jwt', 'private_key_jwt'),
    ...boundToCertificate,
    token_endpoint_auth_signing_alg: 'ES256',
    jwks: { keys: [publicJwk(pem('signing-es256.key'), { alg: 'ES256', kid: 'ES256' })] },
  },
];

// `pem` reads a file made by `client-keys`.
export const clients = (pem, { tls }) => [...secretClients, ...jwtClients(pem), ...(tls ? tlsClients(pem) : [])];
