package main

var money = board{
	uid:         "farebox-money",
	title:       "Farebox / Money",
	description: "What is earned and spent, by server and tool, and which calls are not paid. The books are in the ledger; these are counts of the gateways since their starts.",
	servers:     true, money: true,
	rows: []row{
		{"In the period shown", takings},
		{"Earned and spent", earned},
		{"Outcomes", outcomes},
		{"Refunds", refunds},
		{"Reservations and captures", charging},
	},
}

var takings = []panel{
	{
		title: "Charged ($currency)", shape: value, width: 4, height: 4, unit: number, decimals: digits(2),
		description: "The sum of all charges, in units of the currency. Later refunds are not taken off.",
		queries:     []query{{expr: `sum(increase(farebox_charged_amount_total{<money>}[range])) or vector(0)`, now: true}},
		below:       green,
	},
	{
		title: "Refunded ($currency)", shape: value, width: 4, height: 4, unit: number, decimals: digits(2),
		description: "The sum of all refunds, in units of the currency.",
		queries:     []query{{expr: `sum(increase(farebox_refunded_amount_total{<money>}[range])) or vector(0)`, now: true}},
		below:       blue,
	},
	{
		title: "Fees ($currency)", shape: value, width: 4, height: 4, unit: number, decimals: digits(2),
		description: "The operator's share of the charges, by the option fee.",
		queries:     []query{{expr: `sum(increase(farebox_fees_amount_total{<money>}[range])) or vector(0)`, now: true}},
		below:       blue,
	},
	{
		title: "Paid calls", shape: value, width: 3, height: 4, unit: whole, decimals: digits(0),
		description: "Calls that were charged. Calls under a free quota are not included.",
		queries:     []query{{expr: `sum(increase(farebox_charges_total{<money>, result="captured"}[range])) or vector(0)`, now: true}},
		below:       blue,
	},
	{
		title: "Refund rate", shape: value, width: 3, height: 4, unit: ratio, decimals: digits(2), empty: "no charges",
		description: "The refunded part of the charged amount. Refunds of older charges count too.",
		queries: []query{{expr: `(sum(increase(farebox_refunded_amount_total{<money>}[range])) or vector(0))
/ (sum(increase(farebox_charged_amount_total{<money>}[range])) > 0)`, now: true}},
		steps: []step{{0.02, yellow}, {0.05, red}},
	},
	{
		title: "Results withheld", shape: value, width: 3, height: 4, unit: whole, decimals: digits(0),
		description: "Results that were withheld because they could not be charged, live and test. The alert FareboxCapturesFailing fires from the first one on.",
		queries:     []query{{expr: `sum(increase(farebox_failures_total{<server>, code="CHARGE_FAILED"}[range])) or vector(0)`, now: true}},
		steps:       []step{{0.5, red}},
	},
	{
		title: "Refunds owed", shape: value, width: 3, height: 4, unit: whole,
		description: "Refunds that the store has not accepted yet. The gateways try again until it does.",
		queries:     []query{{expr: `sum(farebox_refunds_owed{<node>})`, now: true}},
		steps:       []step{{1, red}},
	},
}

