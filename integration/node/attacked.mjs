// A server of the official TypeScript SDK behind express.json(), set up as in the
// SDK's guide, without sessions. The server records its requests. GET /journal returns
// the record {"heard": [BODY...], "ran": [TOOL...]} and clears it. The bodies are the bytes
// from the wire, in base64.
//
// usage: node attacked.mjs PORT
import express from 'express';
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js';
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js';

let heard = [];
let ran = [];

function newServer() {
  const server = new McpServer({ name: 'attacked', version: '1.0.0' });
  for (const name of ['cheap', 'expensive', 'forbidden']) {
    server.registerTool(name, { description: name }, () => {
      ran.push(name);
      return { content: [{ type: 'text', text: name }] };
    });
  }
  return server;
}

const app = express();
app.get('/journal', (_, res) => {
  res.json({ heard: heard.map((chunks) => Buffer.concat(chunks).toString('base64')), ran });
  heard = [];
  ran = [];
});
app.use((req, _, next) => {
  const chunks = [];
  heard.push(chunks);
  req.on('data', (chunk) => chunks.push(chunk));
  next();
});
app.use(express.json());
app.use(async (req, res) => {
  const server = newServer();
  const transport = new StreamableHTTPServerTransport({ sessionIdGenerator: undefined });
  res.on('close', () => server.close());
  await server.connect(transport);
  await transport.handleRequest(req, res, req.body);
});
app.use((error, _req, res, _next) => { // replaces express's error handler, which prints a stack trace
  res.status(error.status ?? 500).json({ jsonrpc: '2.0', id: null, error: { code: -32700, message: error.message } });
});
app.listen(Number(process.argv[2]), '127.0.0.1');
