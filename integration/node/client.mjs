// A client of the official TypeScript SDK that is driven by its input. For each line
// {"tool": NAME, "args": {...}}, it calls the tool, always in the same session, and
// prints the result as its user sees it: {"text": TEXT, "failed": BOOL}.
//
// usage: node client.mjs URL, with the token in FAREBOX_BEARER
import { createInterface } from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const client = new Client({ name: 'farebox-test', version: '1.0.0' });
await client.connect(new StreamableHTTPClientTransport(new URL(process.argv[2]), {
  requestInit: { headers: { Authorization: `Bearer ${process.env.FAREBOX_BEARER}` } },
}));

for await (const line of createInterface({ input: process.stdin })) {
  const { tool, args } = JSON.parse(line);
  let told;
  try {
    const result = await client.callTool({ name: tool, arguments: args });
    told = { text: result.content.map((c) => c.text ?? '').join('\n'), failed: result.isError === true };
  } catch (error) {
    told = { text: error.message, failed: true };
  }
  console.log(JSON.stringify(told));
}
await client.close();
