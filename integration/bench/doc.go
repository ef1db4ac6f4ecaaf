// Command bench, run by "make bench", measures the cost of a tool call through Farebox
// beside the gateways that it is compared with: plain Caddy, Caddy with forward_auth,
// and nginx with and without auth_request. It starts all servers on the loopback
// interface and loads them with the same client.
//
// A round gives each row a turn of some seconds in closed loop. Before and after each
// turn, the row's base (plain Caddy) has a turn, and the ratio compares the row with the
// mean of the two. So a machine that gets slower or faster in the meantime changes the
// ratio little. Each turn on Farebox uses a new account and a new key, every answer is
// checked, and the account's balance must agree with the number of calls. Then each row
// has turns in open loop, at half of the rate that it reached.
//
// docs/performance.md explains the output. The program needs Linux, because it reads
// the CPU time of the processes from /proc.
package main
