// An API that accepts only access tokens bound to a key (RFC 9449) or to a certificate (RFC 8705), and checks everything strictly.
//
// Its handling of nonces depends on the path. Nonces are separate for each origin and each key, so that tests do not affect each
// other.
//
//   /nonce/optional  a nonce is optional; a wrong one is refused; a response contains the newest nonce unless the request had it
//   /nonce/required  a nonce is required; it changes after every third use, and the response to that use contains the next one
//   /nonce/sudden    a nonce is required and changes in the same way, but only a refusal contains the next one
//   /nonce/timed     like required, but the nonce changes every one and a half seconds, however often it is used
//   /nonce/never     every nonce is refused
//   other paths      a nonce is not needed, but a nonce that this origin never issued is refused
import { createHash, randomBytes } from 'node:crypto';
import { EmbeddedJWK, calculateJwkThumbprint, decodeJwt, jwtVerify } from 'jose';

export const PROOF_ALGORITHMS = ['ES256', 'ES384', 'ES512', 'RS256', 'PS256', 'EdDSA', 'Ed25519'];
const AUDIENCES = ['https://api.example/', 'https://short-jwt.example/'];
// How often a nonce can be used, and for how many milliseconds a timed nonce is the newest.
const USES = 3;
const PERIOD = 1500;
// How many seconds a proof may be in the past or in the future.
const PAST = 60;
const FUTURE = 5;

const base64urlSha256 = (data) => createHash('sha256').update(data).digest('base64url');

class Refusal extends Error {
  constructor(error, description, { scheme = 'DPoP', nonce } = {}) {
    super(description);
    this.error = error;
    this.scheme = scheme;
    this.nonce = nonce;
  }

  challenge() {
    const error = this.error && `error="${this.error}", error_description="${this.message}"`;
    const algs = this.scheme === 'DPoP' && `algs="${PROOF_ALGORITHMS.join(' ')}"`;
    return `${this.scheme} ${[error, algs].filter(Boolean).join(', ')}`;
  }
}

const invalidToken = (description, scheme) => new Refusal('invalid_token', description, { scheme });

function ensure(holds, description) {
  if (!holds) throw new Refusal('invalid_dpop_proof', description);
}

// The nonces issued to one key.
class Nonces {
  #issued = new Set();
  #uses = 0;
  #period = Math.floor(Date.now() / PERIOD);
  #current;
  #previous;

  constructor() {
    this.#roll();
  }