var earned = []panel{
	{
		title: "Charged by server ($currency an hour)", shape: lines, width: 12, height: 8, unit: number, stacked: true,
		description: "The amount that callers are charged for each server, at the speed of an hour.",
		queries:     []query{{expr: `sum by (server) (rate(farebox_charged_amount_total{<money>}[rate])) * 3600`, legend: "{{server}}"}},
	},
	{
		title: "Top tools ($currency)", shape: bars, width: 12, height: 8, unit: number, decimals: digits(2),
		description: "The tools with the largest charged amount in the period that is shown. A tool is the entry of the price book that set the price.",
		queries:     []query{{expr: `topk(10, sum by (server, tool) (increase(farebox_charged_amount_total{<money>}[range])) > 0)`, legend: "{{server}}: {{tool}}", now: true}},
		below:       green,
	},
	{
		title: "Servers ($currency)", shape: table, width: 12, height: 8, unit: number,
		description: "For each server, in the period that is shown: charged by callers, the operator's fee in it, refunded, calls that were charged, and the average charge. The rest after fees belongs to the server's provider.",
		queries: []query{
			{expr: `sum by (server) (increase(farebox_charged_amount_total{<money>}[range]))`},
			{expr: `sum by (server) (increase(farebox_fees_amount_total{<money>}[range]))`},
			{expr: `sum by (server) (increase(farebox_refunded_amount_total{<money>}[range]))`},
			{expr: `sum by (server) (increase(farebox_charges_total{<money>, result="captured"}[range]))`},
			{expr: `sum by (server) (increase(farebox_charged_amount_total{<money>}[range])) / (sum by (server) (increase(farebox_charges_total{<money>, result="captured"}[range])) > 0)`},
		},
		columns: []column{
			{title: "Server", label: "server"},
			{title: "Charged", letter: "A", decimals: digits(2)}, {title: "Fees", letter: "B", decimals: digits(2)},
			{title: "Refunded", letter: "C", decimals: digits(2)}, {title: "Paid calls", letter: "D", unit: whole, decimals: digits(0)},
			{title: "Average", letter: "E", decimals: digits(4)},
		},
		sort: "Charged",
	},
	{
		title: "Tools ($currency)", shape: table, width: 12, height: 8, unit: number,
		description: "For each tool, in the period that is shown: the charged amount, calls that were charged, calls under a free quota, calls without a charge because they had no result, and the average charge.",
		queries: []query{
			{expr: `sum by (server, tool) (increase(farebox_charged_amount_total{<money>}[range]))`},
			{expr: `sum by (server, tool) (increase(farebox_charges_total{<money>, result="captured"}[range]))`},
			{expr: `sum by (server, tool) (increase(farebox_charges_total{<money>, result="waived"}[range]))`},
			{expr: `sum by (server, tool) (increase(farebox_charges_total{<money>, result="released"}[range]))`},
			{expr: `sum by (server, tool) (increase(farebox_charged_amount_total{<money>}[range])) / (sum by (server, tool) (increase(farebox_charges_total{<money>, result="captured"}[range])) > 0)`},
		},
		columns: []column{
			{title: "Server", label: "server"}, {title: "Tool", label: "tool"},
			{title: "Charged", letter: "A", decimals: digits(2)}, {title: "Paid calls", letter: "B", unit: whole, decimals: digits(0)},
			{title: "Free by quota", letter: "C", unit: whole, decimals: digits(0)}, {title: "No result", letter: "D", unit: whole, decimals: digits(0)},
			{title: "Average", letter: "E", decimals: digits(4)},
		},
		sort: "Charged",
	},
}

