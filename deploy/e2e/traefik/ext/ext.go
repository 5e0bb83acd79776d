// Package ext stands for Traefik's pkg/config/dynamic/ext, a nested module that
// the zip of the traefik module leaves out.
package ext

// HTTP is Traefik's (empty) extension point of the HTTP configuration.
type HTTP struct{}

// Router is Traefik's (empty) extension point of a router.
type Router struct{}
