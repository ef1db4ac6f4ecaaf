// A client of the official TypeScript SDK 2.x that knows only the URL of an MCP server. It
// finds the issuer, registers, sends a person to the consent page, calls a tool, loses its
// access token and gets a new one by its refresh token. It prints what it has seen as JSON.
//
// usage: node oauth.mjs '{"mcp": URL, "key": SECRET}'
import { Client, StreamableHTTPClientTransport, UnauthorizedError } from '@modelcontextprotocol/client';
import { Person } from './person.mjs';

const { mcp, key } = JSON.parse(process.argv[2]);
const person = new Person(key);
const seen = { asked: 0, texts: [] };
let information, tokens, verifier, answer, discovery;

const provider = {
  redirectUrl: 'http://127.0.0.1:7001/callback',
  clientMetadata: { client_name: 'TypeScript client', redirect_uris: ['http://127.0.0.1:7001/callback'], grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'], token_endpoint_auth_method: 'none' },
  clientInformation: () => information,
  saveClientInformation: (i) => { information = i; },
  tokens: () => tokens,
  saveTokens: (t) => { tokens = t; },
  saveCodeVerifier: (v) => { verifier = v; },
  codeVerifier: () => verifier,
  discoveryState: () => discovery,
  saveDiscoveryState: (d) => { discovery = d; },
  state: () => 'state-of-the-client',
  redirectToAuthorization: async (url) => {
    seen.asked++;
    seen.authorize = Object.fromEntries(url.searchParams);
    answer = await person.allow(url);
  },
};

const open = () => new StreamableHTTPClientTransport(new URL(mcp), { authProvider: provider });
const fresh = () => new Client({ name: 'farebox-test', version: '1.0.0' });

const first = open();
try {
  await fresh().connect(first);
  throw new Error('connected without a token');
} catch (error) {
  if (!(error instanceof UnauthorizedError)) throw error;
}
if (answer.searchParams.get('state') !== 'state-of-the-client') throw new Error(`state: ${answer}`);
await first.finishAuth(answer.searchParams);

const client = fresh();
await client.connect(open());
async function call() {
  const result = await client.callTool({ name: 'get_forecast', arguments: { city: 'Oslo' } });
  seen.texts.push(result.isError ? `failed: ${JSON.stringify(result)}` : result.content[0].text);
}
await call();
const before = tokens;
tokens = { ...tokens, access_token: `${tokens.access_token.slice(0, -1)}${tokens.access_token.endsWith('0') ? '1' : '0'}` };
await call();
seen.refreshed = tokens.access_token !== before.access_token && tokens.refresh_token !== before.refresh_token;
seen.scope = tokens.scope;
seen.secrets = [before.access_token, before.refresh_token, tokens.access_token, tokens.refresh_token];
await client.close();
console.log(JSON.stringify(seen));
