// Command bench, run by "make bench", measures the cost of a tool call through Farebox.
// For comparison, it also measures plain Caddy, Caddy with forward_auth, and nginx with
// and without auth_request. It starts all servers on the loopback interface and loads
// them with the same client.
//
// Each way to the upstream that is measured is a row of the result table. In a round,
// each row is measured for some seconds in closed loop. Such a measurement is called a
// turn. A row is compared with its base, which is plain Caddy: the base has a turn
// before and after the row's turn, and the ratio compares the row with the mean of the
// two. So a machine that gets slower or faster in the meantime changes the ratio
// little. Each turn on Farebox uses a new account and a new key, every answer is
// checked, and the account's balance must agree with the number of calls. Then each row
// has turns in open loop, at half of the rate that it reached.
//
// docs/performance.md explains the output. The program needs Linux, because it reads
// the CPU time of the processes from /proc.
package main
