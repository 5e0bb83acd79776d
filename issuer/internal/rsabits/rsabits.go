// Package rsabits says which RSA keys are used to verify signatures, of clients and of providers.
// It does not say which algorithms are.
package rsabits

import "crypto/rsa"

const (
	// Min is the length that RFC 7518 §3.3 demands, in bits.
	Min = 2048
	// Max bounds what a signature costs to check, in bits. go-jose has a limit of its own, but any
	// package can change it.
	Max = 4096
)

// IsShort says whether a key is an *rsa.PublicKey of fewer than Min bits. Other keys are not.
func IsShort(key any) bool {
	public, ok := key.(*rsa.PublicKey)
	return ok && public.N.BitLen() < Min
}

// IsLong says whether a key is an *rsa.PublicKey of more than Max bits. Other keys are not.
func IsLong(key any) bool {
	public, ok := key.(*rsa.PublicKey)
	return ok && public.N.BitLen() > Max
}
