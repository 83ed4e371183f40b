// Runs oidc-provider as the interop tests need it, and APIs that accept its tokens.
//
// Usage: node server.mjs <folder filled by `certificates` and `client-keys`> [port; starts only the first instance]
//
// Each port is bound first and then put into the issuer, so that concurrent runs never use the same port.
// Prints NAME=value for each instance and then `ready`.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import { createLocalJWKSet } from 'jose';
import Provider, { errors } from 'oidc-provider';
import { CLIENT_ALGORITHMS, REFRESH_TOKEN, certificateIsNamed, clients } from './clients.mjs';
import { PROOF_ALGORITHMS, resourceServer } from './resource-server.mjs';

const [certificates, port] = process.argv.slice(2);
const pem = (name) => readFileSync(`${certificates}/${name}`);

// How many tokens can be requested with one nonce of the rolling instance.
const ROLL = 3;
// After how many milliseconds the user of a CIBA request decides.
const DECISION = 1500;

const signingKey = (alg, type, options) => {
  const { privateKey } = generateKeyPairSync(type, options);
  return { ...privateKey.export({ format: 'jwk' }), alg, kid: alg, use: 'sig' };
};
const jwks = {
  keys: [
    signingKey('RS256', 'rsa', { modulusLength: 2048 }),
    signingKey('ES256', 'ec', { namedCurve: 'P-256' }),
  ],
};

async function getResourceServerInfo(ctx, resource) {
  const { hostname } = new URL(resource);
  // Opaque tokens can be introspected and revoked. Those of this resource also expire during a test.
  if (hostname === 'short.example') {
    return { scope: 'api:read', audience: resource, accessTokenFormat: 'opaque', accessTokenTTL: 2 };
  }
  const accessTokenTTL = { 'api.example': 120, 'short-jwt.example': 2 }[hostname];
  if (accessTokenTTL === undefined) throw new errors.InvalidTarget();
  return {
    scope: 'api:read api:write',
    audience: resource,
    accessTokenFormat: 'jwt',
    accessTokenTTL,
    jwt: { sign: { alg: 'ES256' } },
  };
}

const peer = (ctx) => ctx.socket.getPeerX509Certificate?.();
const mTLS = {
  enabled: true,
  certificateBoundAccessTokens: true,
  selfSignedTlsClientAuth: true,
  tlsClientAuth: true,
  getCertificate: peer,
  certificateAuthorized: (ctx) => ctx.socket.authorized,
  // RFC 4514 writes a name in reverse order.
  certificateSubjectMatches: (ctx, property, expected) =>
    property === 'tls_client_auth_subject_dn' && peer(ctx).subject.split('\n').reverse().join(',') === expected,
};
// Some of the paths of oidc-provider.
const ALIASES = {
  token_endpoint: '/token',
  revocation_endpoint: '/token/revocation',
  introspection_endpoint: '/token/introspection',
  device_authorization_endpoint: '/device/auth',
};

// Everybody can register a client, except where this token is demanded.
const INITIAL_ACCESS_TOKEN = 'interop-initial-access-token';

