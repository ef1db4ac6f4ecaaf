package main

var store = board{
	uid:         "farebox-store",
	title:       "Farebox / Store",
	description: "Is the store fast enough, does it have room, and do the books balance?",
	rows: []row{
		{"At a glance", storeGlance},
		{"Commits", commits},
		{"Size", sizes},
		{"Ledger", ledger},
		{"PostgreSQL", postgres},
	},
}

var storeGlance = []panel{
	{
		title: "Store", shape: value, width: 3, height: 4, unit: whole,
		description: "Whether the store answers, at the worst node.",
		queries:     []query{{expr: `min(farebox_store_up{<node>})`, now: true}},
		below:       red, steps: []step{{1, green}}, texts: upOrDown,
	},
	{
		title: "Commits", shape: value, width: 3, height: 4, unit: operations,
		description: "Commits a second, by all nodes.",
		queries:     []query{{expr: `sum(rate(farebox_store_commits_total{<node>}[rate]))`}},
		below:       blue,
	},
	{
		title: "Rows in a commit", shape: value, width: 3, height: 4, unit: number, decimals: digits(1), empty: "idle",
		description: "The average number of rows that one commit writes. It grows with the load, because operations that arrive together share a commit.",
		queries:     []query{{expr: `sum(rate(farebox_store_commit_rows_sum{<node>}[rate])) / (sum(rate(farebox_store_commit_rows_count{<node>}[rate])) > 0)`}},
		below:       blue,
	},
	{
		title: "Queue", shape: value, width: 3, height: 4, unit: ratio, decimals: digits(1), full: 1,
		description: "How full the queue before the store is, at the worst node. Above 80 % for a minute the alert FareboxQueueNearlyFull fires.",
		queries:     []query{{expr: `max(farebox_store_queue_length{<node>} / (farebox_store_queue_limit{<node>} > 0))`}},
		steps:       []step{{0.5, yellow}, {0.8, red}},
	},
	{
		title: "Disk free", shape: value, width: 3, height: 4, unit: ratio, decimals: digits(1), empty: "not local", full: 1,
		description: "The free part of the disk with the SQLite store, at the fullest one. Disks of PostgreSQL have to be watched at its own machine.",
		queries:     []query{{expr: `min(farebox_store_disk_free_bytes{<node>} / farebox_store_disk_bytes{<node>})`}},
		below:       red, steps: []step{{0.03, yellow}, {0.1, green}},
	},
	{
		title: "Size of the store", shape: value, width: 3, height: 4, unit: octets,
		description: "The files of SQLite, or the tables and indexes of PostgreSQL.",
		queries:     []query{{expr: `sum(max by (job, part) (farebox_store_bytes{<node>}))`}},
		below:       blue,
	},
	{
		title: "Differences in the ledger", shape: value, width: 3, height: 4, unit: whole, empty: "not verified yet",
		description: "Differences that the last verification found. Any other number than 0 is an emergency: see the runbook.",
		queries:     []query{{expr: `max(farebox_ledger_differences{<node>})`, now: true}},
		steps:       []step{{1, red}},
	},
	{
		title: "Last verified", shape: value, width: 3, height: 4, unit: seconds, empty: "not verified yet",
		description: "The time since the end of the last verification of the ledger.",
		queries:     []query{{expr: `time() - max(farebox_ledger_verified_timestamp_seconds{<node>})`, now: true}},
		below:       blue,
	},
}

var commits = []panel{
	{
		title: "Commits by result", shape: lines, width: 12, height: 8, unit: operations, stacked: true,
		description: "Commits a second. A failed commit withholds the results of all calls in it.",
		queries:     []query{{expr: `sum by (result) (rate(farebox_store_commits_total{<node>}[rate]))`, legend: "{{result}}"}},
		styles:      map[string]style{"ok": {color: green}, "failed": {color: red}},
	},
	{
		title: "Time of a commit", shape: lines, width: 12, height: 8, unit: seconds,
		description: "How long commits take until they are on the disk. Callers wait for it: a slow disk shows here first.",
		queries:     quantiles("farebox_store_commit_seconds", "<node>"), styles: quantileStyles,
	},
	{
		title: "Rows in a commit by node", shape: lines, width: 12, height: 8, unit: number,
		description: "The average number of rows that one commit writes.",
		queries: []query{{expr: `sum by (instance) (rate(farebox_store_commit_rows_sum{<node>}[rate]))
/ (sum by (instance) (rate(farebox_store_commit_rows_count{<node>}[rate])) > 0)`, legend: "{{instance}}"}},
	},
	{
		title: "Queue by node", shape: lines, width: 12, height: 8, unit: number,
		description: "Operations that wait for the store. A queue that grows means that the store cannot keep up.",
		queries:     []query{{expr: `sum by (instance) (farebox_store_queue_length{<node>})`, legend: "{{instance}}"}},
	},
}

