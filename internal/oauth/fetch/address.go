package fetch

import "net/netip"

// special lists the ranges that IANA's registries of special-purpose addresses mark as
// not globally reachable, and ranges that lead to other addresses: 6to4 and its relays,
// Teredo, and NAT64 (RFC 6890, RFC 6052, RFC 7526, RFC 9637).
var special = prefixes(
	"0.0.0.0/8",         // this network; Linux connects to itself
	"10.0.0.0/8",        // private
	"100.64.0.0/10",     // carrier-grade NAT, and the metadata service of one cloud
	"127.0.0.0/8",       // loopback
	"169.254.0.0/16",    // link-local, and the metadata services of clouds
	"172.16.0.0/12",     // private
	"192.0.0.0/24",      // protocol assignments
	"192.0.2.0/24",      // documentation
	"192.88.99.0/24",    // 6to4 relays
	"192.168.0.0/16",    // private
	"198.18.0.0/15",     // benchmarks
	"198.51.100.0/24",   // documentation
	"203.0.113.0/24",    // documentation
	"224.0.0.0/4",       // multicast
	"240.0.0.0/4",       // reserved, and broadcast
	"2001::/23",         // protocol assignments, among them Teredo and ORCHID
	"2001:db8::/32",     // documentation
	"2002::/16",         // 6to4, with any IPv4 address inside
	"3fff::/20",         // documentation
	"2620:4f:8000::/48", // AS112
	"192.31.196.0/24",   // AS112
	"192.52.193.0/24",   // AMT
	"192.175.48.0/24",   // AS112
	"168.63.129.16/32",  // the host of virtual machines in one cloud
)

// unicast6 is the only range of IPv6 that has been allocated for global unicast. All
// other ranges, such as mapped IPv4 addresses, NAT64, link-local, site-local, unique
// local and multicast addresses, are outside it.
var unicast6 = netip.MustParsePrefix("2000::/3")

func prefixes(texts ...string) []netip.Prefix {
	var list []netip.Prefix
	for _, text := range texts {
		list = append(list, netip.MustParsePrefix(text))
	}
	return list
}

// Public reports whether an address is one of the public internet, so that a stranger
// may have requests sent to it. An address that contains another address, such as an
// IPv4-mapped one, is never public: the range of the inner address could change on the
// way.
func Public(a netip.Addr) bool {
	if !a.IsValid() || a.Zone() != "" || a.Is6() && !unicast6.Contains(a) {
		return false
	}
	for _, p := range special {
		if p.Contains(a) {
			return false
		}
	}
	return true
}
