// Clients of the official TypeScript SDK, many at once. For each line of input,
//
//   {"n": NUMBER, "url": URL, "secret": TOKEN, "hand": NUMBER, "ask": "call"|"list"|"notify",
//    "tool": NAME, "token": TEXT, "bound": MILLISECONDS}
//
// the client with this number (hand) for this URL sends a request in its session, and
// the program prints the outcome as a line: {"n": NUMBER, "kind": KIND, ...}. KIND is "result" with
// "value", "error" with "code", "message" and "data", "fails" with "message",
// "hangs", or "unconnected" with "message". "lost" reports an unusable session.
//
// usage: node odd.mjs v1|v2; v1 speaks 2025-11-25, v2 speaks 2026-07-28
import { createInterface } from 'node:readline';

const v2 = process.argv[2] === 'v2';
const { Client, StreamableHTTPClientTransport } = v2 ? await import('@modelcontextprotocol/client') : {
  ...await import('@modelcontextprotocol/sdk/client/index.js'),
  ...await import('@modelcontextprotocol/sdk/client/streamableHttp.js'),
};
// An error that the SDK does not catch would end this program. With these handlers the
// program goes on, and the call counts as one that hangs.
process.on('uncaughtException', (error) => console.error(error?.stack ?? error));
process.on('unhandledRejection', (error) => console.error(error?.stack ?? error));

const options = v2 ? { versionNegotiation: { mode: { pin: '2026-07-28' } } } : {};
const patience = { timeout: 60_000 };

function ask(client, line) {
  const bound = { timeout: line.bound };
  if (line.ask === 'list') return client.listTools({ cursor: line.token }, bound);
  if (line.ask === 'notify') return client.notification({ method: 'notifications/vendor/heat', params: { odd: line.token } });
  const params = { name: line.tool, arguments: { odd: line.token } };
  return v2 ? client.callTool(params, bound) : client.callTool(params, undefined, bound);
}

// Returns an error as the caller sees it: the SDK's code if there is one, otherwise
// the text of the error and of its cause.
function told(error) {
  const message = String(error?.message ?? error);
  if (/timed out/i.test(message) && !/^(Streamable|Error POSTing)/.test(message)) return { kind: 'hangs' };
  if (error?.constructor?.name === 'McpError' || error?.constructor?.name === 'ProtocolError') {
    return { kind: 'error', code: error.code, message, data: error.data };
  }
  const status = error?.status ?? error?.data?.status ?? (typeof error?.code === 'number' && error.code > 0 ? error.code : undefined);
  if (status !== undefined) return { kind: `HTTP ${status}`, message };
  const cause = error?.cause?.code ?? error?.cause?.message;
  return { kind: 'fails', message: cause ? `${message}: ${cause}` : message };
}

// The clients without an error so far, by their number (hand) and URL. A client sends
// one request at a time.
const sessions = new Map();

async function answer(line) {
  const place = `${line.hand} ${line.url}`;
  let client = sessions.get(place);
  sessions.delete(place);
  if (!client) {
    client = new Client({ name: 'farebox-test', version: '1.0.0' }, options);
    try {
      await client.connect(new StreamableHTTPClientTransport(new URL(line.url), {
        requestInit: { headers: { Authorization: `Bearer ${line.secret}` } },
      }), patience);
    } catch (error) {
      return { kind: 'unconnected', message: `${error?.message}: ${error?.cause?.message}` };
    }
  }
  try {
    const value = await ask(client, line);
    sessions.set(place, client);
    return { kind: 'result', value: value ?? null };
  } catch (error) {
    const got = told(error);
    if (got.kind !== 'hangs') got.lost = await client.listTools({}, patience).then(() => false, () => true);
    await client.close().catch(() => {});
    return got;
  }
}

for await (const text of createInterface({ input: process.stdin })) {
  const line = JSON.parse(text);
  answer(line)
    .then((got) => JSON.stringify({ n: line.n, ...got }))
    .catch((error) => JSON.stringify({ n: line.n, kind: 'fails', message: String(error) }))
    .then((told) => console.log(told));
}
