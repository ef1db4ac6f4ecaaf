package main

var nodes = board{
	uid:         "farebox-nodes",
	title:       "Farebox / Nodes",
	description: "Each gateway process: its version, load, memory, limits and clock.",
	rows: []row{
		{"Gateways", gateways},
		{"Load", load},
		{"Limits", limits},
		{"Process", process},
	},
}

var gateways = []panel{
	{
		title: "Gateways", shape: table, width: 24, height: 6, unit: number,
		description: "One line for each gateway that is chosen above. Version and start come from the process, the rest from its last scrape.",
		queries: []query{
			{expr: `max by (instance, version) (farebox_build_info{<node>})`},
			{expr: `max by (instance) (up{<node>})`},
			{expr: `min by (instance) (farebox_store_up{<node>})`},
			{expr: `time() - max by (instance) (process_start_time_seconds{<node>})`},
			{expr: `min by (instance) (caddy_config_last_reload_successful{<node>})`},
			{expr: `sum by (instance) (rate(farebox_requests_total{<node>}[rate]))`},
			{expr: `max by (instance) (farebox_calls_in_flight{<node>})`},
			{expr: `sum by (instance) (rate(process_cpu_seconds_total{<node>}[rate]))`},
			{expr: `max by (instance) (process_resident_memory_bytes{<node>})`},
		},
		columns: []column{
			{title: "Node", label: "instance"}, {title: "Version", label: "version"},
			{title: "Answers", letter: "B", texts: upOrDown},
			{title: "Store", letter: "C", texts: upOrDown},
			{title: "Runs for", letter: "D", unit: seconds},
			{title: "Last config load", letter: "E", texts: map[string]style{"1": {color: green, text: "good"}, "0": {color: red, text: "FAILED"}}},
			{title: "Requests", letter: "F", unit: perSecond},
			{title: "Calls in flight", letter: "G", unit: whole},
			{title: "CPU", letter: "H", unit: ratio, steps: []step{{0.8, yellow}}},
			{title: "Memory", letter: "I", unit: octets},
		},
	},
}

var load = []panel{
	{
		title: "Requests by node", shape: lines, width: 8, height: 8, unit: perSecond, stacked: true,
		description: "Requests a second at each gateway. Behind a load balancer they should be about equal.",
		queries:     []query{{expr: `sum by (instance) (rate(farebox_requests_total{<node>}[rate]))`, legend: "{{instance}}"}},
	},
	{
		title: "CPU by node", shape: lines, width: 8, height: 8, unit: ratio,
		description: "Processor time of the process; 100 % is one processor.",
		queries:     []query{{expr: `sum by (instance) (rate(process_cpu_seconds_total{<node>}[rate]))`, legend: "{{instance}}"}},
	},
	{
		title: "Memory by node", shape: lines, width: 8, height: 8, unit: octets,
		description: "Resident memory of the process.",
		queries:     []query{{expr: `max by (instance) (process_resident_memory_bytes{<node>})`, legend: "{{instance}}"}},
	},
	{
		title: "Calls in flight by node", shape: lines, width: 8, height: 8, unit: whole,
		description: "Calls that each gateway is serving.",
		queries:     []query{{expr: `sum by (instance) (farebox_calls_in_flight{<node>})`, legend: "{{instance}}"}},
	},
	{
		title: "Open streams by node", shape: lines, width: 8, height: 8, unit: whole,
		description: "Event streams that clients hold open at each gateway.",
		queries:     []query{{expr: `sum by (instance) (farebox_streams_open{<node>})`, legend: "{{instance}}"}},
	},
	{
		title: "Time added by node (p99)", shape: lines, width: 8, height: 8, unit: seconds,
		description: "99 of 100 requests take at most this much longer because of the gateway. A node that is slower than the others has too little CPU or a slow connection to the store.",
		queries:     []query{{expr: `histogram_quantile(0.99, sum by (instance, le) (rate(farebox_overhead_seconds_bucket{<node>}[rate])))`, legend: "{{instance}}"}},
	},
}

var limits = []panel{
	{
		title: "Limits in use", shape: lines, width: 8, height: 8, unit: ratio, full: 1,
		description: "How much of each limit is used. Above 80 % the alert FareboxShareNearlyUsed fires. The page about limits explains them.",
		queries:     []query{{expr: `max by (instance, of) (farebox_share_used{<node>} / (farebox_share_limit{<node>} > 0))`, legend: "{{instance}} {{of}}"}},
		steps:       []step{{0.8, red}},
	},
	{
		title: "Refused by a limit", shape: lines, width: 8, height: 8, unit: operations,
		description: "Claims on a limit that were refused or cut, a second.",
		queries:     []query{{expr: `sum by (instance, of) (rate(farebox_refused_by_share_total{<node>}[rate]))`, legend: "{{instance}} {{of}}"}},
	},
	{
		title: "Held back", shape: lines, width: 8, height: 8, unit: octets,
		description: "Bytes of requests and of results that wait for their capture.",
		queries:     []query{{expr: `sum by (instance) (farebox_held_bytes{<node>})`, legend: "{{instance}}"}},
	},
}

var process = []panel{
	{
		title: "Goroutines", shape: lines, width: 6, height: 8, unit: number,
		description: "Goroutines of the process. They follow the calls and streams; growth without them is a fault.",
		queries:     []query{{expr: `sum by (instance) (go_goroutines{<node>})`, legend: "{{instance}}"}},
	},
	{
		title: "Open files", shape: lines, width: 6, height: 8, unit: ratio, full: 1,
		description: "File descriptors in use, of those that the system allows the process. Each connection needs one.",
		queries:     []query{{expr: `max by (instance) (process_open_fds{<node>} / process_max_fds{<node>})`, legend: "{{instance}}"}},
		steps:       []step{{0.8, red}},
	},
	{
		title: "Config loads", shape: lines, width: 6, height: 8, unit: whole,
		description: "Configs that were loaded since the start of the process, by result. A reload that fails keeps the old config in service.",
		queries:     []query{{expr: `sum by (instance, result) (farebox_config_loads_total{<node>})`, legend: "{{instance}} {{result}}"}},
	},
	{
		title: "Clock", shape: lines, width: 6, height: 8, unit: seconds, free: true,
		description: "How far the clock was set forward or back since the start of the process. A jump by more than a second fires the alert FareboxClockStepped.",
		queries:     []query{{expr: `max by (instance) (farebox_clock_offset_seconds{<node>})`, legend: "{{instance}}"}},
	},
}