  #roll() {
    this.#previous = this.#current;
    this.#current = randomBytes(16).toString('base64url');
    this.#uses = 0;
  }

  // Catches up on the elapsed periods. More than two rolls make no difference.
  #rollByTime() {
    const period = Math.floor(Date.now() / PERIOD);
    for (let rolls = Math.min(period - this.#period, 2); rolls > 0; rolls -= 1) this.#roll();
    this.#period = period;
  }

  // Checks the nonce of a proof, and returns the nonce to put into the response.
  judge(nonce, path) {
    if (!path.startsWith('/nonce/')) {
      ensure(nonce === undefined || this.#issued.has(nonce), 'nonce: never issued here');
      return undefined;
    }
    if (nonce === undefined && path === '/nonce/optional') return this.#issue();
    if (path === '/nonce/never') this.#roll();
    if (path === '/nonce/timed') this.#rollByTime();
    const isKnown = nonce === this.#current || (path !== '/nonce/sudden' && nonce === this.#previous);
    if (nonce === undefined || !isKnown || path === '/nonce/never') {
      throw new Refusal('use_dpop_nonce', 'nonce: another is needed', { nonce: this.#issue() });
    }
    if (nonce === this.#current && path !== '/nonce/timed' && ++this.#uses === USES) this.#roll();
    return nonce === this.#current || path === '/nonce/sudden' ? undefined : this.#issue();
  }

  #issue() {
    this.#issued.add(this.#current);
    return this.#current;
  }
}

// Returns a request listener for one origin. `issuers` maps each issuer to its key set.
export function resourceServer(issuers, origin) {
  const seen = new Set();
  const nonces = new Map();

  async function verifyToken(token, scheme) {
    try {
      const { iss } = decodeJwt(token);
      if (!issuers.has(iss)) throw new Error('the issuer is unknown');
      const { payload } = await jwtVerify(token, issuers.get(iss), {
        algorithms: ['ES256'],
        audience: AUDIENCES,
        issuer: iss,
        requiredClaims: ['client_id', 'exp', 'iat', 'jti', 'sub'],
        typ: 'at+jwt',
      });
      return payload;
    } catch {
      throw invalidToken('token: not valid here', scheme);
    }
  }

  // The checks of RFC 9449 §4.3, in the same order.
  async function verifyProof(request, token, jkt) {
    const proofs = request.headersDistinct.dpop ?? [];
    ensure(proofs.length === 1, 'proof: not exactly one');
    let payload, protectedHeader;
    try {
      ({ payload, protectedHeader } = await jwtVerify(proofs[0], EmbeddedJWK, { algorithms: PROOF_ALGORITHMS }));
    } catch {
      throw new Refusal('invalid_dpop_proof', 'proof: not a JWT signed by the key in its header');
    }
    const { jti, htm, htu, iat, ath, nonce } = payload;
    // A proof counts as used once it has been seen, even if another check fails.
    ensure(typeof jti === 'string' && jti.length >= 16, 'jti: too short to be unique');
    ensure(!seen.has(jti), 'jti: seen before');
    seen.add(jti);
    ensure(protectedHeader.typ === 'dpop+jwt', 'typ: not dpop+jwt');
    ensure(htm === request.method, 'htm: not the method');
    ensure(htu === origin + request.url.split('?', 1)[0], 'htu: not the URI');
    ensure(nonce === undefined || (typeof nonce === 'string' && nonce !== ''), 'nonce: not a string');
    const age = Date.now() / 1000 - iat;
    ensure(typeof iat === 'number' && age <= PAST && age >= -FUTURE, 'iat: not now');
    ensure(ath === base64urlSha256(token), 'ath: not of this token');
    if ((await calculateJwkThumbprint(protectedHeader.jwk)) !== jkt) {
      throw invalidToken('token: bound to another key');
    }
    return payload;
  }

  function verifyCertificate(request, expected, scheme) {
    const certificate = request.socket.getPeerX509Certificate?.();
    if (!certificate) throw invalidToken('token: bound to a certificate, and none was shown', scheme);
    if (base64urlSha256(certificate.raw) !== expected) throw invalidToken('token: bound to another certificate', scheme);
  }

  async function authorize(request) {
    const [authorization, ...more] = request.headersDistinct.authorization ?? [];
    if (authorization === undefined) throw new Refusal(undefined, 'no token');
    const [, scheme, token] = /^(DPoP|Bearer) ([\w.~+/-]+=*)$/.exec(authorization) ?? [];
    if (token === undefined || more.length > 0) throw invalidToken('token: not exactly one');

    const { client_id, cnf = {} } = await verifyToken(token, scheme);
    const { jkt, 'x5t#S256': x5t } = cnf;
    if (jkt === undefined && x5t === undefined) throw invalidToken('token: bound to nothing', scheme);
    if ((scheme === 'DPoP') !== (jkt !== undefined)) throw invalidToken('token: not for this scheme', jkt ? 'DPoP' : 'Bearer');
    if (x5t !== undefined) verifyCertificate(request, x5t, scheme);
    if (jkt === undefined) return { client_id, cnf };

    const { jti, nonce } = await verifyProof(request, token, jkt);
    if (!nonces.has(jkt)) nonces.set(jkt, new Nonces());
    const next = nonces.get(jkt).judge(nonce, request.url.split('?', 1)[0]);
    return { client_id, cnf, jti, nonce, next };
  }

  return async (request, response) => {
    const body = Buffer.concat(await request.toArray()).toString();
    const answer = (status, headers, value) => {
      response.writeHead(status, { 'Cache-Control': 'no-store', 'Content-Type': 'application/json', ...headers });
      response.end(JSON.stringify(value));
    };
    try {
      if (request.headers.host !== new URL(origin).host) throw invalidToken('host: another origin');
      const { next, ...rest } = await authorize(request);
      answer(200, next && { 'DPoP-Nonce': next }, { ...rest, body });
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) {
        console.error(origin, refusal);
        return answer(500, {}, {});
      }
      const { error, message, nonce } = refusal;
      console.error(origin, request.method, request.url, error, message);
      const headers = { 'WWW-Authenticate': refusal.challenge(), ...(nonce && { 'DPoP-Nonce': nonce }) };
      answer(401, headers, { error, error_description: message });
    }
  };
}