var outcomes = []panel{
	{
		title: "Paid calls by result", shape: lines, width: 12, height: 8, unit: operations, stacked: true,
		description: "Calls with a price, by their end. captured: charged; waived: free by a quota; released: no result, so no charge; refunded: charged and then not delivered; replayed: sent again, the first result for free; suspended: broken off, can be resumed; failed: the capture failed, the result was withheld.",
		queries:     []query{{expr: `sum by (result) (rate(farebox_charges_total{<money>}[rate]))`, legend: "{{result}}"}},
		styles: map[string]style{
			"captured": {color: green}, "waived": {color: blue}, "released": {color: yellow}, "refunded": {color: orange},
			"replayed": {color: purple}, "suspended": {color: gray}, "failed": {color: red},
		},
	},
	{
		title: "Refusals for money", shape: lines, width: 12, height: 8, unit: perSecond, stacked: true,
		description: "Refused requests a second, by reason. INSUFFICIENT_BALANCE: not enough credits; SPENDING_CAP: a cap of a key, an account or a server; PRICE_ABOVE_MAX: the caller's own limit for the call.",
		queries: []query{{expr: `sum by (decision) (rate(farebox_requests_total{<server>, decision=~"INSUFFICIENT_BALANCE|SPENDING_CAP|PRICE_ABOVE_MAX"}[rate]))`,
			legend: "{{decision}}"}},
		styles: map[string]style{"INSUFFICIENT_BALANCE": {color: orange}, "SPENDING_CAP": {color: yellow}, "PRICE_ABOVE_MAX": {color: blue}},
	},
	{
		title: "Caps nearly spent", shape: bars, width: 8, height: 6, unit: number, decimals: digits(0), empty: "none",
		description: "Spending caps of which 80 % were spent, in the period that is shown, by holder and period of the cap.",
		queries:     []query{{expr: `sum by (holder, period) (increase(farebox_caps_near_total{<node>}[range])) > 0`, legend: "{{holder}}, {{period}}", now: true}},
		below:       yellow,
	},
	{
		title: "Results that charge_if could not judge", shape: lines, width: 8, height: 6, unit: operations,
		description: "Such results are charged. Review them, and correct the expression of the tool.",
		queries:     []query{{expr: `sum by (server, tool) (rate(farebox_charge_if_errors_total{<server>}[rate]))`, legend: "{{server}}: {{tool}}"}},
	},
	{
		title: "Receipts signed", shape: lines, width: 8, height: 6, unit: operations,
		description: "Receipts a second. Each charged result has one, unless it is longer than 1 MiB.",
		queries:     []query{{expr: `sum(rate(farebox_receipts_signed_total{<node>}[rate]))`, legend: "receipts"}},
		styles:      map[string]style{"receipts": {color: blue}},
	},
}

var refunds = []panel{
	{
		title: "Refunds by reason (an hour)", shape: lines, width: 8, height: 8, unit: number, stacked: true,
		description: "Refunds an hour. undelivered: a charged result did not reach its caller; operator: by a command or the API.",
		queries:     []query{{expr: `sum by (reason) (rate(farebox_refunds_total{<money>}[rate])) * 3600`, legend: "{{reason}}"}},
		styles:      map[string]style{"undelivered": {color: orange}, "operator": {color: blue}},
	},
	{
		title: "Refunded by server ($currency an hour)", shape: lines, width: 8, height: 8, unit: number, stacked: true,
		description: "The refunded amount of each server, at the speed of an hour.",
		queries:     []query{{expr: `sum by (server) (rate(farebox_refunded_amount_total{<money>}[rate])) * 3600`, legend: "{{server}}"}},
	},
	{
		title: "Refund rate by server", shape: lines, width: 8, height: 8, unit: ratio,
		description: "The refunded part of the charged amount in the last hour. The alert FareboxRefundsJump watches the number of refunds.",
		queries: []query{{expr: `sum by (server) (increase(farebox_refunded_amount_total{<money>}[1h]))
/ (sum by (server) (increase(farebox_charged_amount_total{<money>}[1h])) > 0)`, legend: "{{server}}"}},
		steps: []step{{0.05, red}},
	},
}

var charging = []panel{
	{
		title: "Open reservations", shape: lines, width: 8, height: 8, unit: whole,
		description: "Reservations of calls that run now. They follow the calls in flight; if they grow alone, results do not arrive.",
		queries:     []query{{expr: `sum by (instance) (farebox_reservations_open{<node>})`, legend: "{{instance}}"}},
	},
	{
		title: "Time of a reservation", shape: lines, width: 8, height: 8, unit: seconds,
		description: "How long calls wait for their reservation, before they are forwarded.",
		queries:     quantiles("farebox_reserve_seconds", "<node>"), styles: quantileStyles,
	},
	{
		title: "Time of a capture", shape: lines, width: 8, height: 8, unit: seconds,
		description: "How long results wait until their charge is on the disk, before they are delivered.",
		queries:     quantiles("farebox_capture_seconds", "<node>"), styles: quantileStyles,
	},
}
