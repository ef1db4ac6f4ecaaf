package main

var keys = board{
	uid:         "farebox-keys",
	title:       "Farebox / Keys",
	description: "How keys are looked up, how fast a deleted key is dead everywhere, which keys end soon, and who is kept out.",
	servers:     true,
	rows: []row{
		{"At a glance", keyGlance},
		{"Lookups", lookups},
		{"Deletion and expiry", endings},
		{"Refused", keptOut},
	},
}

var keyGlance = []panel{
	{
		title: "Answered from memory", shape: value, width: 4, height: 4, unit: ratio, decimals: digits(1), empty: "idle", full: 1,
		description: "The share of lookups that need not ask the store. A store that is asked more often makes calls slower.",
		queries: []query{{expr: `(sum(rate(farebox_key_lookups_total{<node>, source=~"cache|negative"}[rate])) or vector(0))
/ (sum(rate(farebox_key_lookups_total{<node>}[rate])) > 0)`}},
		below: red, steps: []step{{0.5, yellow}, {0.8, green}},
	},
	{
		title: "Lookups", shape: value, width: 4, height: 4, unit: operations,
		description: "Key lookups a second; each request needs one.",
		queries:     []query{{expr: `sum(rate(farebox_key_lookups_total{<node>}[rate]))`}},
		below:       blue,
	},
	{
		title: "Keys in the cache", shape: value, width: 4, height: 4, unit: number,
		description: "Keys in the caches of all nodes. Each node has its own; its limit is the option cache size, 100000 by default.",
		queries:     []query{{expr: `sum(farebox_cache_entries{<node>})`}},
		below:       blue,
	},
	{
		title: "Revocation lag", shape: value, width: 4, height: 4, unit: ratio, empty: "one node", decimals: digits(0),
		description: "How much of the time is used up within which a node must ask for changes of keys, at the worst node. At 100 % it stops using its cache. A store with one node needs none.",
		queries:     []query{{expr: `max(farebox_revocation_lag_seconds{<node>} / (farebox_revocation_lag_limit_seconds{<node>} > 0))`}},
		steps:       []step{{0.5, yellow}, {0.75, red}},
	},
	{
		title: "Expire within a day", shape: value, width: 4, height: 4, unit: whole,
		description: "Keys that can be used now and end within a day. farebox key list --expiring 1d shows them.",
		queries:     []query{{expr: `max(farebox_keys_expiring{<node>, within="1d"})`, now: true}},
		steps:       []step{{1, yellow}},
	},
	{
		title: "Unknown tokens", shape: value, width: 4, height: 4, unit: operations,
		description: "Lookups a second of tokens that are no key. Many of them mean that somebody tries tokens, or that a deleted key is still in use.",
		queries:     []query{{expr: `sum(rate(farebox_key_lookups_total{<node>, result=~"unknown|limited"}[rate])) or vector(0)`}},
		below:       blue, steps: []step{{10, yellow}},
	},
}

var lookups = []panel{
	{
		title: "Lookups by source", shape: lines, width: 12, height: 8, unit: operations, stacked: true,
		description: "Key lookups a second by the place of the answer. cache: a known key in memory; negative: a token that was unknown a moment ago; store: the store was asked.",
		queries:     []query{{expr: `sum by (source) (rate(farebox_key_lookups_total{<node>}[rate]))`, legend: "{{source}}"}},
		styles:      map[string]style{"cache": {color: green}, "negative": {color: blue}, "store": {color: orange}},
	},
	{
		title: "Hit ratio by node", shape: lines, width: 12, height: 8, unit: ratio, full: 1,
		description: "The share of lookups that were answered from memory. It falls after a restart, and when a cache is too small or not trusted. Below half of its daily average the alert FareboxHitRatioCollapsed fires.",
		queries: []query{{expr: `sum by (instance) (rate(farebox_key_lookups_total{<node>, source=~"cache|negative"}[rate]))
/ (sum by (instance) (rate(farebox_key_lookups_total{<node>}[rate])) > 0)`, legend: "{{instance}}"}},
	},
	{
		title: "Misses by result", shape: lines, width: 12, height: 8, unit: operations, stacked: true,
		description: "Lookups a second that were not answered from memory. found: a key for the first time or after its time in the cache; unknown: no key; limited: too many unknown tokens from one address, the store was not asked; error: the store did not answer.",
		queries:     []query{{expr: `sum by (result) (rate(farebox_key_lookups_total{<node>, source="store"}[rate]))`, legend: "{{result}}"}},
		styles:      map[string]style{"found": {color: green}, "unknown": {color: yellow}, "limited": {color: orange}, "error": {color: red}},
	},
	{
		title: "Time of a lookup", shape: lines, width: 12, height: 8, unit: seconds,
		description: "How long lookups take. From memory it is a few microseconds.",
		queries:     quantiles("farebox_key_lookup_seconds", "<node>"), styles: quantileStyles,
	},
}

