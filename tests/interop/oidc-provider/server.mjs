// oidc-provider with what the interop tests use. Usage: node server.mjs <folder with server.key, server.pem and ca.pem> [port]
//
// Each port is bound first and then put into the issuer, so that several runs never meet on one port.
// Prints NAME=value for each instance and then `ready`.
import { generateKeyPairSync } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import Provider, { errors } from 'oidc-provider';

const [certificates, port] = process.argv.slice(2);
const pem = (name) => readFileSync(`${certificates}/${name}`);

const AUTHORIZATION_CODE = 'authorization_code';
const CLIENT_CREDENTIALS = 'client_credentials';
const DEVICE_CODE = 'urn:ietf:params:oauth:grant-type:device_code';
const REFRESH_TOKEN = 'refresh_token';
const SECRET = 'interop-secret-0123456789abcdef0123456789abcdef';
// Every class of byte that the form encoding inside Basic (RFC 6749 §2.3.1) must get right.
const ODD_SECRET = "p@ss:w%rd+with space&=/?~!*'()";

const machine = (client_id, token_endpoint_auth_method, client_secret) => ({
  client_id,
  client_secret,
  token_endpoint_auth_method,
  grant_types: [CLIENT_CREDENTIALS],
  redirect_uris: [],
  response_types: [],
});

const clients = [
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
    redirect_uris: ['http://127.0.0.1/cb'],
  },
];

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
  // Opaque tokens can be introspected and revoked; those of this resource also expire while a test watches.
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

function provider(issuer) {
  const provider = new Provider(issuer, {
    clients,
    jwks,
    clientAuthMethods: ['client_secret_basic', 'client_secret_post', 'none'],
    cookies: { keys: ['interop'] },
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
      clientCredentials: { enabled: true },
      devInteractions: { enabled: true },
      deviceFlow: { enabled: true },
      introspection: { enabled: true },
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

async function serve(name, server, scheme, host, port = 0) {
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  const issuer = `${scheme}://${host}:${server.address().port}`;
  server.on('request', provider(issuer).callback());
  await answers(`${issuer}/.well-known/openid-configuration`);
  console.log(`${name}=${issuer}`);
}

async function answers(uri) {
  const get = uri.startsWith('https:') ? https.get : http.get;
  const [response] = await once(get(uri, { agent: false, ca: pem('ca.pem') }), 'response');
  response.resume();
  if (response.statusCode !== 200) throw new Error(`${uri} answers ${response.statusCode}`);
}

// The port is named by the test that starts a server in the place of another.
await serve('OIDC_PROVIDER', http.createServer(), 'http', '127.0.0.1', port);
await serve(
  'OIDC_PROVIDER_TLS',
  https.createServer({ key: pem('server.key'), cert: pem('server.pem') }),
  'https',
  'localhost',
);
console.log(`OIDC_PROVIDER_NODE=${process.execPath}`);
console.log(`OIDC_PROVIDER_SCRIPT=${process.argv[1]}`);
console.log(`OIDC_PROVIDER_CA=${certificates}/ca.pem`);
console.log('ready');
