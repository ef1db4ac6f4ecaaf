// Loaded by "node --import": sends FAREBOX_BEARER as the bearer token with each
// request that has no Authorization header. It is for programs that have no option for
// a token. It listens on the channels where Node's two HTTP clients announce each
// request before they send it, so it need not change these clients.
import { subscribe } from 'node:diagnostics_channel';

const authorization = `Bearer ${process.env.FAREBOX_BEARER}`;

// For fetch, and for every copy of undici that a program brings with it.
subscribe('undici:request:create', ({ request }) => {
  const names = [request.headers].flat(2).filter((_, i) => i % 2 === 0);
  if (!names.some((name) => String(name).toLowerCase() === 'authorization')) {
    request.addHeader('authorization', authorization);
  }
});

// For node:http and node:https.
subscribe('http.client.request.created', ({ request }) => {
  if (!request.hasHeader('authorization')) request.setHeader('authorization', authorization);
});
