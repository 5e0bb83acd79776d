// Package sigv4 stands for the package of this name: Prometheus names its type where a server is
// to be written to with keys of AWS, and is built here without all that would write.
package sigv4

// SigV4Config is what a configuration says, which is refused elsewhere.
type SigV4Config struct{}
