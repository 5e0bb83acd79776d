//go:build !unix

package deny

import "os"

// lockedByAnother says whether somebody is editing a file.
func lockedByAnother(f *os.File) bool {
	_, err := os.Stat(f.Name() + ".lock") // which mcpbouncer deny makes there
	return err == nil
}
