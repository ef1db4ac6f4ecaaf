// Uses an issuer with oauth4webapi, which checks each answer strictly by the standards. It
// prints "ok NAME" for each part that has passed, and ends with an error at the first that
// fails.
//
// usage: node oauth4webapi.mjs '{"mcp": URL, "issuer": URL, "key": SECRET, "machine": ID, "secret": SECRET}'
//
// machine is a client of the config that has an account of its own.
import * as oauth from 'oauth4webapi';
import { Person } from './person.mjs';

const { mcp, issuer, key, machine, secret } = JSON.parse(process.argv[2]);
const person = new Person(key);
const insecure = { [oauth.allowInsecureRequests]: true }; // the issuer of the test is on loopback
const ok = (name) => console.log(`ok ${name}`);
const check = (fact, message) => { if (!fact) throw new Error(message); };

const resource = await oauth.processResourceDiscoveryResponse(new URL(mcp), await oauth.resourceDiscoveryRequest(new URL(mcp), insecure));
check(resource.authorization_servers?.[0] === issuer, `authorization_servers: ${resource.authorization_servers}`);
ok('resource');

let as;
for (const algorithm of ['oauth2', 'oidc']) {
  as = await oauth.processDiscoveryResponse(new URL(issuer), await oauth.discoveryRequest(new URL(issuer), { algorithm, ...insecure }));
  ok(`discovery ${algorithm}`);
}

const redirect = 'http://127.0.0.1:7002/callback';
async function register(method, more) {
  const metadata = { ...more, client_name: 'Judge', redirect_uris: [redirect], token_endpoint_auth_method: method, grant_types: ['authorization_code', 'refresh_token', 'urn:ietf:params:oauth:grant-type:device_code'], response_types: ['code'] };
  const client = await oauth.processDynamicClientRegistrationResponse(await oauth.dynamicClientRegistrationRequest(as, metadata, insecure));
  check(client.token_endpoint_auth_method === method, `registered as ${client.token_endpoint_auth_method}`);
  return client;
}

async function authorize(client, auth) {
  const verifier = oauth.generateRandomCodeVerifier();
  const state = oauth.generateRandomState();
  const url = new URL(as.authorization_endpoint);
  url.search = new URLSearchParams({
    client_id: client.client_id, redirect_uri: redirect, response_type: 'code', scope: 'cities.read', state, resource: mcp,
    code_challenge: await oauth.calculatePKCECodeChallenge(verifier), code_challenge_method: 'S256',
  });
  const params = oauth.validateAuthResponse(as, client, await person.allow(url), state);
  return oauth.processAuthorizationCodeResponse(as, client, await oauth.authorizationCodeGrantRequest(as, client, auth, params, redirect, verifier, { additionalParameters: { resource: mcp }, ...insecure }));
}

async function status(token) {
  const response = await fetch(mcp, {
    method: 'POST',
    headers: { Authorization: `Bearer ${token}`, 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' },
    body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'tools/call', params: { name: 'get_forecast', arguments: { city: 'Oslo' } } }),
  });
  await response.text();
  return response.status;
}

// keyed registers a client that signs by the algorithm, and returns it with its way to
// authenticate.
async function keyed(alg) {
  const pair = await oauth.generateKeyPair(alg, { extractable: true });
  const jwk = { ...await crypto.subtle.exportKey('jwk', pair.publicKey), kid: alg, use: 'sig', alg };
  delete jwk.key_ops;
  delete jwk.ext;
  const client = await register('private_key_jwt', { jwks: { keys: [jwk] }, token_endpoint_auth_signing_alg: alg });
  return [client, oauth.PrivateKeyJwt({ key: pair.privateKey, kid: alg })];
}

const ways = {
  none: async () => [await register('none'), oauth.None()],
  client_secret_basic: async () => { const client = await register('client_secret_basic'); return [client, oauth.ClientSecretBasic(client.client_secret)]; },
  client_secret_post: async () => { const client = await register('client_secret_post'); return [client, oauth.ClientSecretPost(client.client_secret)]; },
  RS256: () => keyed('RS256'),
  ES256: () => keyed('ES256'),
};

for (const [method, make] of Object.entries(ways)) {
  const [client, auth] = await make();
  ok(`registration ${method}`);
  const tokens = await authorize(client, auth);
  check(await status(tokens.access_token) === 200, 'the token does not work');
  ok(`code ${method}`);

  const next = await oauth.processRefreshTokenResponse(as, client, await oauth.refreshTokenGrantRequest(as, client, auth, tokens.refresh_token, insecure));
  check(await status(next.access_token) === 200 && next.refresh_token !== tokens.refresh_token, 'the refresh gave no other pair');
  ok(`refresh ${method}`);

  const active = await oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, auth, next.access_token, insecure));
  check(active.active && active.scope === 'cities.read' && active.client_id === client.client_id, JSON.stringify(active));
  ok(`introspection ${method}`);

  await oauth.processRevocationResponse(await oauth.revocationRequest(as, client, auth, next.refresh_token, insecure));
  check(await status(next.access_token) === 401, 'the token works after the revocation');
  const dead = await oauth.processIntrospectionResponse(as, client, await oauth.introspectionRequest(as, client, auth, next.access_token, insecure));
  check(dead.active === false, JSON.stringify(dead));
  ok(`revocation ${method}`);
}

const device = await register('none');
const pending = await oauth.processDeviceAuthorizationResponse(as, device, await oauth.deviceAuthorizationRequest(as, device, oauth.None(), { scope: 'cities.read', resource: mcp }, insecure));
ok('device authorization');
let refusal;
try {
  await oauth.processDeviceCodeResponse(as, device, await oauth.deviceCodeGrantRequest(as, device, oauth.None(), pending.device_code, insecure));
} catch (error) {
  refusal = error;
}
check(refusal instanceof oauth.ResponseBodyError && refusal.error === 'authorization_pending', `before the decision: ${refusal}`);
await person.allowDevice(pending.verification_uri_complete, pending.user_code);
// The device may ask again after its interval. A client that asks at once must slow down,
// and is not refused for that.
for (let tokens; !tokens;) {
  await new Promise((wake) => { setTimeout(wake, pending.interval * 1000); });
  try {
    tokens = await oauth.processDeviceCodeResponse(as, device, await oauth.deviceCodeGrantRequest(as, device, oauth.None(), pending.device_code, insecure));
    check(await status(tokens.access_token) === 200, 'the token of the device does not work');
  } catch (error) {
    if (!(error instanceof oauth.ResponseBodyError) || error.error !== 'slow_down') throw error;
  }
}
ok('device code');

const worker = { client_id: machine };
const own = await oauth.processClientCredentialsResponse(as, worker, await oauth.clientCredentialsGrantRequest(as, worker, oauth.ClientSecretBasic(secret), { scope: 'cities.read', resource: mcp }, insecure));
check(await status(own.access_token) === 200 && !own.refresh_token, 'the token of the machine does not work, or it can be refreshed');
ok('client credentials');