// A client whose id is `https://clients.example/<port>/<name>` publishes its metadata on this machine.
const published = (url) => String(url).replace(/^https:\/\/clients\.example\/(\d+)\//, 'http://127.0.0.1:$1/');

// `dpop`: whether DPoP is supported. `nonce`: whether a proof must have a nonce (RFC 9449 §8). `aliases`: the origin that requests client certificates (RFC 8705 §5). `initialAccess`: whether a client needs the token to register.
function provider(issuer, { dpop = true, nonce = false, aliases, initialAccess = false } = {}) {
  const provider = new Provider(issuer, {
    clients: clients(pem, { tls: aliases !== undefined }),
    jwks,
    assertJwtClientAuthClaimsAndHeader: async (ctx, claims, header, client) => {
      if (!certificateIsNamed(header, client)) throw new errors.InvalidClientAuth('x5t#S256 does not match the certificate of the client');
    },
    clientAuthMethods: [
      'client_secret_basic',
      'client_secret_post',
      'client_secret_jwt',
      'private_key_jwt',
      'none',
      ...(aliases ? ['tls_client_auth', 'self_signed_tls_client_auth'] : []),
    ],
    cookies: { keys: ['interop'] },
    discovery: aliases && {
      mtls_endpoint_aliases: Object.fromEntries(Object.entries(ALIASES).map(([name, path]) => [name, aliases + path])),
    },
    enabledJWA: {
      clientAuthSigningAlgValues: CLIENT_ALGORITHMS,
      dPoPSigningAlgValues: PROOF_ALGORITHMS,
    },
    fetch: (url, options) => fetch(published(url), { ...options, dispatcher: undefined }),
    findAccount: async (ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    issueRefreshToken: async (ctx, client) => client.grantTypeAllowed(REFRESH_TOKEN),
    pkce: { required: () => true },
    rotateRefreshToken: true,
    scopes: ['openid', 'offline_access', 'api:read', 'api:write'],
    ttl: {
      AccessToken: 120,
      ClientCredentials: (ctx, token) => token.resourceServer?.accessTokenTTL ?? 60,
      DeviceCode: 60,
      Grant: 3600,
      IdToken: 600,
      Interaction: 600,
      RefreshToken: 3600,
      Session: 600,
    },
    features: {
      ciba: {
        enabled: true,
        deliveryModes: ['poll'],
        processLoginHint: async (ctx, hint) => (hint === 'unknown' ? undefined : hint),
        triggerAuthenticationDevice: async (ctx, request) => {
          setTimeout(() => decide(provider, request).catch((error) => console.error(issuer, error)), DECISION);
        },
        validateRequestContext: async () => {},
        verifyUserCode: async () => {},
      },
      clientCredentials: { enabled: true },
      clientIdMetadataDocument: { enabled: true, ack: 'draft-02' },
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      dPoP: { enabled: dpop, nonceSecret: randomBytes(32), requireNonce: () => nonce },
      introspection: { enabled: true },
      jwtIntrospection: { enabled: true },
      jwtUserinfo: { enabled: true },
      mTLS: aliases ? mTLS : { enabled: false },
      registration: { enabled: true, initialAccessToken: initialAccess ? INITIAL_ACCESS_TOKEN : false },
      resourceIndicators: {
        enabled: true,
        defaultResource: async () => undefined,
        getResourceServerInfo,
      },
      revocation: { enabled: true },
    },
  });
  provider.on('grant.error', (ctx, error) => {
    console.error(issuer, ctx.oidc?.client?.clientId, error.error, error.error_description, error.error_detail);
  });
  provider.on('server_error', (ctx, error) => console.error(issuer, error));
  return provider;
}

// Decides about a CIBA request in place of the user: everybody agrees, except mallory.
async function decide(provider, request) {
  const { accountId, clientId } = request;
  if (accountId === 'mallory') {
    await provider.backchannelResult(request, new errors.AccessDenied());
    return;
  }
  const grant = new provider.Grant({ accountId, clientId });
  grant.addOIDCScope('openid offline_access');
  await grant.save();
  await provider.backchannelResult(request, grant, { authTime: Math.floor(Date.now() / 1000) });
}

// Nonces of oidc-provider are valid for minutes. Here, another provider with other nonces takes over after every `ROLL` tokens. Clients
// notice this only when the new provider refuses the previous nonce. The providers share their storage.
function rolling(issuer) {
  let tokens = 0;
  let current;
  const roll = () => {
    const next = provider(issuer, { nonce: true });
    next.use(async (ctx, proceed) => {
      await proceed();
      if (ctx.oidc?.route === 'token' && ctx.status === 200 && ++tokens % ROLL === 0) roll();
    });
    current = next.callback();
  };
  roll();
  return (request, response) => current(request, response);
}

async function bind(server, scheme, host, port = 0) {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return `${scheme}://${host}:${server.address().port}`;
}

const bindPlain = (server, port) => bind(server, 'http', '127.0.0.1', port);
const bindTls = (server) => bind(server, 'https', 'localhost');

async function json(uri) {
  const get = uri.startsWith('https:') ? https.get : http.get;
  const [response] = await once(get(uri, { agent: false, ca: pem('ca.pem') }), 'response');
  if (response.statusCode !== 200) throw new Error(`${uri} answers ${response.statusCode}`);
  return JSON.parse(Buffer.concat(await response.toArray()));
}

// The key sets of the running issuers.
const issuers = new Map();

async function answers(name, issuer) {
  const { jwks_uri } = await json(`${issuer}/.well-known/openid-configuration`);
  issuers.set(issuer, createLocalJWKSet(await json(jwks_uri)));
  console.log(`${name}=${issuer}`);
}

async function serve(name, app, port) {
  const server = http.createServer();
  const issuer = await bindPlain(server, port);
  server.on('request', app(issuer));
  await answers(name, issuer);
}

async function serveTls() {
  const server = https.createServer(tls);
  const mutual = https.createServer(mutualTls);
  const aliases = await bindTls(mutual);
  const issuer = await bindTls(server);
  const strict = https.createServer({ ...mutualTls, rejectUnauthorized: true });
  const app = provider(issuer, { aliases }).callback();
  for (const each of [server, mutual, strict]) each.on('request', app);
  await answers('OIDC_PROVIDER_TLS', issuer);
  console.log(`OIDC_PROVIDER_MTLS=${aliases}`);
  console.log(`OIDC_PROVIDER_STRICT_MTLS=${await bindTls(strict)}`);
}

async function serveApi(name, server, bindTo) {
  const origin = await bindTo(server);
  server.on('request', resourceServer(issuers, origin));
  console.log(`${name}=${origin}`);
}

const tls = { key: pem('server.key'), cert: pem('server.pem') };
// Requests a certificate and accepts any. It is verified above TLS.
const mutualTls = { ...tls, ca: pem('ca.pem'), requestCert: true, rejectUnauthorized: false };

// A test that restarts a server passes the port of the old one.
await serve('OIDC_PROVIDER', (issuer) => provider(issuer).callback(), port);
if (port === undefined) {
  await serve('OIDC_PROVIDER_BEARER', (issuer) => provider(issuer, { dpop: false, initialAccess: true }).callback());
  await serve('OIDC_PROVIDER_NONCE', (issuer) => provider(issuer, { nonce: true }).callback());
  await serve('OIDC_PROVIDER_ROLLING_NONCE', rolling);
  await serveTls();
  await serveApi('OIDC_PROVIDER_API', http.createServer(), bindPlain);
  await serveApi('OIDC_PROVIDER_OTHER_API', http.createServer(), bindPlain);
  await serveApi('OIDC_PROVIDER_TLS_API', https.createServer(mutualTls), bindTls);
}
console.log(`OIDC_PROVIDER_NODE=${process.execPath}`);
console.log(`OIDC_PROVIDER_SCRIPT=${process.argv[1]}`);
console.log(`OIDC_PROVIDER_CA=${certificates}/ca.pem`);
console.log(`OIDC_PROVIDER_KEYS=${certificates}`);
console.log('ready');
