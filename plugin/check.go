//go:build go1.21

package plugin

// Check says whether New would take a configuration, without making a middleware: nil, or the error
// that Traefik's log would have. It does no I/O. `mcpbouncer lint` asks it, so that lint and plugin
// cannot disagree.
func Check(config *Config) error {
	_, err := parseConfig(config)
	return err
}
