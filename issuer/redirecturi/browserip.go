package redirecturi

import (
	"encoding/binary"
	"net/netip"
	"strconv"
	"strings"
)

// BrowserIP returns the IP address that a browser connects to for a host of a URL, however it is
// spelt: browsers also read 1572395042, 0x5db8d822 and 0135.270.330.042 (WHATWG URL, "host
// parsing"), and whoever compares texts does not see that they are one address. An IPv4-mapped IPv6
// address counts as the IPv4 address that packets go to. host has no port; square brackets are
// allowed. isIP is true with an invalid address for what browsers refuse because it ends like an
// IPv4 address.
func BrowserIP(host string) (ip netip.Addr, isIP bool) {
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.Contains(host, ":") {
		ip, err := netip.ParseAddr(host)
		if err != nil || ip.Zone() != "" {
			return netip.Addr{}, true
		}
		return ip.Unmap(), true
	}
	host = strings.TrimSuffix(host, ".")
	last := host[strings.LastIndexByte(host, '.')+1:]
	if last == "" || last[0] < '0' || last[0] > '9' {
		return netip.Addr{}, false // a name
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return ip, true // as everybody spells it
	}
	if _, ok := browserNumber(last); !ok && strings.Trim(last, "0123456789") != "" {
		return netip.Addr{}, false
	}
	parts := strings.Split(host, ".")
	var address uint64
	for i, part := range parts {
		n, ok := browserNumber(part)
		bits := 8 // of each part, and the last has the rest
		if i == len(parts)-1 {
			bits = 8 * (4 - i)
		}
		if !ok || len(parts) > 4 || n >= 1<<bits {
			return netip.Addr{}, true
		}
		address = address<<bits | n
	}
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, uint32(address)))), true
}

// browserNumber reads a part of an IPv4 address as browsers do: hexadecimal after 0x, octal after
// 0.
func browserNumber(part string) (uint64, bool) {
	base := 10
	switch {
	case len(part) > 1 && (part[:2] == "0x" || part[:2] == "0X"):
		part, base = part[2:], 16
		if part == "" {
			return 0, true
		}
	case len(part) > 1 && part[0] == '0':
		part, base = part[1:], 8
	}
	n, err := strconv.ParseUint(part, base, 64)
	return n, err == nil
}