var sizes = []panel{
	{
		title: "Bytes by part", shape: lines, width: 8, height: 8, unit: octets, stacked: true,
		description: "SQLite: database, and wal, the log beside it, which is emptied from time to time. PostgreSQL: tables and indexes.",
		queries:     []query{{expr: `sum by (part) (max by (job, part) (farebox_store_bytes{<node>}))`, legend: "{{part}}"}},
		styles:      map[string]style{"database": {color: blue}, "wal": {color: orange}, "tables": {color: green}, "indexes": {color: purple}},
	},
	{
		title: "Free disk", shape: lines, width: 8, height: 8, unit: octets,
		description: "Free bytes of the disk with the SQLite store. Below 10 % of the disk the alert FareboxDiskLow fires, below 3 % FareboxDiskNearlyFull.",
		queries:     []query{{expr: `min by (instance) (farebox_store_disk_free_bytes{<node>})`, legend: "{{instance}}"}},
	},
	{
		title: "Rows by table", shape: bars, width: 8, height: 8, unit: number,
		description: "Rows of the store at the end of the period that is shown. Transactions grow with the charges until they are archived; stored responses (idempotency_keys) live for a day.",
		queries:     []query{{expr: `sort_desc(max by (table) (farebox_store_rows{<node>}))`, legend: "{{table}}", now: true}},
		below:       blue,
	},
}

var ledger = []panel{
	{
		title: "Time of a verification", shape: lines, width: 8, height: 6, unit: seconds,
		description: "How long the last verification of the whole ledger took. It grows with the journal: see the page about growth.",
		queries:     []query{{expr: `max by (instance) (farebox_ledger_verify_seconds{<node>})`, legend: "{{instance}}"}},
	},
	{
		title: "Time since the last verification", shape: lines, width: 8, height: 6, unit: seconds,
		description: "It rises to the interval of the config and falls again. After three intervals the alert FareboxLedgerNotVerified fires.",
		queries: []query{
			{expr: `time() - max by (job) (farebox_ledger_verified_timestamp_seconds{<node>})`, legend: "{{job}}"},
			{expr: `3 * max(farebox_ledger_verify_interval_seconds{<node>} > 0)`, legend: "limit"},
		},
		styles: map[string]style{"limit": {color: red, dashed: true}},
	},
	{
		title: "Differences", shape: lines, width: 8, height: 6, unit: whole,
		description: "Differences that the last verification found. It must be 0.",
		queries:     []query{{expr: `max by (job) (farebox_ledger_differences{<node>})`, legend: "{{job}}"}},
		steps:       []step{{1, red}},
	},
}

var postgres = []panel{
	{
		title: "Nodes at the database", shape: lines, width: 8, height: 8, unit: whole,
		description: "Gateways with a lease in the database, as each gateway sees it. The dashed line is the number of gateways that Prometheus reaches; a gateway that is missing here cannot follow the changes of keys.",
		queries: []query{
			{expr: `max by (instance) (farebox_nodes{<node>} and on (job, instance) farebox_store_info{<node>, kind="postgres"})`, legend: "{{instance}}"},
			{expr: `sum(up{<node>} and on (job, instance) farebox_store_info{<node>, kind="postgres"})`, legend: "reached by Prometheus"},
		},
		styles: map[string]style{"reached by Prometheus": {color: gray, dashed: true}},
	},
	{
		title: "Connections", shape: lines, width: 8, height: 8, unit: whole, stacked: true,
		description: "Connections of all nodes to PostgreSQL, by use, without those that write charges (four at most for each node). The dashed line is the sum of the nodes' limits.",
		queries: []query{
			{expr: `sum by (state) (farebox_store_connections{<node>})`, legend: "{{state}}"},
			{expr: `sum(farebox_store_connections_limit{<node>})`, legend: "limit"},
		},
		styles: map[string]style{"in_use": {color: orange}, "idle": {color: blue}, "limit": {color: red, dashed: true}},
	},
	{
		title: "Waiting for a connection", shape: lines, width: 8, height: 8, unit: ratio,
		description: "Seconds that operations wait for a free connection, in each second. Above 100 % one operation is always waiting: the database is too slow for the load.",
		queries:     []query{{expr: `sum by (instance) (rate(farebox_store_connection_wait_seconds_total{<node>}[rate]))`, legend: "{{instance}}"}},
	},
}
