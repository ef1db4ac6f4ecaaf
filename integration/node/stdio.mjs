// A client of the official TypeScript SDK that starts its server as a program on stdin
// and stdout, and is driven by lines as client.mjs is.
//
// usage: node stdio.mjs PROGRAM ARGUMENT..., with the token in FAREBOX_BEARER
import { createInterface } from 'node:readline';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StdioClientTransport } from '@modelcontextprotocol/sdk/client/stdio.js';

const [command, ...args] = process.argv.slice(2);
const client = new Client({ name: 'farebox-test', version: '1.0.0' });
await client.connect(new StdioClientTransport({ command, args, env: { ...process.env, AGENT_TOKEN: process.env.FAREBOX_BEARER }, stderr: 'inherit' }));

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
