package clientdoc

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
)

// Addresses that a URL from a stranger must not make this server speak to: RFC 6890 special-use,
// multicast and reserved. net/netip's own predicates miss most of them.
var specialUse4 = ranges{texts: []string{
	"0.0.0.0/8",        // this network
	"10.0.0.0/8",       // private
	"100.64.0.0/10",    // carrier-grade NAT; also the metadata service of some clouds
	"127.0.0.0/8",      // loopback
	"168.63.129.16/32", // Azure's platform service, at an address that looks like any other
	"169.254.0.0/16",   // link-local, the metadata service of most clouds
	"172.16.0.0/12",    // private
	"192.0.0.0/24",     // IETF protocol assignments
	"192.0.2.0/24",     // documentation
	"192.31.196.0/24",  // AS112: the nearest of many, which may be a machine of this network
	"192.52.193.0/24",  // relays for multicast (AMT)
	"192.88.99.0/24",   // 6to4 relays
	"192.168.0.0/16",   // private
	"192.175.48.0/24",  // AS112
	"198.18.0.0/15",    // benchmarks
	"198.51.100.0/24",  // documentation
	"203.0.113.0/24",   // documentation
	"224.0.0.0/4",      // multicast
	"240.0.0.0/4",      // reserved, broadcast
}}

// Of IPv6 only global unicast is let through, without the ranges in it that lead elsewhere.
var (
	globalUnicast6 = ranges{texts: []string{"2000::/3"}}
	specialUse6    = ranges{texts: []string{
		"2001::/23",         // IETF protocol assignments: Teredo, ORCHID, benchmarks, AMT, AS112
		"2001:db8::/32",     // documentation
		"2002::/16",         // 6to4, which embeds any IPv4 address
		"2620:4f:8000::/48", // AS112
		"3fff::/20",         // documentation
	}}
)

// ranges are read when the first address is judged: most starts on AWS Lambda judge none.
type ranges struct {
	texts []string
	once  sync.Once
	read  []netip.Prefix
}

func (r *ranges) contain(addr netip.Addr) bool {
	r.once.Do(func() {
		for _, text := range r.texts {
			r.read = append(r.read, netip.MustParsePrefix(text))
		}
	})
	return slices.ContainsFunc(r.read, func(p netip.Prefix) bool { return p.Contains(addr) })
}

var errSpecialUse = errors.New("the address is not a public one")

// CheckPublicAddress judges an address that is about to be dialled.
func CheckPublicAddress(addr netip.Addr) error {
	addr = addr.Unmap() // ::ffff:127.0.0.1 is 127.0.0.1
	if addr.Zone() != "" {
		return errSpecialUse
	}
	refused := &specialUse4
	if addr.Is6() {
		if !globalUnicast6.contain(addr) {
			// NAT64, unique local, site-local, link-local, IPv4-compatible, loopback
			return errSpecialUse
		}
		refused = &specialUse6
	}
	if refused.contain(addr) {
		return errSpecialUse
	}
	return nil
}
