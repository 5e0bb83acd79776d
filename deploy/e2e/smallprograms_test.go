//go:build !big

package e2e

// Without what bigprograms_test.go has.
const bigToo = false
