package main

var overview = board{
	uid:         "farebox-overview",
	title:       "Farebox / Overview",
	description: "Do callers get their results, how fast, and is anything wrong? Start here.",
	servers:     true,
	rows: []row{
		{"At a glance", glance},
		{"Requests", requests},
		{"Time", durations},
		{"In progress", progress},
	},
}

var glance = []panel{
	{
		title: "Nodes up", shape: value, width: 3, height: 4, unit: whole,
		description: "Gateways that answer Prometheus, of those that are chosen above.",
		queries:     []query{{expr: `sum(up{<node>}) or vector(0)`, now: true}},
		below:       red, steps: []step{{1, green}},
	},
	{
		title: "Store", shape: value, width: 3, height: 4, unit: whole,
		description: "Whether the store answers, at the worst node. Without it, paid calls are refused.",
		queries:     []query{{expr: `min(farebox_store_up{<node>})`, now: true}},
		below:       red, steps: []step{{1, green}}, texts: upOrDown,
	},
	{
		title: "Alerts firing", shape: value, width: 3, height: 4, unit: whole,
		description: "Alerts of config/prometheus/rules that fire now. It is 0 if these rules are not loaded.",
		queries:     []query{{expr: `count(ALERTS{alertname=~"Farebox.*", alertstate="firing"}) or vector(0)`, now: true}},
		steps:       []step{{1, red}},
	},
	{
		title: "Requests", shape: value, width: 3, height: 4, unit: perSecond,
		description: "Requests a second of all kinds: calls, lists, streams, refused ones.",
		queries:     []query{{expr: `sum(rate(farebox_requests_total{<server>}[rate]))`}},
		below:       blue,
	},
	{
		title: "Refused", shape: value, width: 3, height: 4, unit: ratio, decimals: digits(1), empty: "idle", full: 1,
		description: "The share of requests that were refused, for any reason: no credits, a wrong key, a rate limit, a failure. A jump deserves a look at the panel Refusals by code.",
		queries: []query{{expr: `(sum(rate(farebox_requests_total{<server>, decision=~"` + refusals + `"}[rate])) or vector(0))
/ (sum(rate(farebox_requests_total{<server>}[rate])) > 0)`}},
		below: blue,
	},
	{
		title: "Failed", shape: value, width: 3, height: 4, unit: ratio, decimals: digits(2), empty: "idle", full: 1,
		description: "The share of requests that failed although the caller did nothing wrong: the server behind the gateway, the store or the config failed.",
		queries: []query{{expr: `(sum(rate(farebox_failures_total{<server>}[rate])) or vector(0))
/ (sum(rate(farebox_requests_total{<server>}[rate])) > 0)`}},
		steps: []step{{0.01, yellow}, {0.05, red}},
	},
	{
		title: "Time added (p99)", shape: value, width: 3, height: 4, unit: seconds, empty: "idle",
		description: "99 of 100 requests take at most this much longer because of Farebox. The time of the server behind it is not included.",
		queries:     []query{{expr: `histogram_quantile(0.99, sum by (le) (rate(farebox_overhead_seconds_bucket{<server>}[rate]))) >= 0`}},
		steps:       []step{{0.1, yellow}, {0.25, red}},
	},
	{
		title: "Calls in flight", shape: value, width: 3, height: 4, unit: whole,
		description: "Calls that are being served at this moment, at all nodes.",
		queries:     []query{{expr: `sum(farebox_calls_in_flight{<node>})`}},
		below:       blue,
	},
}

var requests = []panel{
	{
		title: "Requests by server", shape: lines, width: 12, height: 8, unit: perSecond, stacked: true,
		description: "Requests a second for each MCP server, added up.",
		queries:     []query{{expr: `sum by (server) (rate(farebox_requests_total{<server>}[rate]))`, legend: "{{server}}"}},
	},
	{
		title: "Decisions", shape: lines, width: 12, height: 8, unit: perSecond, stacked: true,
		description: "Requests a second by the decision about them. charged: a paid result was delivered; allowed: it costs nothing; not_charged: a paid call without a result; replayed: a call that was sent again got its first result; refused: all refusals together.",
		queries: []query{
			{expr: `sum by (decision) (rate(farebox_requests_total{<server>, decision!~"` + refusals + `"}[rate]))`, legend: "{{decision}}"},
			{expr: `sum(rate(farebox_requests_total{<server>, decision=~"` + refusals + `"}[rate]))`, legend: "refused"},
		},
		styles: map[string]style{
			"charged": {color: green}, "allowed": {color: blue}, "replayed": {color: purple},
			"not_charged": {color: yellow}, "refused": {color: red}, "not_found": {color: gray}, "registration": {color: "#8AB8FF"},
		},
	},
	{
		title: "Refusals by code", shape: lines, width: 8, height: 8, unit: perSecond, stacked: true,
		description: "Refused requests a second by the code that callers see. The page about scopes has a table of the codes. TOKEN_…: keys; INSUFFICIENT_BALANCE, SPENDING_CAP: credits; RATE_LIMITED: too many requests.",
		queries:     []query{{expr: `sum by (decision) (rate(farebox_requests_total{<server>, decision=~"` + refusals + `"}[rate])) > 0`, legend: "{{decision}}"}},
	},
	{
		title: "Failures by code", shape: lines, width: 8, height: 8, unit: perSecond, stacked: true,
		description: "Requests a second that failed although the caller did nothing wrong. UPSTREAM_FAILED, UPSTREAM_TIMEOUT: the server behind; STORE_UNAVAILABLE, CHARGE_FAILED: the store; MISCONFIGURED: the config.",
		queries:     []query{{expr: `sum by (code) (rate(farebox_failures_total{<server>}[rate]))`, legend: "{{code}}"}},
		styles: map[string]style{
			"UPSTREAM_FAILED": {color: orange}, "UPSTREAM_TIMEOUT": {color: yellow}, "STORE_UNAVAILABLE": {color: red},
			"CHARGE_FAILED": {color: purple}, "MISCONFIGURED": {color: blue},
		},
	},
	{
		title: "Failures by server", shape: lines, width: 8, height: 8, unit: ratio,
		description: "The share of each server's requests that failed although the caller did nothing wrong. Above 5 % the alert FareboxUpstreamFailing fires, if the server behind is the reason.",
		queries: []query{{expr: `sum by (server) (rate(farebox_failures_total{<server>}[rate]))
/ (sum by (server) (rate(farebox_requests_total{<server>}[rate])) > 0)`, legend: "{{server}}"}},
		steps: []step{{0.05, red}},
	},
}