var endings = []panel{
	{
		title: "Revocation lag by node", shape: lines, width: 12, height: 8, unit: seconds,
		description: "The time since each node last asked for changes of keys by other nodes; 0 on SQLite. At the limit (dashed) a node stops using its cache and asks the store for each key. From three quarters of it on, the alert FareboxRevocationLagging fires.",
		queries: []query{
			{expr: `max by (instance) (farebox_revocation_lag_seconds{<node>})`, legend: "{{instance}}"},
			{expr: `min(farebox_revocation_lag_limit_seconds{<node>} > 0)`, legend: "limit"},
		},
		styles: map[string]style{"limit": {color: red, dashed: true}},
	},
	{
		title: "Keys that expire soon", shape: bars, width: 6, height: 8, unit: whole,
		description: "Keys that can be used now and expire within this time. Each bar includes those above it.",
		queries: []query{
			{expr: `max(farebox_keys_expiring{<node>, within="1d"})`, legend: "1 day", now: true},
			{expr: `max(farebox_keys_expiring{<node>, within="7d"})`, legend: "7 days", now: true},
			{expr: `max(farebox_keys_expiring{<node>, within="14d"})`, legend: "14 days", now: true},
			{expr: `max(farebox_keys_expiring{<node>, within="30d"})`, legend: "30 days", now: true},
			{expr: `max(farebox_keys_expiring{<node>, within="90d"})`, legend: "90 days", now: true},
		},
		below: blue,
	},
	{
		title: "Cache by node", shape: lines, width: 6, height: 8, unit: number,
		description: "Keys in the cache of each node. A flat line at the option cache size means that the cache is too small.",
		queries:     []query{{expr: `sum by (instance) (farebox_cache_entries{<node>})`, legend: "{{instance}}"}},
	},
}

var keptOut = []panel{
	{
		title: "Refused for the key", shape: lines, width: 8, height: 8, unit: perSecond, stacked: true,
		description: "Refused requests a second. TOKEN_MISSING: without a key; TOKEN_INVALID: unknown, deleted or for something else; TOKEN_EXPIRED; SCOPE_INSUFFICIENT: the key lacks a scope.",
		queries:     []query{{expr: `sum by (decision) (rate(farebox_requests_total{<server>, decision=~"TOKEN_.*|SCOPE_INSUFFICIENT"}[rate]))`, legend: "{{decision}}"}},
	},
	{
		title: "Rate limited by server", shape: lines, width: 8, height: 8, unit: perSecond, stacked: true,
		description: "Requests a second over the rate of a key or the share of a caller (RATE_LIMITED).",
		queries:     []query{{expr: `sum by (server) (rate(farebox_requests_total{<server>, decision="RATE_LIMITED"}[rate]))`, legend: "{{server}}"}},
	},
	{
		title: "Refused by the share used up", shape: lines, width: 8, height: 8, unit: operations, stacked: true,
		description: "Claims on the limits of a gateway (memory, calls, streams) that were refused or cut, a second, by the share that was used up: of a key, an account, an address, all callers that have not paid, or all callers. cut: it was taken back for somebody else.",
		queries:     []query{{expr: `sum by (share) (rate(farebox_refused_by_share_total{<node>}[rate]))`, legend: "{{share}}"}},
	},
}
