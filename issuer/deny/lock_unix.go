//go:build unix

package deny

import (
	"errors"
	"os"
	"syscall"
)

// lockedByAnother says whether somebody is editing a file; if not, nobody begins until it is
// closed. A file system without locks says no.
func lockedByAnother(f *os.File) bool {
	return errors.Is(syscall.Flock(int(f.Fd()), syscall.LOCK_SH|syscall.LOCK_NB), syscall.EWOULDBLOCK)
}
