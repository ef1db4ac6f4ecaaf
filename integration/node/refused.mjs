// A client of the official TypeScript SDK with a token that can change at any time.
// For each line of input it takes one action and prints a line with the outcome,
// {"text": TEXT, "failed": BOOL}.
//
//   {"token": SECRET}                 sets the token of all later requests; "" to send no token
//   {"connect": true}                 starts a new client and its session
//   {"tool": NAME, "args": {...}}     calls the tool
//
// usage: node refused.mjs URL
import { createInterface } from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

let token = '';
let client;

// The SDK's own fetch, with the current token.
function authorized(url, init) {
  const headers = new Headers(init?.headers);
  if (token) headers.set('Authorization', `Bearer ${token}`);
  return fetch(url, { ...init, headers });
}

async function act(line) {
  if (line.token !== undefined) {
    token = line.token;
    return { text: '' };
  }
  if (line.connect) {
    client = new Client({ name: 'farebox-test', version: '1.0.0' });
    await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2]), { fetch: authorized }));
    return { text: '' };
  }
  const result = await client.callTool({ name: line.tool, arguments: line.args });
  return { text: result.content.map((c) => c.text ?? '').join('\n'), failed: result.isError === true };
}

for await (const line of createInterface({ input: process.stdin })) {
  let told;
  try {
    told = { failed: false, ...(await act(JSON.parse(line))) };
  } catch (error) {
    told = { text: error.message, failed: true };
  }
  console.log(JSON.stringify(told));
}