var durations = []panel{
	{
		title: "Time added by Farebox", shape: lines, width: 12, height: 8, unit: seconds,
		description: "The time of a request less the time of the server behind and the wait for the client's body: checks, reservation, capture. Above 0.25 s the alert FareboxSlow fires.",
		queries:     quantiles("farebox_overhead_seconds", "<server>"), styles: quantileStyles,
	},
	{
		title: "Time of the servers behind", shape: lines, width: 12, height: 8, unit: seconds,
		description: "From forwarding a request to the end of its response, at 95 of 100 requests of each server.",
		queries:     []query{{expr: `histogram_quantile(0.95, sum by (server, le) (rate(farebox_upstream_seconds_bucket{<server>}[rate])))`, legend: "{{server}} (p95)"}},
	},
	{
		title: "Parts of the added time (p99)", shape: lines, width: 12, height: 8, unit: seconds,
		description: "The steps that wait for the store: key lookup, reservation before the call, capture after it. The slowest one explains the time added.",
		queries: []query{
			{expr: `histogram_quantile(0.99, sum by (le) (rate(farebox_key_lookup_seconds_bucket{<node>}[rate])))`, legend: "key lookup"},
			{expr: `histogram_quantile(0.99, sum by (le) (rate(farebox_reserve_seconds_bucket{<node>}[rate])))`, legend: "reservation"},
			{expr: `histogram_quantile(0.99, sum by (le) (rate(farebox_capture_seconds_bucket{<node>}[rate])))`, legend: "capture"},
		},
		styles: map[string]style{"key lookup": {color: blue}, "reservation": {color: purple}, "capture": {color: orange}},
	},
	{
		title: "Slowest tools", shape: bars, width: 12, height: 8, unit: seconds,
		description: "The tools with the longest average time at the server behind, in the period that is shown.",
		queries: []query{{expr: `topk(10, sum by (server, tool) (increase(farebox_tool_upstream_seconds_sum{<server>}[range]))
/ (sum by (server, tool) (increase(farebox_tool_upstream_seconds_count{<server>}[range])) > 0))`, legend: "{{server}}: {{tool}}", now: true}},
		below: blue,
	},
}

var progress = []panel{
	{
		title: "Calls, streams and sessions", shape: lines, width: 8, height: 8, unit: whole,
		description: "Calls in flight, open event streams, and sessions with requests in memory, at all nodes. Calls that grow without more requests mean that the server behind has become slow.",
		queries: []query{
			{expr: `sum(farebox_calls_in_flight{<node>})`, legend: "calls in flight"},
			{expr: `sum(farebox_streams_open{<node>})`, legend: "open streams"},
			{expr: `sum(farebox_sessions_open{<node>})`, legend: "sessions"},
		},
	},
	{
		title: "Limits in use", shape: lines, width: 8, height: 8, unit: ratio, full: 1,
		description: "How much of each limit of a gateway is used, at the fullest node. At 100 % callers with more than their share are refused. Above 80 % the alert FareboxShareNearlyUsed fires.",
		queries:     []query{{expr: `max by (of) (farebox_share_used{<node>} / (farebox_share_limit{<node>} > 0))`, legend: "{{of}}"}},
		steps:       []step{{0.8, red}},
	},
	{
		title: "Abandoned paid calls", shape: lines, width: 8, height: 8, unit: operations,
		description: "Paid calls a second whose client left before the answer. Many of them point to a client or a proxy with a short timeout.",
		queries:     []query{{expr: `sum by (server) (rate(farebox_abandoned_total{<server>}[rate]))`, legend: "{{server}}"}},
	},
}
