// Discovers an MCP server's authorization as the official TypeScript SDK does before
// it has a token: it reads the challenge of a 401, looks for the metadata at the URL in
// the challenge and at the well-known URLs, and takes the resource from the metadata.
// Prints one line:
// {"challenge": {...}, "legacy": URL, "byChallenge": FOUND, "byWellKnown": FOUND,
// "connect": STATUS}; FOUND is {"metadata": {...}, "resource": URL} or
// {"failed": TEXT}.
//
// usage: node discover.mjs URL
import {
  discoverOAuthProtectedResourceMetadata, extractResourceMetadataUrl, extractWWWAuthenticateParams, selectResourceURL,
} from '@modelcontextprotocol/sdk/client/auth.js';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const url = new URL(process.argv[2]);

async function find(resourceMetadataUrl) {
  try {
    const metadata = await discoverOAuthProtectedResourceMetadata(url, { resourceMetadataUrl });
    return { metadata, resource: (await selectResourceURL(url, {}, metadata)).href };
  } catch (error) {
    return { failed: error.message };
  }
}

const response = await fetch(url, {
  method: 'POST',
  headers: { 'Content-Type': 'application/json', Accept: 'application/json, text/event-stream' },
  body: '{"jsonrpc":"2.0","id":1,"method":"ping"}',
});
await response.text();
const challenge = extractWWWAuthenticateParams(response);
const byChallenge = challenge.resourceMetadataUrl ? await find(challenge.resourceMetadataUrl) : { failed: 'no resource_metadata' };

let connect = 200;
try {
  await new Client({ name: 'farebox-test', version: '1.0.0' }).connect(new StreamableHTTPClientTransport(url));
} catch (error) {
  connect = error.code ?? error.message;
}
console.log(JSON.stringify({ challenge, legacy: extractResourceMetadataUrl(response), byChallenge, byWellKnown: await find(), connect }));
