// Tests that the resource server accepts only correct requests. Usage: node --test, in a folder filled by `certificates` and `client-keys`.
import assert from 'node:assert/strict';
import { createHash, randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import http from 'node:http';
import https from 'node:https';
import test, { after, mock } from 'node:test';
import { SignJWT, calculateJwkThumbprint, createLocalJWKSet, exportJWK, generateKeyPair } from 'jose';
import { resourceServer } from './resource-server.mjs';

const ISSUER = 'https://issuer.example';
const AUDIENCE = 'https://api.example/';
const pem = (name) => readFileSync(new URL(name, import.meta.url));
const hash = (data) => createHash('sha256').update(data).digest('base64url');
const now = () => Math.floor(Date.now() / 1000);

const generate = async (alg = 'ES256') => {
  const { privateKey, publicKey } = await generateKeyPair(alg, { extractable: true });
  const jwk = await exportJWK(publicKey);
  return { privateKey, jwk, jkt: await calculateJwkThumbprint(jwk), alg };
};
const issuer = await generate();
const strangers = await generate();
const issuers = new Map([[ISSUER, createLocalJWKSet({ keys: [{ ...issuer.jwk, kid: 'issuer', alg: 'ES256' }] })]]);

async function listen(server, scheme, host) {
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  after(() => server.close().closeAllConnections());
  const origin = `${scheme}://${host}:${server.address().port}`;
  server.on('request', resourceServer(issuers, origin));
  return origin;
}

const certificate = (name) => ({ key: pem(`${name}.key`), cert: pem(`${name}.pem`) });
const mutualTls = { ...certificate('server'), ca: pem('ca.pem'), requestCert: true, rejectUnauthorized: false };
const api = await listen(http.createServer(), 'http', '127.0.0.1');
const otherApi = await listen(http.createServer(), 'http', '127.0.0.1');
const tlsApi = await listen(https.createServer(mutualTls), 'https', 'localhost');

async function accessToken(cnf, { key = issuer.privateKey, header, ...claims } = {}) {
  const iat = now();
  const payload = { iss: ISSUER, aud: AUDIENCE, sub: 'c', client_id: 'c', iat, exp: iat + 60, jti: randomUUID(), cnf, ...claims };
  return new SignJWT(payload).setProtectedHeader({ alg: 'ES256', kid: 'issuer', typ: 'at+jwt', ...header }).sign(key);
}

// Returns a valid proof for GET `uri`, except for the given changes.
async function proof(key, token, uri, { header, signer = key, ...claims } = {}) {
  const payload = { jti: randomUUID(), htm: 'GET', htu: uri, iat: now(), ath: hash(token), ...claims };
  return new SignJWT(payload).setProtectedHeader({ alg: key.alg, typ: 'dpop+jwt', jwk: key.jwk, ...header }).sign(signer.privateKey);
}

async function send(uri, headers, { method = 'GET', body, ...options } = {}) {
  const { request } = uri.startsWith('https:') ? https : http;
  const sent = request(uri, { agent: false, ca: pem('ca.pem'), headers, method, ...options });
  const [response] = await once(sent.end(body), 'response');
  const text = Buffer.concat(await response.toArray()).toString();
  return { ...JSON.parse(text), status: response.statusCode, headers: response.headers, nonce: response.headers['dpop-nonce'] };
}

function refused(answer, error, description) {
  assert.equal(answer.status, 401);
  assert.equal(answer.error, error);
  assert.equal(answer.error_description, description);
  assert.ok(answer.headers['www-authenticate'].includes(`error="${error}", error_description="${description}"`));
}

const key = await generate();
const token = await accessToken({ jkt: key.jkt });
const dpop = (value, jwt) => ({ Authorization: `DPoP ${value}`, DPoP: jwt });

test('a valid proof with each algorithm is accepted', async () => {
  for (const alg of ['ES256', 'ES384', 'ES512', 'RS256', 'PS256', 'EdDSA', 'Ed25519']) {
    const key = await generate(alg);
    const token = await accessToken({ jkt: key.jkt });
    const answer = await send(`${api}/plain`, dpop(token, await proof(key, token, `${api}/plain`)));
    assert.equal(answer.status, 200, alg);
    assert.equal(answer.client_id, 'c');
    assert.equal(answer.cnf.jkt, key.jkt);
  }
});

test('the proof covers the method and the URI without its query', async () => {
  const jwt = await proof(key, token, `${api}/a%2Fb`, { htm: 'POST' });
  const answer = await send(`${api}/a%2Fb?c=d`, dpop(token, jwt), { method: 'POST', body: 'text' });
  assert.equal(answer.status, 200);
  assert.equal(answer.body, 'text');
});

test('a reused proof is refused', async () => {
  const jwt = await proof(key, token, `${api}/plain`);
  assert.equal((await send(`${api}/plain`, dpop(token, jwt))).status, 200);
  refused(await send(`${api}/plain`, dpop(token, jwt)), 'invalid_dpop_proof', 'jti: seen before');
});

test('a proof refused for its nonce cannot be reused', async () => {
  const jwt = await proof(key, token, `${api}/nonce/required`);
  refused(await send(`${api}/nonce/required`, dpop(token, jwt)), 'use_dpop_nonce', 'nonce: another is needed');
  refused(await send(`${api}/nonce/required`, dpop(token, jwt)), 'invalid_dpop_proof', 'jti: seen before');
});

const privateJwk = await exportJWK(key.privateKey);
const wrongProofs = {
  'another method': [{ htm: 'POST' }, 'htm: not the method'],
  'a lowercase method': [{ htm: 'get' }, 'htm: not the method'],
  'no method': [{ htm: undefined }, 'htm: not the method'],
  'another path': [{ htu: `${api}/other` }, 'htu: not the URI'],
  'another origin': [{ htu: `${otherApi}/plain` }, 'htu: not the URI'],
  'a query': [{ htu: `${api}/plain?` }, 'htu: not the URI'],
  'a fragment': [{ htu: `${api}/plain#` }, 'htu: not the URI'],
  'an additional slash': [{ htu: `${api}/plain/` }, 'htu: not the URI'],
  'no URI': [{ htu: undefined }, 'htu: not the URI'],
  'an old time': [{ iat: now() - 120 }, 'iat: not now'],
  'a future time': [{ iat: now() + 120 }, 'iat: not now'],
  'a time in quotes': [{ iat: String(now()) }, 'proof: not a JWT signed by the key in its header'],
  'no time': [{ iat: undefined }, 'iat: not now'],
  'the hash of another token': [{ ath: hash('another') }, 'ath: not of this token'],
  'no hash': [{ ath: undefined }, 'ath: not of this token'],
  'no identifier': [{ jti: undefined }, 'jti: too short to be unique'],
  'an identifier that can be guessed': [{ jti: '1' }, 'jti: too short to be unique'],
  'a nonce that was never issued': [{ nonce: 'made up' }, 'nonce: never issued here'],
  'a nonce that is not a string': [{ nonce: 1 }, 'nonce: not a string'],
  'another type': [{ header: { typ: 'JWT' } }, 'typ: not dpop+jwt'],
  'no type': [{ header: { typ: undefined } }, 'typ: not dpop+jwt'],
  'no key': [{ header: { jwk: undefined } }, 'proof: not a JWT signed by the key in its header'],
  'a private key': [{ header: { jwk: privateJwk } }, 'proof: not a JWT signed by the key in its header'],
  'the signature of another key': [{ signer: strangers }, 'proof: not a JWT signed by the key in its header'],
};
for (const [name, [change, description]] of Object.entries(wrongProofs)) {
  test(`a proof with ${name} is refused`, async () => {
    const answer = await send(`${api}/plain`, dpop(token, await proof(key, token, `${api}/plain`, change)));
    refused(answer, 'invalid_dpop_proof', description);
  });
}

test('a proof signed with a shared secret is refused', async () => {
  const jwk = { kty: 'oct', k: Buffer.alloc(32).toString('base64url') };
  const jwt = await proof(key, token, `${api}/plain`, { header: { alg: 'HS256', jwk }, signer: { privateKey: Buffer.alloc(32) } });
  refused(await send(`${api}/plain`, dpop(token, jwt)), 'invalid_dpop_proof', 'proof: not a JWT signed by the key in its header');
});

test('zero or two proofs are refused', async () => {
  const two = [await proof(key, token, `${api}/plain`), await proof(key, token, `${api}/plain`)];
  for (const headers of [{ Authorization: `DPoP ${token}` }, { Authorization: `DPoP ${token}`, DPoP: two }]) {
    refused(await send(`${api}/plain`, headers), 'invalid_dpop_proof', 'proof: not exactly one');
  }
});

test('a proof signed by a key that the token is not bound to is refused', async () => {
  const jwt = await proof(strangers, token, `${api}/plain`);
  refused(await send(`${api}/plain`, dpop(token, jwt)), 'invalid_token', 'token: bound to another key');
});

test('a bound token is not accepted as a bearer token', async () => {
  const headers = { Authorization: `Bearer ${token}`, DPoP: await proof(key, token, `${api}/plain`) };
  const answer = await send(`${api}/plain`, headers);
  refused(answer, 'invalid_token', 'token: not for this scheme');
  assert.match(answer.headers['www-authenticate'], /^DPoP .*algs="ES256 /);
});

test('a missing token is answered with a challenge without an error', async () => {
  const answer = await send(`${api}/plain`, {});
  assert.equal(answer.status, 401);
  assert.match(answer.headers['www-authenticate'], /^DPoP algs="[^"]+"$/);
});

test('malformed and duplicate tokens are refused', async () => {
  const right = dpop(token, await proof(key, token, `${api}/plain`));
  for (const wrong of [`Basic ${token}`, `dpop ${token}`, `DPoP  ${token}`, `DPoP ${token},`, [right.Authorization, right.Authorization]]) {
    refused(await send(`${api}/plain`, { ...right, Authorization: wrong }), 'invalid_token', 'token: not exactly one');
  }
  assert.equal((await send(`${api}/plain`, right)).status, 200);
});

test('a request for another origin is refused', async () => {
  const headers = { ...dpop(token, await proof(key, token, `${api}/plain`)), Host: new URL(otherApi).host };
  refused(await send(`${api}/plain`, headers), 'invalid_token', 'host: another origin');
});

const cnf = { jkt: key.jkt };
const wrongTokens = {
  'bound to nothing': [undefined, {}, 'token: bound to nothing'],
  'of another issuer': [cnf, { iss: 'https://other.example' }, 'token: not valid here'],
  'signed by another': [cnf, { key: strangers.privateKey }, 'token: not valid here'],
  'for another audience': [cnf, { aud: 'https://other.example/' }, 'token: not valid here'],
  'that has expired': [cnf, { exp: now() - 1 }, 'token: not valid here'],
  'without an end': [cnf, { exp: undefined }, 'token: not valid here'],
  'that is no access token': [cnf, { header: { typ: 'JWT' } }, 'token: not valid here'],
};
for (const [name, [cnf, change, description]] of Object.entries(wrongTokens)) {
  test(`a token ${name} is refused`, async () => {
    const token = await accessToken(cnf, change);
    const answer = await send(`${api}/plain`, dpop(token, await proof(key, token, `${api}/plain`)));
    refused(answer, 'invalid_token', description);
  });
}

// Returns a function that calls an API with its own new key.
async function caller() {
  const key = await generate();
  const token = await accessToken({ jkt: key.jkt });
  return async (uri, nonce) => send(uri, dpop(token, await proof(key, token, uri, { nonce })));
}

test('a required nonce changes, and the response contains the next one', async () => {
  const call = await caller();
  const uri = `${api}/nonce/required`;
  const refusal = await call(uri);
  refused(refusal, 'use_dpop_nonce', 'nonce: another is needed');
  let { nonce } = refusal;
  for (let round = 0; round < 3; round += 1) {
    for (const isLast of [false, false, true]) {
      const answer = await call(uri, nonce);
      assert.equal(answer.status, 200);
      assert.equal(answer.nonce !== undefined, isLast);
      nonce = answer.nonce ?? nonce;
    }
  }
  // The previous nonce is still valid, for requests in flight. Older ones are not.
  const { nonce: newest } = await call(uri, refusal.nonce);
  assert.equal(newest, nonce);
  refused(await call(uri, refusal.nonce), 'use_dpop_nonce', 'nonce: another is needed');
});

test('a nonce can change without notice', async () => {
  const call = await caller();
  const uri = `${api}/nonce/sudden`;
  const { nonce } = await call(uri);
  for (let use = 0; use < 3; use += 1) {
    const answer = await call(uri, nonce);
    assert.equal(answer.status, 200);
    assert.equal(answer.nonce, undefined);
  }
  const refusal = await call(uri, nonce);
  refused(refusal, 'use_dpop_nonce', 'nonce: another is needed');
  assert.notEqual(refusal.nonce, nonce);
  assert.equal((await call(uri, refusal.nonce)).status, 200);
});

test('a nonce can change over time', async () => {
  const call = await caller();
  const uri = `${api}/nonce/timed`;
  mock.timers.enable({ apis: ['Date'], now: Date.now() });
  try {
    const { nonce } = await call(uri);
    for (let use = 0; use < 5; use += 1) assert.equal((await call(uri, nonce)).nonce, undefined);
    mock.timers.tick(1500);
    const answer = await call(uri, nonce);
    assert.equal(answer.status, 200);
    assert.notEqual(answer.nonce, nonce);
    mock.timers.tick(1500);
    refused(await call(uri, nonce), 'use_dpop_nonce', 'nonce: another is needed');
    assert.equal((await call(uri, answer.nonce)).status, 200);
    mock.timers.tick(10_000);
    refused(await call(uri, answer.nonce), 'use_dpop_nonce', 'nonce: another is needed');
  } finally {
    mock.timers.reset();
  }
});

test('an optional nonce is offered, accepted, and refused if wrong', async () => {
  const call = await caller();
  const uri = `${api}/nonce/optional`;
  const { status, nonce } = await call(uri);
  assert.equal(status, 200);
  assert.equal((await call(uri, nonce)).status, 200);
  assert.equal((await call(`${api}/plain`, nonce)).status, 200);
  refused(await call(uri, 'made up'), 'use_dpop_nonce', 'nonce: another is needed');
});

test('a path that accepts no nonce refuses all of them', async () => {
  const call = await caller();
  let nonce;
  for (let turn = 0; turn < 3; turn += 1) {
    const refusal = await call(`${api}/nonce/never`, nonce);
    refused(refusal, 'use_dpop_nonce', 'nonce: another is needed');
    assert.notEqual(refusal.nonce, nonce);
    nonce = refusal.nonce;
  }
});

test('a nonce is valid for one origin and one key', async () => {
  const [call, another] = [await caller(), await caller()];
  const { nonce } = await call(`${api}/nonce/required`);
  refused(await call(`${otherApi}/nonce/required`, nonce), 'use_dpop_nonce', 'nonce: another is needed');
  refused(await call(`${otherApi}/plain`, nonce), 'invalid_dpop_proof', 'nonce: never issued here');
  refused(await another(`${api}/nonce/required`, nonce), 'use_dpop_nonce', 'nonce: another is needed');
});

const thumbprint = (name) => {
  const [, base64] = /-----BEGIN CERTIFICATE-----([^-]+)/.exec(pem(`${name}.pem`).toString());
  return hash(Buffer.from(base64, 'base64'));
};
const bearer = (value) => ({ Authorization: `Bearer ${value}` });

test('a token bound to a certificate is accepted only with that certificate', async () => {
  for (const name of ['tls-client', 'tls-client-self-signed']) {
    const token = await accessToken({ 'x5t#S256': thumbprint(name) });
    const answer = await send(`${tlsApi}/plain`, bearer(token), certificate(name));
    assert.equal(answer.status, 200);
    for (const wrong of ['tls-client-next', 'tls-client-other-ca']) {
      const refusal = await send(`${tlsApi}/plain`, bearer(token), certificate(wrong));
      refused(refusal, 'invalid_token', 'token: bound to another certificate');
      assert.match(refusal.headers['www-authenticate'], /^Bearer /);
    }
    refused(await send(`${tlsApi}/plain`, bearer(token)), 'invalid_token', 'token: bound to a certificate, and none was shown');
    refused(await send(`${api}/plain`, bearer(token)), 'invalid_token', 'token: bound to a certificate, and none was shown');
  }
});

test('a token bound to a key and a certificate requires both', async () => {
  const token = await accessToken({ jkt: key.jkt, 'x5t#S256': thumbprint('tls-client') });
  const uri = `${tlsApi}/plain`;
  const answer = await send(uri, dpop(token, await proof(key, token, uri)), certificate('tls-client'));
  assert.equal(answer.status, 200);
  refused(await send(uri, dpop(token, await proof(key, token, uri))), 'invalid_token', 'token: bound to a certificate, and none was shown');
  refused(await send(uri, { Authorization: `DPoP ${token}` }, certificate('tls-client')), 'invalid_dpop_proof', 'proof: not exactly one');
});
